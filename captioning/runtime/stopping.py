"""Ctrl-C and SIGTERM for a program that runs until it is stopped: they wait for the end of what must not be cut."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While it is entered, the signals raise KeyboardInterrupt within `allowed` alone, or later at its beginning.

    A second signal raises it at once, wherever the program is.
    """

    def __init__(self) -> None:
        self._is_wanted = self._is_allowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        is_second, self._is_wanted = self._is_wanted, True
        if self._is_allowed or is_second:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """A block that may be cut anywhere."""
        self._is_allowed = True
        try:
            if self._is_wanted:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_allowed = False
