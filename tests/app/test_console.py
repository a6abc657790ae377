"""What the terminal shows while the page is served: no forged line, nothing that people sent, not without end."""

import contextlib
import io
import logging
import sys
import threading
import traceback
from types import SimpleNamespace

import pytest

from captioning.app import console
from captioning.app.console import LINES, MORE, Console, guarded_output
from captioning.app.guard import API
from tests.app.page import answering

FORGED = "x\nFORGED The app is on http://evil.example\r\n\x1b[31m\u202e"


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextlib.contextmanager
def guarded():
    """The terminal, of which libraries only reach what guards it."""
    terminal = io.StringIO()
    with contextlib.redirect_stderr(terminal), guarded_output():
        yield terminal


def test_a_message_is_one_line_that_says_whose_it_is():
    with guarded() as terminal:
        print(f"id={FORGED}", "b")
        print("second", "line", file=sys.stderr)
    first, second = terminal.getvalue().splitlines()
    assert first.startswith("(server) id=x\\nFORGED The app")
    assert second == "(server) second line"
    assert terminal.getvalue().isascii()
    assert "\x1b" not in terminal.getvalue()


def test_a_message_that_ends_early_forges_no_line():
    with guarded() as terminal:
        print("a", f"{FORGED}\n", "The app is on fire")
    assert all(line.startswith("(server) ") for line in terminal.getvalue().splitlines())


def test_long_messages_are_cut():
    with guarded() as terminal:
        print("a" * 10**6)
        for _ in range(1000):
            sys.stdout.write("b" * 1000)
        print()
    assert [len(line) for line in terminal.getvalue().splitlines()] == [console.LONGEST + len("(server) ")] * 2


def test_a_failure_is_told_once_by_kind_and_place():
    kept = []  # else the second may take the place of the first in memory
    with guarded() as terminal:
        for number in range(2):
            try:
                raise ValueError(FORGED, number)
            except ValueError as error:
                kept.append(error)
                traceback.print_exc()
                print("more of it")
    lines = terminal.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["(server) ValueError at test_console.py"] * 2


def test_a_flood_is_cut_and_others_are_told_again_later(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with guarded() as terminal:
        for number in range(10 * LINES):
            print(number)
        assert terminal.getvalue().splitlines()[LINES:] == [MORE]
        now[0] += console.PERIOD
        print("later")
    assert terminal.getvalue().splitlines()[-1] == "(server) later"


def test_what_goes_wrong_in_a_thread_is_one_line(monkeypatch):
    def fail():
        raise ValueError(FORGED)

    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # not that of pytest
    with guarded() as terminal:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    (line,) = terminal.getvalue().splitlines()
    assert "ValueError at test_console.py" in line


def test_logged_failures_are_one_line():
    with guarded() as terminal:
        logging.getLogger("server").error("Exception in %s", FORGED, exc_info=ValueError(FORGED))
    (line,) = terminal.getvalue().splitlines()
    assert line.startswith("(server) Exception in x")


def test_bad_requests_print_one_short_line_at_most(tmp_path, monkeypatch):
    secret = "canary-7c1d"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with guarded() as terminal, answering(tmp_path) as page:
        assert isinstance(sys.stderr, Console)
        asked = [
            lambda: page.get(f"{API}/custom_component/html/client/component/x%0AFORGED"),
            lambda: page.get(f"{API}/custom_component/html/client/component/x%1b[31m"),
            lambda: page.post(f"{API}/call/v2/{secret}", json={}),
            lambda: page.post(f"{API}/call/v2/turn", json={secret: secret}),
            lambda: page.post(f"{API}/call/{secret}", json={"data": [secret]}),
            lambda: page.post(f"{API}/call/turn", json=[secret]),
            lambda: page.post(f"{API}/run/turn", json={"data": secret}),
            lambda: page.post(f"{API}/queue/join", json={"data": [], "fn_index": 99, "session_hash": secret}),
            lambda: page.post("/login", data={"username": secret}),
            lambda: page.post("/login", content=b"\xff" * 99),
            lambda: page.post(f"{API}/upload", data={"files": secret}),
            lambda: page.post(f"{API}/upload", content=b"\xff", headers={"content-type": "multipart/form-data"}),
            lambda: page.get(f"{API}/file={tmp_path}/{secret}%0AFORGED"),
            lambda: page.post(f"{API}/cancel", json={"session_hash": secret, "fn_index": 0, "event_id": secret}),
        ]
        for ask in asked:
            assert ask().status_code >= 200
        events = [("turn", []), ("fail", [secret]), ("picture", [secret])]
        for name, data in events:
            event = page.post(f"{API}/call/{name}", json={"data": data}).json()["event_id"]
            assert page.get(f"{API}/call/{name}/{event}").text.startswith("event: error")
    lines = terminal.getvalue().splitlines()
    assert 0 < len(lines) <= len(asked) + len(events), lines
    assert all(line.startswith("(server) ") and len(line) < 200 for line in lines), lines
    assert secret not in terminal.getvalue()
    assert "FORGED" not in terminal.getvalue()
