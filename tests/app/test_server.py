"""Where the app is reached and by whom: addresses, passwords, the public link, the port; it starts and stops."""

import argparse
import contextlib
import io
import platform
import socket
import stat
import sys
import threading
import time

import httpx
import pytest

from captioning import cli
from captioning.app import server
from captioning.app.guard import API
from captioning.app.server import LEAST, Service
from captioning.errors import CaptioningError
from tests.app.page import USER, answering

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# What Gradio's frpc does, on this computer: listens at a port and sends what comes there to the app.
TUNNEL = """#!{python}
import socket, sys, threading
host, port = sys.argv[sys.argv.index("-i") + 1], int(sys.argv[sys.argv.index("-l") + 1])
door = socket.create_server(("127.0.0.1", 0))
print("start proxy success: http://127.0.0.1:%d" % door.getsockname()[1], flush=True)

def hand_on(giver, taker):
    while data := giver.recv(65536):
        taker.sendall(data)
    taker.shutdown(socket.SHUT_WR)

while True:
    visitor, app = door.accept()[0], socket.create_connection((host, port))
    for pair in ((visitor, app), (app, visitor)):
        threading.Thread(target=hand_on, args=pair, daemon=True).start()
"""


def flags(host=None, port=None, share=False, auth=""):
    return argparse.Namespace(host=host, port=port, share=share, auth=auth)


def test_flags_come_before_the_environment_and_that_before_the_defaults(monkeypatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    assert Service.asked(flags()) == Service("127.0.0.1", 7860)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8080")
    assert Service.asked(flags()) == Service("0.0.0.0", 8080)
    assert Service.asked(flags()).is_public
    assert Service.asked(flags("127.0.0.1", 0)) == Service("127.0.0.1", 0)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "eighty")
    assert Service.asked(flags(port=80)).port == 80
    with pytest.raises(CaptioningError, match="GRADIO_SERVER_PORT is 'eighty'"):
        Service.asked(flags())


def test_a_page_for_others_is_never_without_a_password():
    assert Service().credentials() is None
    for service in (Service(share=True), Service(host="0.0.0.0")):
        assert service.is_public
        assert len(service.credentials()[1]) >= 16
        assert service.credentials() != service.credentials()


def test_a_password_that_is_chosen_is_long_enough():
    assert Service(auth="ada:love:lace-1815").credentials() == ("ada", "love:lace-1815")
    for auth in ("ada", "ada:", ":lovelace-1815", f"ada:{'a' * (LEAST - 1)}"):
        with pytest.raises(CaptioningError, match=f"at least {LEAST} characters") as refused:
            Service(auth=auth).credentials()
        proposed = str(refused.value).split()[-1].removesuffix(".")
        assert Service(auth=proposed).credentials()


def test_the_greeting_says_where_others_reach_the_page(monkeypatch):
    monkeypatch.setattr(server, "own_address", lambda: "192.168.1.5")
    assert "192.168" not in server.greeting(Service(), None, None)
    said = server.greeting(Service("0.0.0.0", 7861), None, ("guest", "secret"))
    assert "http://localhost:7861," in said
    assert "http://192.168.1.5:7861." in said
    assert "http://[2001:db8::7]:7860," in server.greeting(Service("2001:db8::7"), None, ("guest", "secret"))
    assert "could not be reached" in server.greeting(Service(share=True), None, ("guest", "secret"))
    assert "secret" in server.greeting(Service(share=True), "https://x.example", ("guest", "secret"))
    assert "secret" not in server.greeting(Service(auth="ada:secret"), None, ("ada", "secret"))


def test_the_address_of_this_computer_is_one_of_its_own():
    address = server.own_address()
    if address != socket.gethostname():
        socket.create_server((address, 0)).close()


def test_a_port_is_taken_at_once():
    with server.open_port(Service(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CaptioningError, match="choose another --port"), server.open_port(Service(port=port)):
            pass


def test_mistakes_end_in_one_sentence(tmp_path, saved, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, says in (
            (["--artifacts", tmp_path], "make train"),
            (["--bundle", saved, "--port", taken.getsockname()[1]], "choose another --port"),
            (["--bundle", saved, "--port", 99999], "choose another --port"),
            (["--bundle", saved, "--auth", "ada:lovelace"], "at least 12 characters"),
        ):
            assert cli.main(["app", *(str(argument) for argument in arguments)]) == 2
            out, err = capsys.readouterr()
            assert says in err
            assert (out, len(err.splitlines())) == ("", 1)


@pytest.fixture
def tunnel(tmp_path, monkeypatch):
    """A tunnel of our own in the place of Gradio's."""
    from gradio import networking, tunneling

    binary = tmp_path / "frpc"
    binary.write_text(TUNNEL.format(python=sys.executable))
    binary.chmod(binary.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(tunneling, "BINARY_PATH", str(binary))
    monkeypatch.setattr(networking, "GRADIO_SHARE_SERVER_ADDRESS", "127.0.0.1:1")
    yield
    for one in tunneling.CURRENT_TUNNELS:
        one.proc.kill()
        one.proc.communicate()
        one.proc = None
    tunneling.CURRENT_TUNNELS.clear()


@pytest.mark.skipif(platform.system() == "Windows", reason="a script is no program there")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_public_link_leads_to_the_login_and_with_the_password_to_the_page(tmp_path, monkeypatch, tunnel, host):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with answering(tmp_path, has_password=True) as page:
        link = server.public_link(Service(host, page.base_url.port, share=True))
        assert link.startswith("https://127.0.0.1:")
        assert not link.endswith(f":{page.base_url.port}")
        named = {"host": "x.gradio.live", "x-forwarded-proto": "https"}
        with httpx.Client(base_url=link.replace("https", "http"), headers=named, timeout=60) as visitor:
            assert "Secret." not in visitor.get("/").text
            assert visitor.get(f"{API}/info").status_code == 401
            assert visitor.get(f"{API}/user").status_code == 404
            token = visitor.post("/login", data=USER).cookies.popitem()
            visitor.headers["cookie"] = "=".join(token)
            assert "Secret." in visitor.get("/").text
            assert "https://x.gradio.live" in visitor.get("/config").json()["root"]
            assert visitor.post(
                f"{API}/queue/join", json={}, headers={"origin": "https://x.gradio.live"}
            ).is_client_error
            event = visitor.post(f"{API}/call/turn", json={"data": ["abc"]}).json()["event_id"]
            assert '"cba"' in visitor.get(f"{API}/call/turn/{event}").text


def test_without_a_tunnel_there_is_no_link(monkeypatch):
    from gradio import networking

    def refuse(*_):
        raise RuntimeError("Could not get share link from Gradio API Server.")

    monkeypatch.setattr(networking, "setup_tunnel", refuse)
    assert server.public_link(Service(share=True)) is None


def test_it_stops_while_somebody_watches(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    has_begun, has_ended = threading.Event(), threading.Event()

    def watch(address):
        with contextlib.suppress(httpx.HTTPError), httpx.stream("GET", f"{address}{API}/heartbeat/a") as answer:
            for _ in answer.iter_bytes():
                has_begun.set()
        has_ended.set()

    with contextlib.redirect_stderr(io.StringIO()) as said, answering(tmp_path) as page:
        threading.Thread(target=watch, args=(str(page.base_url).rstrip("/"),)).start()
        assert has_begun.wait(30)
        began = time.monotonic()
    assert time.monotonic() - began < server.STOPPING
    assert has_ended.wait(10)
    assert said.getvalue() == ""
