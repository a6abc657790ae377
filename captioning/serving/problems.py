"""Errors of the REST interface as application/problem+json (RFC 9457), each with the id of its request."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from captioning.errors import BundleError, CaptioningError, ImageError, StorageError
from captioning.serving.batching import Busy
from captioning.serving.session import CONTROLS

KIND = "application/problem+json"
SOON = 1  # seconds after which a busy service may be asked again


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818
    """A refusal: its status, a short code for programs, and a sentence for people."""

    status: int
    code: str
    detail: str
    retry_after: int | None = None

    def body(self, request_id: str) -> dict[str, Any]:
        """The problem as a document."""
        title = HTTPStatus(self.status).phrase
        parts = {"type": "about:blank", "title": title, "status": self.status, "code": self.code}
        return {**parts, "detail": self.detail, "request_id": request_id}

    def response(self, request_id: str) -> JSONResponse:
        """The problem as an answer."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.body(request_id), self.status, headers, media_type=KIND)


def problem_of(error: CaptioningError) -> Problem:
    """The problem that an error of ours is to whoever asks."""
    detail = worded(error)
    if isinstance(error, ImageError):
        return Problem(422, f"image_{error.reason}", detail)
    if isinstance(error, Busy):
        return Problem(503, "busy", detail, SOON)
    if isinstance(error, StorageError):
        return Problem(503, "storage", "The service cannot write to its disk; tell whoever runs it.", 60)
    if isinstance(error, BundleError):
        return Problem(503, "captioner", "This captioner cannot be opened; tell whoever runs the service.", 60)
    return Problem(422, "invalid", detail)


def worded(error: CaptioningError) -> str:
    """An error's sentence: fields in place of flags, and no folder of this machine."""
    sentence = re.sub(r"--([a-z][a-z-]*)", _field_of, str(error))
    return re.sub(r"(?<!\S)/(?:[^\s/]+/)+(?=[^\s/])", "", sentence)


def _field_of(flag: re.Match[str]) -> str:
    name = flag[1].replace("-", "_")
    return name if name in CONTROLS else flag[0]


def request_id(request: Request) -> str:
    """The id of a request, which its answer and its line in the log carry."""
    return request.scope.get("state", {}).get("request_id", "")
