"""Stands between the network and the page: which addresses answer, to whom, and how much may be sent.

Only the addresses of OPEN and CLOSED answer. All else that Gradio offers, in this version or a later one, is a 404.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captioning.app import scratch
from captioning.serving.origin import HERE, HOST, has_host, host_of, is_foreign, with_headers

if TYPE_CHECKING:
    from gradio.routes import App

API = "/gradio_api"
UPLOAD, FILE = f"{API}/upload", f"{API}/file="
NAME, FILES = r"[\w-]+", r"(?:/[\w-][\w.-]{0,200})+"
OPEN = {  # before the login, by method
    "GET": rf"/|/config|/theme\.css|/manifest\.json|/favicon\.ico|/(?:assets|static){FILES}",
    "POST": "/login",
}
CLOSED = {  # after it
    "GET": rf"{API}/(?:app_id|info|openapi\.json|upload_progress|queue/data|heartbeat/{NAME}"
    rf"|call/{NAME}/{NAME}|call/v2/{NAME}/{NAME}|file=.+)",
    "POST": rf"{API}/(?:upload|cancel|reset|queue/join|run/{NAME}|call/{NAME}|call/v2/{NAME})",
}
NONE: Mapping[str, str] = {}
DROPPED = {b"origin", b"x-gradio-server"}  # Gradio would let other pages read answers, or name another server in them

LONGEST_NAME = 255  # bytes of a file name, on most disks
ROOM = 500 * 2**20  # bytes of pictures that are kept at once
QUESTION = 2**20  # bytes of any other request
RECOUNT = 10.0  # seconds for which the size of their folder is believed

NOTHING = 404, "There is nothing here."
UNREADABLE = 400, "This request cannot be read."
ELSEWHERE = 403, "This page is for this computer alone; --auth user:password lets others in, and under other names."
STRANGER = 401, "Log in first, with the user and the password of this page."
FOREIGN = 403, "Another page asked for this; open the app's own page."
TOO_LARGE = 413, "More than the maximum allowed size was sent; send less, or fewer pictures at once."
FULL = 503, "There is no room for more pictures at the moment; try again in some minutes."
NO_ADDRESS = "No picture is fetched from an address or read from this computer; send the file itself."
NOT_SENT = 422, [{"__type__": "validate", "is_valid": False, "message": NO_ADDRESS}]  # as Gradio's clients expect it

Refusal = tuple[int, object]  # status and sentence


class Guard:
    """Refuses strangers, other pages and floods before Gradio is asked.

    `page` is Gradio's own application, which knows who has logged in; `folder` is where it keeps uploads. `own` are
    further addresses of ours, by method, which no other web page may ask for.
    """

    def __init__(self, app: ASGIApp, *, page: "App", folder: str, own: Mapping[str, str] = NONE) -> None:
        self.app, self.page, self.folder, self.own = app, page, folder, own
        self._held, self._counted = 0, -RECOUNT

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})  # answered as a 403
            return
        request, is_upload = HTTPConnection(scope), scope["path"] == UPLOAD
        refused = self.refusal(request)
        if not refused and is_upload:
            receive = self._within_room(receive)
        elif not refused and scope["method"] == "POST":
            refused, receive = await self._read(receive, is_json=scope["path"] != "/login")
        if refused:
            status, reason = refused
            await JSONResponse({"detail": reason}, status)(scope, receive, with_headers(send))
        else:
            kept = [(name, value) for name, value in scope["headers"] if name not in self._dropped(request)]
            await self.app({**scope, "headers": kept}, receive, with_headers(send))

    def refusal(self, request: HTTPConnection) -> Refusal | None:
        """Status and sentence for who may not ask for this, or sends too much at once; None for all others."""
        path, method = request.scope["path"], request.scope["method"]
        is_own = _is_in(self.own, path, method)
        if not (is_own or _is_offered(path, method)) or (
            path.startswith(FILE) and not self._is_kept(path.removeprefix(FILE))
        ):
            return NOTHING
        if not has_host(request):
            return UNREADABLE
        if self.page.auth is None and host_of(request) not in HERE:
            return ELSEWHERE
        if self.page.auth is not None and not _is_in(OPEN, path, method) and not self._is_known(request):
            return STRANGER
        if (method == "POST" or is_own) and is_foreign(request):
            return FOREIGN
        room = self._room() if path == UPLOAD else QUESTION
        length = int(request.headers.get("content-length", 0))
        if length > room:
            return FULL if path == UPLOAD and length <= ROOM else TOO_LARGE
        return None

    def _is_kept(self, path: str) -> bool:
        """Whether a path leads into the folder of the uploads, as it is written."""
        parts = path.split(os.sep)
        is_named = (
            "\0" not in path
            and ".." not in parts
            and all(len(part.encode(errors="replace")) <= LONGEST_NAME for part in parts)
        )
        return is_named and path.startswith(self.folder + os.sep)

    def _is_known(self, request: HTTPConnection) -> bool:
        names = f"access-token-{self.page.cookie_id}", f"access-token-unsecure-{self.page.cookie_id}"
        return any(request.cookies.get(name) in self.page.tokens for name in names)

    def _dropped(self, request: HTTPConnection) -> set[bytes]:
        forwarded = request.headers.get("x-forwarded-host", "")
        is_believed = self.page.auth is not None and HOST.fullmatch(forwarded)
        return DROPPED if is_believed else DROPPED | {b"x-forwarded-host"}

    def _room(self) -> int:
        if time.monotonic() - self._counted > RECOUNT:
            self._held, self._counted = scratch.swept(self.folder), time.monotonic()
        return ROOM - self._held

    def _within_room(self, receive: Receive) -> Receive:
        """What is received of an upload, until it is more than there is room for."""
        left = self._room()

        async def receive_some() -> Message:
            nonlocal left
            message = await receive()
            size = len(message.get("body", b""))
            left -= size
            self._held += size
            if left < 0 or message["type"] == "http.disconnect":  # Gradio removes what it has of the upload
                raise MultiPartException(TOO_LARGE[1])
            return message

        return receive_some

    async def _read(self, receive: Receive, *, is_json: bool) -> tuple[Refusal | None, Receive]:
        """What is wrong with what is sent, if anything, and what hands it on."""
        body, is_more = b"", True
        while is_more:
            message = await receive()
            body, is_more = body + message.get("body", b""), message.get("more_body", False)
            if message["type"] == "http.disconnect":
                return UNREADABLE, receive
            if len(body) > QUESTION:
                return TOO_LARGE, receive
        if is_json:
            try:
                asked = json.loads(body)
                body = json.dumps(asked).encode()  # Gradio reads what was checked
            except (ValueError, RecursionError):
                return UNREADABLE, receive
            if not all(map(self._is_kept, _paths_in(asked))):
                return NOT_SENT, receive
        return None, _replayed(body, receive)


def _is_offered(path: str, method: str) -> bool:
    return _is_in(OPEN, path, method) or _is_in(CLOSED, path, method)


def _is_in(offered: Mapping[str, str], path: str, method: str) -> bool:
    return re.fullmatch(offered.get("GET" if method == "HEAD" else method, "(?!)"), path, re.ASCII) is not None


def _paths_in(asked: object) -> Iterator[str]:
    """The paths of files in a request: Gradio fetches the file of one that is an address."""
    pending = [asked]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            pending += part.values()
            if isinstance(part.get("path"), str):
                yield part["path"]
        elif isinstance(part, list):
            pending += part


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
