"""What reaches the page: only the addresses it uses, nobody without the password, no other page, no more than has room.

All over a real server on a port.
"""

import http.client
import os
import re
import socket
import time
from hashlib import sha256

import httpx
import pytest
from starlette.requests import HTTPConnection

from captioning.app import guard
from captioning.app.guard import API, QUESTION, UPLOAD
from tests.app.page import USER, answering, status

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NAMED = {"host": "app.example"}
JOIN = f"{API}/queue/join"
FORM = {"content-type": "multipart/form-data; boundary=x"}
HEAD = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
BEFORE_LOGIN = {
    *(("GET", path) for path in ("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico")),
    *(("GET", path) for path in ("/assets/{path:path}", "/static/{path:path}")),
    *(("HEAD", "/"), ("POST", "/login")),
}
ANSWERS = BEFORE_LOGIN | {  # of Gradio's routes, all that the page and programs use
    *(("GET", f"{API}/{name}") for name in ("app_id", "info", "openapi.json", "upload_progress", "queue/data")),
    *(("GET", f"{API}/{name}") for name in ("heartbeat/{session_hash}", "file={path_or_url:path}")),
    *(("GET", f"{API}/call/{name}") for name in ("{api_name}/{event_id}", "v2/{api_name}/{event_id}")),
    *(("POST", f"{API}/{name}") for name in ("upload", "cancel", "reset", "queue/join", "run/{api_name}")),
    *(("POST", f"{API}/call/{name}") for name in ("{api_name}", "v2/{api_name}")),
    ("HEAD", f"{API}/file={{path_or_url:path}}"),
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module", autouse=True)
def _settings(scratch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(scratch))
        yield


@pytest.fixture(scope="module")
def page(scratch):
    with answering(scratch) as client:
        yield client


@pytest.fixture(scope="module")
def locked(scratch):
    """The page behind a password."""
    with answering(scratch, has_password=True) as client:
        yield client


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A page whose folder is empty."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with answering(tmp_path) as client:
        yield client


def routes(app):
    """Every method and path of an app's routes, those of apps within it too."""
    for route in getattr(app, "routes", ()):
        for method in getattr(route, "methods", None) or ():
            yield method, route.path
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if not hasattr(route, "methods"):
            yield from routes(inner)


def request(method, path):
    """A request from a program on this computer."""
    return HTTPConnection({"type": "http", "method": method, "path": path, "headers": [(b"host", b"localhost")]})


def filled(route):
    """A path of a route, whose parameters are all x or lie in the folder of the uploads."""
    path = route.replace("{path_or_url:path}", f"{os.environ['GRADIO_TEMP_DIR']}/x")
    return re.sub(r"{[^}]*}", "x", path)


def test_only_the_routes_that_the_page_uses_answer(page):
    found = set(routes(page.page))
    assert len(found) > 60
    shut = found - ANSWERS
    assert len(shut) > 40
    for method, route in sorted(shut):
        assert status(page, method, filled(route)) == 404, (method, route)
    for method, route in sorted(ANSWERS):
        assert (method, route) in found
        assert page.guard.refusal(request(method, filled(route))) is None, (method, route)


def test_a_route_that_gradio_adds_stays_shut(page):
    for path in ("/new", f"{API}/new", f"{API}/call", f"{API}/file", f"{API}/run/turn/new", "/assets", "/login/"):
        assert [status(page, method, path) for method in ("GET", "POST", "PUT", "OPTIONS")] == [404] * 4, path


def test_nothing_answers_without_the_password_but_the_login_page(locked):
    found = set(routes(locked.page)) - BEFORE_LOGIN
    for method, route in sorted(found):
        expected = 401 if (method, route) in ANSWERS else 404
        assert status(locked, method, filled(route)) == expected, (method, route)
    assert locked.get(f"{API}/info").json() == {"detail": guard.STRANGER[1]}
    assert [locked.get(path).status_code for path in ("/", "/config", "/theme.css")] == [200, 401, 200]
    assert "Secret." not in locked.get("/").text


def test_who_has_logged_in_comes_in(locked):
    assert locked.post("/login", data=USER | {"password": "lovelace-1816"}).status_code == 400
    cookies = locked.post("/login", data=USER).cookies
    locked.cookies.clear()
    assert len(cookies) == 2
    for name, token in cookies.items():
        for sent, code in ((token, 200), (f"{token}a", 401)):
            assert locked.get(f"{API}/app_id", headers={"cookie": f"{name}={sent}"}).status_code == code


def test_who_asks_is_who_is_connected(page):
    """No header changes the address of the sender, so nothing that counts by address could be passed by."""
    seen, guarded = [], page.page.middleware_stack
    page.page.middleware_stack = lambda scope, *rest: (seen.append(scope["client"][0]), guarded(scope, *rest))[1]
    try:
        for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
            page.get("/theme.css", headers={name: "203.0.113.7"})
    finally:
        page.page.middleware_stack = guarded
    assert seen == ["127.0.0.1"] * 3


@pytest.mark.parametrize("name", ["a" * 256, "a%00b", "../etc", "..%2f..%2fetc%2fpasswd"])
def test_names_that_no_kept_file_has_are_not_looked_for(page, scratch, name):
    assert page.get(f"{API}/file={scratch}/{name}").json() == {"detail": guard.NOTHING[1]}
    assert status(page, "GET", f"/static/{name}") == 404


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, True),  # a program
        ({"origin": "self"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({"origin": "http://localhost:9999"}, False),  # another app on this machine
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, False),
        ({"origin": "https://app.example", "sec-fetch-site": "same-origin"}, True),  # a proxy gave another Host
    ],
)
def test_other_pages_change_and_read_nothing(page, headers, is_let_in):
    if headers.get("origin") == "self":
        headers = {"origin": str(page.base_url).rstrip("/")}
    assert page.post(JOIN, json={}, headers=headers).status_code == (422 if is_let_in else 403)
    found = page.get("/theme.css", headers=headers)
    assert found.status_code == 200
    assert not [name for name in found.headers if name.startswith("access-control")]


