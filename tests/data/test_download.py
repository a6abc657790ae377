"""Downloads are whole or absent, whatever the server says."""

import hashlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest

from captioning.data import download
from captioning.errors import DownloadError, StorageError

CONTENT = np.random.default_rng(0).bytes(200_000)
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class LyingServer(ThreadingHTTPServer):
    """Serves `content`, spoilt as the test asks; keeps what was asked for and how many bytes went out."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"
        self.content, self.tag = CONTENT, '"one"'
        self.cuts = iter(())  # each request's body ends at this byte of the file
        self.statuses = iter(())  # each request's answer, 200 once they are used up
        self.answer_with = {}  # headers that replace the true ones
        self.ranges = self.announces_length = True
        self.hang = threading.Event()
        self.hang.set()
        self.asked, self.sent = [], 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(dict(self.headers))
        if (status := next(server.statuses, 200)) != 200:
            return self.send_error(status)
        start = self.resumed_at()
        headers = {"ETag": server.tag, "Content-Length": str(len(server.content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
        if not server.announces_length:
            del headers["Content-Length"]
        self.send_response(206 if start else 200)
        for name, value in (headers | server.answer_with).items():
            self.send_header(name, value)
        self.end_headers()
        body = server.content[start : next(server.cuts, None)]
        server.sent += len(body)  # before the client can have it all
        self.wfile.write(body)
        self.wfile.flush()
        server.hang.wait(10)

    def resumed_at(self):
        asked = self.headers.get("Range")
        if not asked or not self.server.ranges or self.headers.get("If-Range") not in (self.server.tag, None):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0))
    with LyingServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.hang.set()
        server.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "file.bin"


def left(target):
    """The names beside the target."""
    return sorted(path.name for path in target.parent.iterdir())


def assert_fetched(server, target, content=CONTENT, **checks):
    assert download.fetch(server.url, target, **checks) == target
    assert target.read_bytes() == content


def assert_refused(server, target, message, **checks):
    with pytest.raises(DownloadError, match=message):
        download.fetch(server.url, target, **checks)


def assert_refused_whole(server, target, message, **checks):
    assert_refused(server, target, message, **checks)
    assert left(target) == []


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_whole_file(server, target, algorithm):
    checksum = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    assert_fetched(server, target, checksum=checksum, size=len(CONTENT))
    assert left(target) == ["file.bin"]


def test_a_whole_file_is_not_fetched_again(server, target):
    for _ in range(2):
        download.fetch(server.url, target, checksum=SHA256)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("checks", "fault"), [({"checksum": SHA256}, "its sha256 is"), ({"size": len(CONTENT)}, "it has 4 bytes where")]
)
def test_a_foreign_file_is_refused_and_kept(server, target, checks, fault):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    assert_refused(server, target, f"{fault}.*delete it and run again", **checks)
    assert target.read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("checked", [True, False])
def test_twenty_cuts_in_a_row(server, target, checked):
    server.cuts = iter(range(0, len(CONTENT), len(CONTENT) // 20))
    assert_fetched(server, target, checksum=SHA256 if checked else "")
    assert server.sent == len(CONTENT)  # nothing came twice


@pytest.mark.parametrize("share", np.linspace(0, 1, 20))
def test_a_cut_run_leaves_no_file_and_the_next_goes_on(server, target, share):
    at = int(share * (len(CONTENT) - 1))
    server.cuts = itertools.repeat(at)
    assert_refused(server, target, "connection broke after", checksum=SHA256)
    assert not target.exists()
    server.cuts = iter(())
    before = server.sent
    assert_fetched(server, target, checksum=SHA256)
    assert server.sent - before == len(CONTENT) - at


def test_a_killed_run_goes_on(server, target):
    server.cuts = iter([150_000])
    server.hang.clear()
    code = (
        "import sys, pathlib; from captioning.data.download import fetch; fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url, target])
    part = target.with_name("file.bin.part")
    deadline = time.monotonic() + 10
    while (not part.exists() or part.stat().st_size < 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.hang.set()
    assert left(target) == [".lock", "file.bin.part", "file.bin.part.note"]
    assert_fetched(server, target)
    assert "Range" in server.asked[-1]
    assert left(target) == ["file.bin"]


def test_programs_at_the_same_time_fetch_once(server, target, capsys):
    server.hang.clear()
    server.cuts = iter([150_000])  # the first waits there, until the other has come
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(download.fetch, server.url, target, checksum=SHA256) for _ in range(2)]
        end, told = time.monotonic() + 10, ""
        while not told and time.monotonic() < end:
            time.sleep(0.01)
            told += capsys.readouterr().out
        server.hang.set()
        assert [job.result() for job in jobs] == [target, target]
    assert "Another program writes to" in told
    assert server.sent == len(CONTENT)
    assert left(target) == ["file.bin"]


def test_killed_between_the_last_byte_and_the_rename(server, target, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        download.fetch(server.url, target)
    monkeypatch.undo()
    assert_fetched(server, target)
    assert len(server.asked) == 1


def test_server_without_ranges_starts_over(server, target):
    server.ranges = False
    server.cuts = iter([50_000, 150_000])
    assert_fetched(server, target)


def test_server_without_a_name_for_the_version_starts_over(server, target):
    server.tag = 'W/"one"'
    server.cuts = iter([50_000])
    assert_fetched(server, target)
    assert "Range" not in server.asked[-1]


@pytest.fixture
def cut(server, target):
    """The server after it broke off at 120,000 bytes."""
    server.cuts = itertools.repeat(120_000)
    assert_refused(server, target, "connection broke")
    server.cuts = iter(())
    return server


def test_a_file_that_changed_between_the_parts(cut, target):
    cut.content, cut.tag = CONTENT[::-1], '"two"'
    assert_fetched(cut, target, CONTENT[::-1])


def test_a_changed_file_whose_server_ignores_if_range(cut, target, monkeypatch):
    cut.content, cut.tag = CONTENT[::-1], '"two"'
    monkeypatch.setattr(Handler, "resumed_at", lambda self: 120_000 if self.headers.get("Range") else 0)
    assert_fetched(cut, target, CONTENT[::-1])


def test_a_file_that_became_shorter(cut, target):
    cut.content, cut.tag, cut.statuses = CONTENT[:1000], '"two"', iter([416])
    assert_fetched(cut, target, CONTENT[:1000])


def test_a_server_that_goes_on_elsewhere(cut, target):
    cut.answer_with = {"Content-Range": "bytes 5-9/10"}
    assert_fetched(cut, target)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_final_answers_are_not_repeated(server, target, status):
    server.statuses = itertools.repeat(status)
    assert_refused_whole(server, target, f"{server.url} could not be fetched .*{status}.* save it by hand as {target}")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_faults_pass(server, target, status):
    server.statuses = iter([status])
    assert download.fetch(server.url, target, checksum=SHA256).exists()


def test_patience_ends(server, target):
    server.statuses = itertools.repeat(503)
    assert_refused(server, target, "503")
    assert len(server.asked) == 1 + len(download.WAITS)


def test_a_server_that_stalls(server, target, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    server.cuts = itertools.repeat(90_000)
    server.hang.clear()
    assert_refused(server, target, "stopped answering")
    assert target.with_name("file.bin.part").stat().st_size == 90_000


def test_no_server(target, monkeypatch):
    monkeypatch.setattr(download, "WAITS", (0.0,))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
    with pytest.raises(DownloadError, match="refused"):
        download.fetch(url, target)


@pytest.fixture
def offline(monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)


@pytest.mark.usefixtures("offline")
def test_no_network(target):
    with pytest.raises(DownloadError, match=r"http://example\.org/a\.zip .*no network.*by hand"):
        download.fetch("http://example.org/a.zip", target)


def test_wrong_hash_is_deleted(server, target):
    server.content = CONTENT[:-1] + b"?"
    assert_refused_whole(server, target, "its sha256 is", checksum=SHA256)


def test_wrong_size_is_refused_before_it_is_fetched(server, target):
    assert_refused_whole(server, target, "offers 200,000 bytes where 300,000 were expected", size=300_000)


def test_a_web_page_is_refused(server, target):
    server.content, server.answer_with = b"<html>Please log in</html>", {"Content-Type": "text/html; charset=utf-8"}
    assert_refused_whole(server, target, "web page")


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_no_zip_is_refused(server, target, announced):
    """Neither a page under another name nor a zip whose cut nobody announced."""
    server.announces_length = announced
    server.content = b"<html>Please log in</html>" if announced else zipped({"a.txt": CONTENT})[:-10]
    assert_refused_whole(server, target.with_suffix(".zip"), "no whole zip archive")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(server, target):
    target.parent.mkdir()
    target.with_name("file.bin.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
        download.fetch(server.url, target)
    assert len(server.asked) == 1
    assert not target.exists()


def zipped(members):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def flickr8k(server, monkeypatch):
    """A Flickr8k of one picture, served in the published layout."""
    texts = {name: name for name in [*download.FLICKR8K_FILES, "__MACOSX/._readme.txt"]}
    images = {"Flicker8k_Dataset/1.jpg": "picture", "__MACOSX/Flicker8k_Dataset/._1.jpg": "not one"}
    base = server.url.removesuffix("file.bin")
    for constant, name, members in [
        ("FLICKR8K_TEXTS", "Flickr8k_text.zip", texts),
        ("FLICKR8K_IMAGES", "Flickr8k_Dataset.zip", images),
    ]:
        content = zipped(members)
        monkeypatch.setattr(download, constant, (base + name, f"md5:{hashlib.md5(content).hexdigest()}", len(content)))
        monkeypatch.setattr(Handler, name, content, raising=False)
    true_get = Handler.do_GET

    def get(handler):
        server.content = getattr(Handler, handler.path.strip("/"))
        true_get(handler)

    monkeypatch.setattr(Handler, "do_GET", get)
    return server


def test_flickr8k_in_one_folder(flickr8k, tmp_path):
    folder = download.fetch_flickr8k(tmp_path / "flickr8k")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".zip"}
    assert names == {*download.FLICKR8K_FILES, "Images/1.jpg"}
    asked = len(flickr8k.asked)
    assert download.fetch_flickr8k(folder) == folder
    assert len(flickr8k.asked) == asked


def test_archives_put_there_by_hand_are_used(flickr8k, tmp_path):
    for url, _, _ in (download.FLICKR8K_TEXTS, download.FLICKR8K_IMAGES):
        name = url.rpartition("/")[2]
        (tmp_path / name).write_bytes(getattr(Handler, name))
    download.fetch_flickr8k(tmp_path)
    assert (tmp_path / "Images" / "1.jpg").read_text() == "picture"
    assert flickr8k.asked == []


@pytest.mark.parametrize("fetch", [download.fetch_flickr8k, download.fetch_glove])
@pytest.mark.usefixtures("offline")
def test_offline_says_what_to_do_in_one_sentence(tmp_path, fetch):
    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path)
    message = str(caught.value)
    assert all(part in message for part in ("https://", "no network", "by hand", str(tmp_path), "--dataset scenes"))
    assert message.count(". ") == 0
    assert list(tmp_path.iterdir()) == []


def test_published_archives():
    for url, checksum, _ in (download.FLICKR8K_TEXTS, download.FLICKR8K_IMAGES, download.GLOVE):
        algorithm, digits = checksum.split(":")
        assert url.startswith("https://")
        assert len(bytes.fromhex(digits)) == hashlib.new(algorithm).digest_size
