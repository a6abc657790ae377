"""What reaches the page: nobody without the password, no other page in a person's name, no more than has room."""

import asyncio
import logging
import os
import sys
import time

import gradio
import httpx
import pytest

from captioning.app import gradio_patches, guard, server
from captioning.app.guard import API, OPEN, OPEN_UNDER, QUESTION, UPLOAD, swept

ADA = {"username": "ada", "password": "lovelace"}
LOCAL, NAMED = "http://localhost:7860", "http://app.example"
JOIN = f"{API}/queue/join"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Gradio's own app behind the guard, without a server; asks it something."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    async def build(auth):  # in a loop that is closed again
        with gradio.Blocks(analytics_enabled=False) as page:
            gradio.Markdown("Secret.")
        page.auth, page.auth_message, page.max_file_size, page.theme_css = auth, None, 3 * 2**20, ""
        return gradio.routes.App.create_app(page, app_kwargs=dict(server.GUARD))

    class Served:
        def __init__(self, auth=None):
            self.app, self.base = asyncio.run(build(auth)), NAMED if auth else LOCAL

        def ask(self, method, path, base="", **settings):
            async def ask():
                transport = httpx.ASGITransport(self.app)
                async with httpx.AsyncClient(transport=transport, base_url=base or self.base) as client:
                    return await client.request(method, path, **settings)

            return asyncio.run(ask())

    return Served


def doors(routes):
    """Every method and path of an app's route table."""
    for route in routes:
        if hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods)
        else:
            yield from doors(getattr(route, "routes", None) or route.original_router.routes)


def test_no_door_opens_without_the_password_but_those_of_the_login_page(served):
    page = served(auth=[tuple(ADA.values())])
    found = set(doors(page.app.routes))
    assert len(found) > 60
    behind = {(method, path) for method, path in found if path.rstrip("/") not in OPEN and path not in ("/", "/login/")}
    behind = {(method, path) for method, path in behind if not path.startswith(OPEN_UNDER)}
    assert len(behind) > 50
    for method, path in sorted(behind):
        assert page.ask(method, path).status_code in (401, 404), path
    assert page.ask("GET", f"{API}/info").json() == {"detail": guard.STRANGER[1]}
    assert [page.ask("GET", path).status_code for path in ("/", "/config", "/theme.css")] == [200, 401, 200]


def test_who_has_logged_in_comes_in(served):
    page = served(auth=[tuple(ADA.values())])
    for name, token in page.ask("POST", "/login", data=ADA).cookies.items():
        for sent, status in ((token, 200), (f"{token}a", 401)):
            assert page.ask("GET", f"{API}/app_id", headers={"cookie": f"{name}={sent}"}).status_code == status


@pytest.mark.parametrize(
    "name", ["deep_link?session_hash=a", "process_recording", "vibe-edit", "proxy=http://x", "dev/reload"]
)
def test_doors_of_gradio_that_nothing_is_behind_are_closed(served, name):
    assert served().ask("POST", f"{API}/{name}").json() == {"detail": guard.NOTHING[1]}


@pytest.mark.parametrize("path", ["/static/" + "a" * 256, f"{API}/file=a%00b"])
def test_names_that_no_disk_has_are_not_looked_for(served, path):
    assert served().ask("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, True),  # a program
        ({"origin": LOCAL}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://localhost:9999"}, False),  # another app on this machine
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, False),
        ({"origin": "https://app.example", "sec-fetch-site": "same-origin"}, True),  # a proxy gave another Host
    ],
)
def test_other_pages_change_nothing(served, headers, is_let_in):
    page = served()
    assert (page.ask("POST", JOIN, json={}, headers=headers).status_code != 403) is is_let_in
    assert page.ask("GET", "/theme.css", headers=headers).status_code == 200


def test_without_a_password_the_page_has_the_names_of_this_computer_alone(served):
    page = served()
    for base in (LOCAL, "http://127.0.0.1:7860", "http://[::1]:7860", "http://LOCALHOST"):
        assert page.ask("GET", "/theme.css", base).status_code == 200
    for base in ("http://evil.example:7860", "http://127.0.0.1.evil.example", "http://[::2]"):
        assert page.ask("GET", "/theme.css", base).json() == {"detail": guard.ELSEWHERE[1]}
    assert served(auth=[tuple(ADA.values())]).ask("GET", "/theme.css").status_code == 200


async def pieces(count, size=2**18, begin=b"", end=b""):
    yield begin
    for _ in range(count):
        yield bytes(size)
    yield end


def test_long_questions_are_refused_also_those_that_do_not_say_how_long(served):
    page, kind = served(), {"content-type": "application/json"}
    assert page.ask("POST", JOIN, content=bytes(QUESTION + 1), headers=kind).status_code == 413
    found = page.ask("POST", JOIN, content=pieces(5), headers=kind)
    assert (found.status_code, found.json()["detail"]) == guard.TOO_LARGE