def test_without_a_password_the_page_has_the_names_of_this_computer_alone(page, locked):
    for host in ("localhost", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST"):
        assert page.get("/theme.css", headers={"host": host}).status_code == 200
    for host in ("evil.example:7860", "127.0.0.1.evil.example", "[::2]"):
        assert page.get("/theme.css", headers={"host": host}).json() == {"detail": guard.ELSEWHERE[1]}
    for host in ("localhost:abc", "[", "localhost/a", "a b"):
        assert page.get("/theme.css", headers={"host": host}).status_code == 400
    assert locked.get("/theme.css", headers=NAMED).status_code == 200


def test_only_a_proxy_before_a_password_names_the_address_of_the_page(page, locked):
    evil = {"x-forwarded-host": "evil.example", "x-gradio-server": "http://evil.example"}
    assert "evil" not in page.get("/config", headers=evil).text
    assert "evil.example" in locked.get("/", headers=evil).text
    assert locked.get("/", headers={"x-forwarded-host": "[", "x-gradio-server": "["}).status_code == 200


def pieces(count, size=2**18, begin=b"", end=b""):
    yield begin
    for _ in range(count):
        yield bytes(size)
    yield end


def test_long_and_broken_questions_are_refused(page):
    kind = {"content-type": "application/json"}
    assert page.post(JOIN, content=bytes(QUESTION + 1), headers=kind).status_code == 413
    found = page.post(JOIN, content=pieces(5), headers=kind)  # does not say how long it is
    assert (found.status_code, found.json()["detail"]) == guard.TOO_LARGE
    for content in (b"", b"{", b"\xff\xfe\xfd", b"[" * 10**5, b'{"data": ' * 10**4):
        assert page.post(JOIN, content=content, headers=kind).json() == {"detail": guard.UNREADABLE[1]}


def test_nothing_is_fetched_from_addresses_that_people_send(page, scratch, monkeypatch):
    from gradio import processing_utils, route_utils

    fetched = []
    monkeypatch.setattr(processing_utils.sh, "get", lambda url, **_: fetched.append(url))
    monkeypatch.setattr(route_utils.safehttpx, "async_validate_url", lambda host: fetched.append(host))
    paths = ["https://huggingface.co/a.png", "http://169.254.169.254/latest", "/etc/passwd", "a.png", "", str(scratch)]
    paths += [f"{scratch}2/a.png", f"{scratch}/../a.png", f"http://a/..{scratch}/a.png", f"{scratch}/a\0.png"]
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    sent = [("call/picture", [file]) for file in files]
    sent += [("call/picture", [files]), *((name, [files[0]]) for name in ("call/v2/picture", "run/picture"))]
    sent += [("queue/join", {"a": {"b": [1, files[0]]}})]
    for name, data in sent:
        found = page.post(f"{API}/{name}", json={"data": data, "fn_index": 1, "session_hash": "a"})
        assert (found.status_code, found.json()["detail"]) == guard.NOT_SENT, data
    for path in paths:
        assert status(page, "GET", f"{API}/file={path.replace(chr(0), '%00')}") == 404
    assert not fetched


def test_what_was_sent_is_used(page):
    sent = page.post(UPLOAD, files={"files": ("a ü.png", b"no picture")}).json()[0]
    file = {"path": sent, "meta": {"_type": "gradio.FileData"}}
    event = page.post(f"{API}/call/turn", json={"data": ["abc"]}).json()["event_id"]
    assert '"cba"' in page.get(f"{API}/call/turn/{event}").text
    event = page.post(f"{API}/call/picture", json={"data": [file]}).json()["event_id"]
    assert page.get(f"{API}/call/picture/{event}").status_code == 200
    assert page.get(f"{API}/file={sent}").content == b"no picture"


def test_who_knows_a_picture_cannot_ask_whether_it_is_there(page, scratch):
    data = os.urandom(99)
    path = page.post(UPLOAD, files={"files": ("a.png", data)}).json()[0]
    assert status(page, "GET", f"{API}/file={path}") == 200
    assert status(page, "GET", f"{API}/file={scratch}/{sha256(data).hexdigest()}/a.png") == 403
    assert sha256(data).hexdigest() not in path


def test_uploads_stop_where_there_is_no_more_room(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "ROOM", 2**20)
    monkeypatch.setattr(guard, "RECOUNT", 0)
    assert fresh.post(UPLOAD, content=bytes(2**20 + 1), headers=FORM).status_code == 413
    assert fresh.post(UPLOAD, content=pieces(5, begin=HEAD), headers=FORM).status_code == 413
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (tmp_path / "kept").write_bytes(bytes(2**20))
    sent = {"content": HEAD + b"a\r\n--x--\r\n", "headers": FORM}
    found = fresh.post(UPLOAD, **sent)
    assert (found.status_code, found.json()["detail"]) == guard.FULL
    (tmp_path / "kept").unlink()
    assert fresh.post(UPLOAD, **sent).status_code == 200


def test_of_an_upload_that_breaks_off_nothing_is_left(fresh, tmp_path):
    address = fresh.base_url.host, fresh.base_url.port
    with socket.create_connection(address) as connection:
        head = f"POST {UPLOAD} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999\r\n"
        connection.sendall(f"{head}content-type: {FORM['content-type']}\r\n\r\n".encode() + HEAD + b"half")
        time.sleep(0.3)
    for _ in range(100):
        if not [path for path in tmp_path.rglob("*") if path.is_file()]:
            break
        time.sleep(0.05)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js"])
def test_uploads_come_back_as_files_to_keep(page, name):
    path = page.post(UPLOAD, files={"files": (name, b"<script>alert(1)</script>")}).json()[0]
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    event = page.post(f"{API}/call/picture", json={"data": [file]}).json()["event_id"]
    page.get(f"{API}/call/picture/{event}")
    found = page.get(f"{API}/file={path}")
    assert found.headers["content-disposition"].startswith("attachment")
    assert (found.headers["content-type"], found.headers["x-content-type-options"]) == (
        "application/octet-stream",
        "nosniff",
    )


def test_a_browser_is_told_to_ask_no_other_machine(page):
    for path in ("/", "/theme.css", "/nothing"):
        assert page.get(path).headers["content-security-policy"].startswith("default-src 'self' ")
        assert not re.search(r"https?:|\*", page.get(path).headers["content-security-policy"])


def test_a_connection_that_is_no_request_is_closed(page):
    connection = http.client.HTTPConnection(page.base_url.host, page.base_url.port, timeout=10)
    upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-key": "a", "sec-websocket-version": "13"}
    connection.request("GET", JOIN, headers=upgrade)
    assert connection.getresponse().status in (400, 403, 404)  # as a websocket, where uvicorn knows these
    connection.close()
    with socket.create_connection((page.base_url.host, page.base_url.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 nothing\r\n\r\n")
        assert b" 400 " in connection.recv(999)
    with pytest.raises(httpx.RemoteProtocolError, match="closed"):
        page.get(f"{API}/queue/data", params={"session_hash": "nobody"})
