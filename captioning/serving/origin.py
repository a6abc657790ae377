"""Who asks over HTTP: this computer, or another page in a browser; and the headers of every answer.

The page and the REST interface share these.
"""

import re
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import Message, Send

HERE = ("127.0.0.1", "localhost", "::1")
HOST = re.compile(r"([\w.-]+|\[[\da-f:]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)

ANSWER = {  # headers of every answer
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",  # from no other machine
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}


def has_host(request: "HTTPConnection") -> bool:
    """Whether a request names a host as it should."""
    return HOST.fullmatch(request.headers.get("host", "")) is not None


def host_of(request: "HTTPConnection") -> str:
    """The host that a request names, without its port."""
    host = request.headers.get("host", "").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def is_foreign(request: "HTTPConnection") -> bool:
    """Whether a browser says that a page from elsewhere asks; programs do not say such a thing."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


def with_headers(send: "Send", **more: str) -> "Send":
    """Sends answers with the headers of ANSWER and with more."""
    headers = ANSWER | {name.replace("_", "-"): value for name, value in more.items()}

    async def answer(message: "Message") -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return answer
