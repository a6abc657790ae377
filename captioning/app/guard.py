"""Stands between the net and the page: who may ask for what, and how much may be sent. Knows nothing of pictures.

Gradio asks for its password at most of its doors; here it is asked for at all but those of the login page.
"""

import contextlib
import os
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

HERE = ("127.0.0.1", "localhost", "::1")
API = "/gradio_api"
UPLOAD = f"{API}/upload"
OPEN = ("/", "/login", "/config", "/favicon.ico", "/manifest.json", "/robots.txt", "/theme.css")
OPEN_UNDER = ("/assets/", "/static/", "/svelte/", f"{API}/startup-events")  # the last Gradio asks itself for
UNUSED = ("component_server", "deep_link", "dev/", "process_recording", "proxy=", "stream/", "vibe-")
CLOSED = tuple(f"{API}/{name}" for name in UNUSED)  # doors of Gradio's that this page has nothing behind

LONGEST_NAME = 255  # bytes of a file's, on most disks
ROOM = 500 * 2**20  # bytes of pictures that are kept at once
QUESTION = 2**20  # bytes of any other request
SWEEP, KEPT = 300.0, 3600.0  # seconds between two looks for old files there, and how old they may become
RECOUNT = 10.0  # seconds for which the size of their folder is believed
EMPTY = 60.0  # seconds after which an empty folder in it is removed
BLOCK = 4096  # bytes that the smallest file takes

NOTHING = 404, "There is nothing here."
ELSEWHERE = 403, "This page is for this computer alone; --auth user:password lets others in, and under other names."
STRANGER = 401, "Log in first, with the user and the password of this page."
FOREIGN = 403, "Another page asked for this; open the app's own page."
TOO_LARGE = 413, "More than the maximum allowed size was sent; send less, or fewer pictures at once."
FULL = 503, "There is no room for more pictures at the moment; try again in some minutes."


class Guard:
    """Refuses strangers, other pages and floods before Gradio sees them."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._held, self._counted = 0, -RECOUNT

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"].rstrip("/") == UPLOAD
        room = self._room(scope["app"].uploaded_file_dir) if is_upload else QUESTION
        refused = refusal(HTTPConnection(scope), room)
        if refused:
            status, reason = refused
            await JSONResponse({"detail": reason}, status)(scope, receive, send)
        else:
            await self.app(scope, self._within(room, receive, is_upload), _inert(send))

    def _room(self, folder: str) -> int:
        if time.monotonic() - self._counted > RECOUNT:
            self._held, self._counted = swept(folder), time.monotonic()
        return ROOM - self._held

    def _within(self, room: int, receive: Any, is_upload: bool) -> Any:
        """What is received, until it is more than there is room for."""
        left = room

        async def receive_some() -> dict[str, Any]:
            nonlocal left
            message = await receive()
            size = len(message.get("body", b""))
            left -= size
            if is_upload:
                self._held += size
                if left < 0 or message["type"] == "http.disconnect":  # told so, Gradio removes what it has of it
                    raise MultiPartException(TOO_LARGE[1])
            elif left < 0:
                raise HTTPException(*TOO_LARGE)
            return message

        return receive_some


def refusal(request: HTTPConnection, room: int) -> tuple[int, str] | None:
    """Status and sentence for who may not ask for this, or sends too much at once; None for all others."""
    app, path = request.scope["app"], request.scope["path"]
    length = int(request.headers.get("content-length", 0))
    if path.startswith(CLOSED) or "\0" in path or any(len(name.encode()) > LONGEST_NAME for name in path.split("/")):
        return NOTHING
    if app.auth is None and _host(request) not in HERE:
        return ELSEWHERE
    if app.auth is not None and not _is_open(path) and not _is_known(request):
        return STRANGER
    if request.scope["method"] not in ("GET", "HEAD", "OPTIONS") and _is_foreign(request):
        return FOREIGN
    if length > room:
        return FULL if path.startswith(UPLOAD) and length <= ROOM else TOO_LARGE
    return None


def _host(request: HTTPConnection) -> str:
    host = request.headers.get("host", "").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_open(path: str) -> bool:
    return (path.rstrip("/") or "/") in OPEN or path.startswith(OPEN_UNDER)


def _is_known(request: HTTPConnection) -> bool:
    app, cookies = request.scope["app"], request.cookies
    names = f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}"
    return any(cookies.get(name) in app.tokens for name in names)


def _is_foreign(request: HTTPConnection) -> bool:
    """Whether a browser says that a page from elsewhere asks; programs say nothing of the kind."""
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site:
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _inert(send: Any) -> Any:
    """Answers that no browser takes for something else than they say."""

    async def answer(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["x-content-type-options"] = "nosniff"
        await send(message)

    return answer


def swept(folder: str) -> int:
    """Bytes that a folder holds, once old files and empty folders are removed.

    Gradio's own sweep leaves the folders, and ends for good where somebody uploads while it looks through its list.
    """
    held, now = 0, time.time()
    for place, folders, files in os.walk(folder, topdown=False):
        for path in (os.path.join(place, name) for name in files):
            with contextlib.suppress(OSError):  # gone meanwhile
                found = os.lstat(path)
                if found.st_mtime < now - KEPT:
                    os.remove(path)
                else:
                    held += max(found.st_size, BLOCK)
        with contextlib.suppress(OSError):
            if place != folder and not (folders or files) and os.stat(place).st_mtime < now - EMPTY:
                os.rmdir(place)
    return held


def keep_swept(folder: str) -> None:
    """Sweeps a folder from time to time, as long as the program runs."""

    def sweep() -> None:
        while True:
            time.sleep(SWEEP)
            swept(folder)

    threading.Thread(target=sweep, daemon=True).start()
