"""What the terminal shows while the page is served: one short line per message, without what people sent."""

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from typing import TextIO

LONGEST = 160  # characters of a line
LINES, PERIOD = 30, 60.0  # lines at most in so many seconds
MORE = "(server) More was printed; it is left out for a minute."


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Sends all that libraries print and log through a `Console`."""
    console, root = Console(sys.stderr), logging.getLogger()
    kept, root.handlers = root.handlers, [logging.StreamHandler(console)]
    try:
        with contextlib.redirect_stdout(console), contextlib.redirect_stderr(console):
            yield
    finally:
        root.handlers = kept


class Console:
    """A terminal for the messages of libraries.

    Every line begins with `(server)`, line breaks within a message are escaped, and a failure is told by its kind and
    place alone: messages hold people's words.
    """

    encoding = "utf-8"

    def __init__(self, terminal: TextIO) -> None:
        self._terminal, self._lock = terminal, threading.Lock()
        self._mine = threading.local()  # what a thread has written of a line, and the failure it told last
        self._times: deque[float] = deque(maxlen=LINES)
        self._is_full = False

    def write(self, text: str) -> int:
        """Takes a part of a message; the message ends with the part that ends with a line break."""
        failure = sys.exc_info()[1]
        if failure is not None:
            if getattr(self._mine, "failure", None) != id(failure):  # printed in many parts
                self._mine.failure = id(failure)
                self._print(_place(failure))
            return len(text)
        self._mine.failure = None
        self._mine.text = (getattr(self._mine, "text", "") + text)[: 2 * LONGEST]
        if text.endswith("\n"):
            message, self._mine.text = self._mine.text.strip(), ""
            if message:
                self._print(message.encode("unicode_escape").decode()[:LONGEST])
        return len(text)

    def flush(self) -> None:
        """Brings what was written to the terminal."""
        self._terminal.flush()

    def isatty(self) -> bool:
        """A message has no colours."""
        return False

    def _print(self, line: str) -> None:
        now = time.monotonic()
        with self._lock:
            is_full = len(self._times) == LINES and now - self._times[0] < PERIOD
            if not is_full:
                self._times.append(now)
                self._terminal.write(f"(server) {line}\n")
            elif not self._is_full:
                self._terminal.write(f"{MORE}\n")
            self._is_full = is_full
            self._terminal.flush()


def _place(failure: BaseException) -> str:
    """The kind of a failure, and the last lines of code that it came through."""
    frames = list(walk_tb(failure.__traceback__))[-3:]
    places = [f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in reversed(frames)]
    return f"{type(failure).__name__} at {' < '.join(places)}"[:LONGEST]
