"""Slows down whoever guesses passwords. Knows nothing of the page or of whose password it is."""

import math
import time
from typing import Any

MOST = 10  # wrong passwords from one address
WINDOW = 100.0  # seconds after which a wrong password is forgotten: 8,640 guesses a day


class LoginThrottle:
    """Stands before a web app: an address with ten wrong passwords waits until one is forgotten.

    Where a public link leads here, all its visitors have one address, that of the tunnel, and share its ten.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._tries: dict[str, list[float]] = {}  # those under way count, or many at once would pass

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        is_login = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/") == "/login"
        if not is_login:
            await self.app(scope, receive, send)
            return
        address, now = (scope["client"] or ("",))[0], time.monotonic()
        self._forget(now - WINDOW)
        tries = self._tries.setdefault(address, [])
        if len(tries) >= MOST:
            await _refuse(send, math.ceil(tries[0] + WINDOW - now))
            return
        tries.append(now)

        async def answer(message: dict[str, Any]) -> None:
            if message.get("status") == 200 and now in tries:
                tries.remove(now)
            await send(message)

        await self.app(scope, receive, answer)

    def _forget(self, before: float) -> None:
        for address, tries in list(self._tries.items()):
            tries[:] = [moment for moment in tries if moment > before]
            if not tries:
                del self._tries[address]


async def _refuse(send: Any, seconds: int) -> None:
    told = f'{{"detail": "Too many wrong passwords; wait {seconds} seconds."}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", str(seconds).encode())]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": told})
