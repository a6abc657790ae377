"""Stands before the REST interface: gives every request an id, asks who it is, and bounds what it sends and how long.

It refuses before a body is read.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from captioning.errors import CaptioningError
from captioning.serving.keys import Caller
from captioning.serving.origin import HERE, has_host, host_of, is_foreign, with_headers
from captioning.serving.problems import Problem, problem_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from captioning.serving.access import Access

BODY, JOB_BODY = 32 * 2**20, 256 * 2**20  # bytes of a request
ROOM = 500 * 2**20  # bytes of all bodies that are read at once
PATIENCE = 60.0  # seconds in which a body must have come
ID = re.compile(r"[\w-]{1,64}", re.ASCII)
OPEN = ("/healthz", "/readyz", "/openapi.json")  # to everybody
ADMIN = ("/metrics",)
QUEUED = ("/v1/captions", "/v1/attention")  # whose pictures wait in the queue

UNREADABLE = 400, "host", "This request names no host as HTTP asks for; send a Host header."
ELSEWHERE = 403, "host", "Without keys this service is for this computer alone; start it with keys."
FOREIGN = 403, "origin", "Another page asked for this in a browser; ask from a program or your own server."
TOO_LARGE = 413, "too_large", "More was sent than a request may hold; send less, or fewer pictures at once."
FULL = 503, "busy", "Too much is being sent at the moment; try again soon.", 1
SLOW = 408, "slow", f"The body did not come within {PATIENCE:.0f} seconds; send it faster, or send less."


@dataclass
class Told:
    """What is logged and counted of a request, never the picture or its words."""

    id: str
    method: str
    began: float = field(default_factory=time.perf_counter)
    route: str = "other"
    status: int = 499  # the sender went away
    outcome: str = ""
    caller: str = ""
    captioner: str = ""
    pictures: int = 0

    def record(self) -> dict[str, Any]:
        """The line of the log."""
        milliseconds = round(1000 * (time.perf_counter() - self.began), 1)
        parts = {"id": self.id, "method": self.method, "route": self.route, "status": self.status}
        more = {"captioner": self.captioner, "pictures": self.pictures, "key": self.caller}
        return {
            **parts,
            "ms": milliseconds,
            "outcome": self.outcome,
            **{key: said for key, said in more.items() if said},
        }


class Gate:
    """The middleware; `access` is None where no keys are asked for, `refuse_full` raises where the queue is full."""

    def __init__(
        self,
        app: "ASGIApp",
        *,
        access: "Access | None",
        tell: Callable[[Told], None],
        refuse_full: Callable[[int], None],
    ) -> None:
        self.app, self.access, self.tell, self.refuse_full = app, access, tell, refuse_full
        self._held = self.pending = 0  # bytes of bodies; requests whose pictures are read or wait

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close"})  # answered as a 403

    async def _answer(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        request = HTTPConnection(scope)
        given = request.headers.get("x-request-id", "")
        told = Told(given if ID.fullmatch(given) else uuid.uuid4().hex, scope["method"])
        scope.setdefault("state", {}).update(request_id=told.id, told=told)
        send = with_headers(_noting(send, told), x_request_id=told.id, cache_control="no-store")
        body = _Body(self, receive, _most(request))
        is_queued, is_counted = scope["path"] in QUEUED and scope["method"] == "POST", False
        try:
            await run_checks(self, request, told)
            body.expect(request.headers.get("content-length"))
            self.pending += is_queued
            is_counted = is_queued
            await self.app(scope, body.receive, send)
        except (Problem, CaptioningError) as error:
            problem = error if isinstance(error, Problem) else problem_of(error)
            if told.status == 499:  # nothing was answered yet
                told.outcome = problem.code
                await problem.response(told.id)(scope, receive, send)
        finally:
            body.give_back()
            self.pending -= is_counted
            if "route" in scope:
                told.route = scope["route"].path
            self.tell(told)


async def run_checks(gate: Gate, request: HTTPConnection, told: Told) -> None:
    """Raises the Problem of a request that is refused; else notes who asks."""
    if not has_host(request):
        raise Problem(*UNREADABLE)
    if gate.access is None and host_of(request) not in HERE:
        raise Problem(*ELSEWHERE)
    if request.scope["method"] not in ("GET", "HEAD") and is_foreign(request):
        raise Problem(*FOREIGN)
    caller, path = Caller(), request.scope["path"]
    if gate.access and path not in OPEN:
        caller = await asyncio.to_thread(gate.access.identify, request)
        told.caller = caller.id
    if path in ADMIN and caller.role != "admin":
        raise Problem(403, "role", "This address is for keys with the role admin.")
    if path in QUEUED and request.scope["method"] == "POST":
        gate.refuse_full(gate.pending)
    request.scope["state"]["caller"] = caller


class _Body:
    """A body on its way: counted, bounded, and given up when it takes too long."""

    def __init__(self, gate: Gate, receive: "Receive", most: int) -> None:
        self.gate, self._receive, self.most = gate, receive, most
        self._taken = 0
        self._until: float | None = asyncio.get_running_loop().time() + PATIENCE

    def expect(self, length: str | None) -> None:
        """Refuses a body that says that it is too long."""
        if length and length.isascii() and length.isdecimal():
            self._check(int(length))

    def _check(self, size: int) -> None:
        if size > self.most:
            raise Problem(*TOO_LARGE)
        if self.gate._held - self._taken + size > ROOM:
            raise Problem(*FULL)

    async def receive(self) -> "Message":
        """The next part."""
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise Problem(*SLOW) from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._check(self._taken + size)
            self._taken, self.gate._held = self._taken + size, self.gate._held + size
            if not message.get("more_body", False):
                self._until = None
        return message

    def give_back(self) -> None:
        """The request is over."""
        self.gate._held -= self._taken


def _most(request: HTTPConnection) -> int:
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/")
    return JOB_BODY if is_form and request.scope["path"] == "/v1/jobs" else BODY


def _noting(send: "Send", told: Told) -> "Send":
    async def answer(message: "Message") -> None:
        if message["type"] == "http.response.start":
            told.status = message["status"]
            if not told.outcome:
                told.outcome = "ok" if told.status < 400 else "refused"
        await send(message)

    return answer
