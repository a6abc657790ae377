"""Bodies that are too long, too slow or cut off are refused, hold nothing back, and disturb nobody else."""

import socket
import time

import pytest

from captioning.serving import gate
from tests.serving.service import asked, lines, listening, sent

HEAD = b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
CHUNK = b"100000\r\n" + bytes(2**20) + b"\r\n"


@pytest.fixture(scope="module")
def served(box, tmp_path_factory):
    """A client of a service that is also on a port, where clients may break off."""
    with asked(box, tmp_path_factory.mktemp("gate")) as client, listening(client) as client.place:
        yield client


def answered(place, *parts, pause=0.0):
    """What the service says to these bytes, with pauses between them."""
    with socket.create_connection(place[:2], timeout=20) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        return connection.recv(1000)


def test_a_body_that_says_that_it_is_too_long_is_refused_unread(served):
    began = time.monotonic()
    assert b" 413 " in answered(served.place, HEAD + b"Content-Length: 104857600\r\n\r\n")
    assert time.monotonic() - began < 2


def test_a_body_that_does_not_say_so_is_refused_when_it_is(served, monkeypatch):
    monkeypatch.setattr(gate, "BODY", 4 * 2**20)
    first = b"%x\r\n%s\r\n" % (len(PART), PART)
    assert b" 413 " in answered(served.place, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", first, *[CHUNK] * 6)
    assert served.post("/v1/captions", files=sent(1)).status_code == 200


def test_all_bodies_together_have_so_much_room(served, monkeypatch):
    monkeypatch.setattr(gate, "ROOM", 300)
    found = served.post("/v1/captions", files=sent(1))
    assert (found.status_code, found.json()["code"], found.headers["retry-after"]) == (503, "busy", "1")


def test_a_slow_body_is_given_up(served, monkeypatch):
    monkeypatch.setattr(gate, "PATIENCE", 0.4)
    began = time.monotonic()
    found = answered(served.place, HEAD + b"Content-Length: 1000\r\n\r\n", PART, *[b"x"] * 8, pause=0.1)
    assert b" 408 " in found
    assert time.monotonic() - began < 5


def test_a_body_that_breaks_off_holds_nothing(served):
    before = len(lines(served))
    with socket.create_connection(served.place[:2]) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + PART + b"x" * 2**18)
        time.sleep(0.2)
    until = time.monotonic() + 10
    while len(lines(served)) == before and time.monotonic() < until:
        time.sleep(0.02)
    told = lines(served)[before]
    assert (told["status"], told["outcome"]) == (400, "gone")
    assert served.service.batcher.held == 0


def test_a_body_of_a_wrong_length_or_kind_is_refused(served):
    assert b" 400 " in answered(served.place, HEAD + b"Content-Length: -1\r\n\r\n")
    assert b" 400 " in answered(served.place, HEAD + b"Content-Length: 4\r\n\r\nabcd")
    assert b" 415 " in answered(served.place, HEAD.replace(b"multipart", b"mltprt") + b"Content-Length: 0\r\n\r\n")
    assert b" 400 " in answered(served.place, b"POST /v1/captions HTTP/1.1\r\n\r\n")