FORM = {"content-type": "multipart/form-data; boundary=x"}
HEAD = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


def test_uploads_stop_where_there_is_no_more_room(served, tmp_path, monkeypatch):
    page = served()
    monkeypatch.setattr(guard, "ROOM", 2**20)
    upload = {"content": bytes(2**20 + 1), "headers": FORM}
    assert page.ask("POST", UPLOAD, **upload).status_code == 413
    assert page.ask("POST", UPLOAD, content=pieces(5, begin=HEAD), headers=FORM).status_code == 413
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (tmp_path / "kept").write_bytes(bytes(2**20))
    fresh, sent = served(), HEAD + b"a\r\n--x--\r\n"
    found = fresh.ask("POST", UPLOAD, content=sent, headers=FORM)
    assert (found.status_code, found.json()["detail"]) == guard.FULL
    (tmp_path / "kept").write_bytes(b"")
    monkeypatch.setattr(guard, "ROOM", QUESTION + guard.BLOCK)
    found = served().ask("POST", UPLOAD, content=bytes(QUESTION + 1), headers=FORM)
    assert (found.status_code, found.json()["detail"]) == guard.FULL  # as much room as a question may take
    (tmp_path / "kept").unlink()
    monkeypatch.setattr(guard, "RECOUNT", 0)
    assert fresh.ask("POST", UPLOAD, content=sent, headers=FORM).status_code == 200


def test_of_an_upload_that_breaks_off_nothing_is_left(served, tmp_path):
    page = served().app
    messages = iter([{"type": "http.request", "body": HEAD + b"half", "more_body": True}, {"type": "http.disconnect"}])
    scope = {"type": "http", "method": "POST", "path": UPLOAD, "query_string": b"", "root_path": ""}
    headers = [(b"host", b"localhost"), (b"content-type", FORM["content-type"].encode())]

    async def receive():
        return next(messages)

    async def send(message):
        pass

    asyncio.run(page(scope | {"headers": headers, "app": page}, receive, send))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js"])
def test_uploads_come_back_as_files_to_keep(served, name):
    page = served()
    path = page.ask("POST", UPLOAD, files={"files": (name, b"<script>alert(1)</script>")}).json()[0]
    found = page.ask("GET", f"{API}/file={path}")
    assert found.headers["content-disposition"].startswith("attachment")
    assert (found.headers["content-type"], found.headers["x-content-type-options"]) == (
        "application/octet-stream",
        "nosniff",
    )


def test_old_files_and_empty_folders_go_and_small_files_count(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "new").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(9000))
    (tmp_path / "two").write_bytes(b"")
    (tmp_path / "three").write_bytes(b"three")
    os.utime(tmp_path / "three", (0, time.time() - guard.KEPT - 1))
    os.utime(tmp_path / "a" / "b", (0, time.time() - guard.EMPTY - 1))
    assert swept(str(tmp_path)) == 9000 + guard.BLOCK
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "new", "one", "two"]


def test_old_files_go_also_where_nobody_asks_for_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "SWEEP", 0.01)
    (tmp_path / "old").write_bytes(b"old")
    os.utime(tmp_path / "old", (0, 0))
    guard.keep_swept(str(tmp_path))
    for _ in range(500):
        if not list(tmp_path.iterdir()):
            return
        time.sleep(0.01)
    raise AssertionError("it is still there")


def test_nothing_is_fetched_from_addresses_that_people_send(tmp_path):
    from gradio import processing_utils, route_utils

    address = "https://huggingface.co/a.png"  # which Gradio trusts
    kept = {name: getattr(processing_utils.sh, name) for name in ("get", "async_validate_url")}
    try:
        gradio_patches.fetch_nothing()
        with pytest.raises(gradio.Error, match="send the file itself"):
            asyncio.run(processing_utils.async_ssrf_protected_download(address, str(tmp_path)))
        with pytest.raises(Exception, match="File not allowed"):
            asyncio.run(route_utils.secure_url_stream_response(address, httpx.Request("GET", LOCAL)))
    finally:
        vars(processing_utils.sh).update(kept)


def test_what_failed_is_printed_but_nothing_that_was_sent(capsys):
    from gradio import queueing, routes

    kept, secret = (queueing.traceback, routes.traceback), "Ada\nThe app is on fire"
    try:
        gradio_patches.print_nothing_sent()
        try:
            raise ValueError(secret)
        except ValueError:
            queueing.traceback.print_exc()
            record = logging.makeLogRecord({"msg": "Exception", "exc_info": sys.exc_info()})
        assert "Ada" not in gradio_patches._Formatter().format(record)
    finally:
        queueing.traceback, routes.traceback = kept
    printed = capsys.readouterr().err
    assert printed.startswith("ValueError, in answering somebody:\n  File")
    assert not {"Ada", "fire"} & set(printed.split())
