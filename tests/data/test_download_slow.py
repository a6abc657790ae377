"""A server that sends for ever, too much or next to nothing does not keep a download."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from captioning.data import download
from captioning.errors import DownloadError

CONTENT = bytes(range(256)) * 4
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Endless(BaseHTTPRequestHandler):
    """Sends the content, and then zeros, without saying how much that is."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            for part in self.server.parts():
                self.wfile.write(part)
                self.server.sent += len(part)
        except OSError:  # the client has left
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "WAITS", (0.0,))
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads, server.sent = True, 0
        server.url = f"http://127.0.0.1:{server.server_port}/file.bin"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def endless():
    yield CONTENT
    for _ in range(1000):
        yield bytes(1 << 20)


def drip():
    while True:
        yield b"a"
        time.sleep(0.02)


def test_what_comes_after_the_known_size_is_not_written(server, tmp_path):
    server.parts = endless
    path = download.fetch(server.url, tmp_path / "file.bin", size=len(CONTENT), checksum=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.sent < 100 << 20
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_of_an_unknown_size_not_more_than_any_file_of_ours_has_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 1 << 20)
    server.parts = endless
    with pytest.raises(DownloadError, match="sent more than 1,048,576 bytes"):
        download.fetch(server.url, tmp_path / "file.bin")
    assert (tmp_path / "file.bin.part").stat().st_size == 1 << 20


@pytest.mark.parametrize("minute", [0.2, 60])
def test_a_drip_ends(server, tmp_path, monkeypatch, minute):
    monkeypatch.setattr(download, "MINUTE", minute)
    server.parts = drip if minute < 1 else lambda: iter([b"a"])  # each answer one byte, and the next one another
    start = time.monotonic()
    with pytest.raises(DownloadError, match="less than 1,000 bytes a second" if minute < 1 else "broke after 1 of"):
        download.fetch(server.url, tmp_path / "file.bin", size=len(CONTENT))
    assert time.monotonic() - start < 10
