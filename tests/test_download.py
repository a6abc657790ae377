"""Downloads are whole or absent and archives stay in their folder, whatever the server says."""

import errno
import hashlib
import itertools
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest

from captioning import download
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
        self.wfile.write(body)
        server.sent += len(body)
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


def test_whole_file(server, target):
    assert download.fetch(server.url, target, checksum=SHA256, size=len(CONTENT)) == target
    assert target.read_bytes() == CONTENT
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
    with pytest.raises(DownloadError, match=f"{fault}.*delete it and run again"):
        download.fetch(server.url, target, **checks)
    assert target.read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("checked", [True, False])
def test_twenty_cuts_in_a_row(server, target, checked):
    server.cuts = iter(range(0, len(CONTENT), len(CONTENT) // 20))
    download.fetch(server.url, target, checksum=SHA256 if checked else "")
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)  # nothing came twice


@pytest.mark.parametrize("share", np.linspace(0, 1, 20))
def test_a_cut_run_leaves_no_file_and_the_next_goes_on(server, target, share):
    at = int(share * (len(CONTENT) - 1))
    server.cuts = itertools.repeat(at)
    with pytest.raises(DownloadError, match="connection broke after"):
        download.fetch(server.url, target, checksum=SHA256)
    assert not target.exists()
    server.cuts = iter(())
    before = server.sent
    download.fetch(server.url, target, checksum=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.sent - before == len(CONTENT) - at


def test_a_killed_run_goes_on(server, target):
    server.cuts = iter([150_000])
    server.hang.clear()
    code = (
        "import sys, pathlib; from captioning import download; download.fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url, target])
    part = target.with_name("file.bin.part")
    deadline = time.monotonic() + 10
    while (not part.exists() or part.stat().st_size < 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.hang.set()
    assert left(target) == ["file.bin.part", "file.bin.part.note"]
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert "Range" in server.asked[-1]


def test_killed_between_the_last_byte_and_the_rename(server, target, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        download.fetch(server.url, target)
    monkeypatch.undo()
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_server_without_ranges_starts_over(server, target):
    server.ranges = False
    server.cuts = iter([50_000, 150_000])
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_server_without_a_name_for_the_version_starts_over(server, target):
    server.tag = 'W/"one"'
    server.cuts = iter([50_000])
    download.fetch(server.url, target)
    assert "Range" not in server.asked[-1]
    assert target.read_bytes() == CONTENT


def cut_then_change(server, target, content=CONTENT[::-1]):
    server.cuts = itertools.repeat(120_000)
    with pytest.raises(DownloadError):
        download.fetch(server.url, target)
    server.cuts = iter(())
    server.content, server.tag = content, '"two"'


def test_a_file_that_changed_between_the_parts(server, target):
    cut_then_change(server, target)
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_changed_file_whose_server_ignores_if_range(server, target, monkeypatch):
    cut_then_change(server, target)
    monkeypatch.setattr(Handler, "resumed_at", lambda self: 120_000 if self.headers.get("Range") else 0)
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_file_that_became_shorter(server, target):
    cut_then_change(server, target, content=CONTENT[:1000])
    server.statuses = iter([416])
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT[:1000]


def test_a_server_that_goes_on_elsewhere(server, target):
    server.cuts = itertools.repeat(120_000)
    with pytest.raises(DownloadError):
        download.fetch(server.url, target)
    server.cuts, server.answer_with = iter(()), {"Content-Range": "bytes 5-9/10"}
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_final_answers_are_not_repeated(server, target, status):
    server.statuses = itertools.repeat(status)
    with pytest.raises(
        DownloadError, match=f"{server.url} could not be fetched .*{status}.* save it by hand as {target}"
    ):
        download.fetch(server.url, target)
    assert len(server.asked) == 1
    assert left(target) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_faults_pass(server, target, status):
    server.statuses = iter([status])
    assert download.fetch(server.url, target, checksum=SHA256).exists()


def test_patience_ends(server, target):
    server.statuses = itertools.repeat(503)
    with pytest.raises(DownloadError, match="503"):
        download.fetch(server.url, target)
    assert len(server.asked) == 1 + len(download.WAITS)


def test_a_server_that_stalls(server, target, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    server.cuts = itertools.repeat(90_000)
    server.hang.clear()
    with pytest.raises(DownloadError, match="stopped answering"):
        download.fetch(server.url, target)
    assert target.with_name("file.bin.part").stat().st_size == 90_000


def test_no_server(target, monkeypatch):
    monkeypatch.setattr(download, "WAITS", (0.0,))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
    with pytest.raises(DownloadError, match="refused"):
        download.fetch(url, target)


def test_no_network(target, monkeypatch):
    def offline(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(DownloadError, match=r"http://example\.org/a\.zip .*no network.*by hand"):
        download.fetch("http://example.org/a.zip", target)


def test_wrong_hash_is_deleted(server, target):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match="its sha256 is"):
        download.fetch(server.url, target, checksum=SHA256)
    assert left(target) == []


def test_wrong_size_is_refused_before_it_is_fetched(server, target):
    with pytest.raises(DownloadError, match="offers 200,000 bytes where 300,000 were expected"):
        download.fetch(server.url, target, size=300_000)
    assert left(target) == []


def test_md5(server, target):
    assert download.fetch(server.url, target, checksum="md5:" + hashlib.md5(CONTENT).hexdigest()).exists()


def test_a_web_page_is_refused(server, target):
    server.content, server.answer_with = b"<html>Please log in</html>", {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DownloadError, match="web page"):
        download.fetch(server.url, target)
    assert left(target) == []


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_no_zip_is_refused(server, target, announced):
    """Neither a page under another name nor a zip whose cut nobody announced."""
    server.announces_length = announced
    server.content = b"<html>Please log in</html>" if announced else zipped({"a.txt": CONTENT})[:-10]
    with pytest.raises(DownloadError, match="no whole zip archive"):
        download.fetch(server.url, target.with_suffix(".zip"))
    assert left(target) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(server, target):
    target.parent.mkdir()
    target.with_name("file.bin.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
        download.fetch(server.url, target)
    assert len(server.asked) == 1
    assert not target.exists()


def test_full_disk_while_unpacking(archive, tmp_path, monkeypatch):
    def full(source, target):
        target.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StorageError, match="No space left"):
        download.unpack(archive, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["archive.zip"]


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "archive.zip"
    path.write_bytes(zipped({"a.txt": "one", "deep/b.txt": "two", "empty/": ""}))
    return path


def test_unpack(archive, tmp_path):
    folder = download.unpack(archive, tmp_path / "new" / "folder")
    assert (folder / "a.txt").read_text() == "one"
    assert (folder / "deep" / "b.txt").read_text() == "two"


def test_unpack_chooses_and_places(archive, tmp_path):
    folder = download.unpack(archive, tmp_path / "f", members=lambda name: "c.txt" if "b" in name else None)
    assert [path.name for path in folder.iterdir()] == ["c.txt"]


def test_an_unpacked_folder_is_left_alone(archive, tmp_path):
    (tmp_path / "folder").mkdir()
    assert download.unpack(archive, tmp_path / "folder") == tmp_path / "folder"
    assert list((tmp_path / "folder").iterdir()) == []


HOSTILE = {
    "../out.txt": "leads out",
    "a/../../out.txt": "leads out",
    "/tmp/out.txt": "leads out",
    "..\\out.txt": "leads out",
    "C:/out.txt": "leads out",
    "..": "leads out",
    "n" * 300: "too long",
    "deep/" * 400 + "x": "too long",
    special("link", stat.S_IFLNK | 0o777): "neither file nor folder",
    special("device", stat.S_IFBLK): "neither file nor folder",
    special("pipe", stat.S_IFIFO): "neither file nor folder",
    "good.txt/inside": "file and folder at once",
    "bomb": "would become",
}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: str(getattr(name, "filename", name))[:20])
def test_hostile_archives_are_refused_whole(tmp_path, name):
    content = b"0" * 10_000_000 if name == "bomb" else "/etc/passwd"
    path = tmp_path / "archive.zip"
    path.write_bytes(zipped({"good.txt": "good", name: content}))
    with pytest.raises(DownloadError, match=f"not safe to unpack.*{HOSTILE[name]}"):
        download.unpack(path, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["archive.zip"]


@pytest.mark.parametrize(("field", "value", "fault"), [(8, 1, "is encrypted"), (10, 99, "is damaged")])
def test_unreadable_members(archive, tmp_path, field, value, fault):
    """Flags and compression method as the archive's directory gives them."""
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + field] = value
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match=fault):
        download.unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_the_total_is_capped(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_UNPACKED", 5)
    with pytest.raises(DownloadError, match="would become"):
        download.unpack(archive, tmp_path / "folder")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_cut_archives(archive, tmp_path, share):
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(DownloadError, match="is damaged"):
        download.unpack(archive, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["archive.zip"]


def test_a_flipped_byte_fails_its_crc(tmp_path):
    path = tmp_path / "archive.zip"
    path.write_bytes(zipped({"a": "first", "b": "second"}, zipfile.ZIP_STORED).replace(b"second", b"sacond"))
    with pytest.raises(DownloadError, match=r"is damaged.*CRC"):
        download.unpack(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_leftovers_of_a_killed_unpacking_do_not_count(archive, tmp_path):
    leftover = tmp_path / "folder.unpacking"
    leftover.mkdir()
    (leftover / "half.txt").write_text("ha")
    folder = download.unpack(archive, tmp_path / "folder")
    assert not (folder / "half.txt").exists()
    assert not leftover.exists()


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
def test_offline_says_what_to_do_in_one_sentence(tmp_path, monkeypatch, fetch):
    def offline(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
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
