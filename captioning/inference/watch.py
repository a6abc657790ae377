"""Folders whose pictures come and change: which are new and whole, and captioning them until somebody stops it.

Folders are read again and again. That works on network drives too, which tell nobody about changes made elsewhere.
"""

import contextlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from captioning.data.dataset import is_called_like_a_picture
from captioning.errors import CaptioningError, DataError, ImageError
from captioning.inference.folder import Summary, caption_folder
from captioning.inference.left_out import LeftOut
from captioning.inference.records import name_of
from captioning.inference.writers import CaptionWriter
from captioning.runtime.stopping import StopSignals

UNFINISHED = ("empty", "truncated", "missing", "unreadable")  # of a picture that is still being written
TRIES = 3  # to read such a picture that does not change any more; each waits 4 times as long as the one before
SHARE = 10  # reading the folders takes a tenth of the time at most
TAIL = 64  # bytes: zeros at the end of a file whose space was taken before its content came
ENDS_IN_CONTENT = (".jpg", ".jpeg", ".png", ".heic", ".webp")
SENTENCES = 1000  # about pictures that were left out, which are told again at the end
OLD = 60  # seconds; what was changed earlier than this before the start is whole

Stamp = tuple[int, int]  # size and time of the last change in nanoseconds
CaptionImages = Callable[[list[Path]], Iterable[dict[Path, Any]]]


@dataclass
class _Arriving:
    """A picture that is new or has changed: since when it looks like this, and how often reading it has failed."""

    stamp: Stamp
    since: float
    failures: int = 0


class FolderWatch:
    """Finds pictures that are new or have changed, once they stay the same for `settle` seconds."""

    def __init__(self, folders: Sequence[Path], settle: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < settle < math.inf:
            raise CaptioningError(f"--every {settle} cannot be used: a number of seconds above 0 was expected.")
        for folder in folders:
            if not folder.is_dir():
                raise DataError(f"{folder} is not a folder, and only folders are watched; give one that is there.")
        self._folders, self._settle, self._clock = folders, settle, clock
        self._known: dict[Path, Stamp] = {}
        self._arriving: dict[Path, _Arriving] = {}
        self._is_first = True
        self.unreachable: list[Path] = []  # at the last look

    def look(self) -> tuple[list[Path], list[Path]]:
        """The pictures that have arrived by now, and those among them that have changed since they were captioned."""
        now, found = self._clock(), self._scan()
        if not self.unreachable:  # else a drive that is away for a while would come back as new
            self._known = {path: stamp for path, stamp in self._known.items() if path in found}
        self._arriving = {path: each for path, each in self._arriving.items() if path in found}
        ready = [path for path, stamp in found.items() if self._is_ready(path, stamp, now)]
        self._is_first = False
        return ready, [path for path in ready if path in self._known]

    def _is_ready(self, path: Path, stamp: Stamp, now: float) -> bool:
        if self._known.get(path) == stamp:
            self._arriving.pop(path, None)
            return False
        each = self._arriving.get(path)
        if not each or each.stamp != stamp:
            each = self._arriving[path] = _Arriving(stamp, now)
            if not self._is_first or time.time() - stamp[1] / 1e9 < OLD:
                return False
        elif now - each.since < self._settle * 4**each.failures:
            return False
        return not (_ends_in_zeros(path) and self.waits_for(path))

    def waits_for(self, path: Path) -> bool:
        """Whether a picture that cannot be read yet will be tried again; each failure is told to this method."""
        self._arriving[path].failures += 1
        return self._arriving[path].failures < TRIES

    def incomplete(self) -> list[Path]:
        """The pictures that could not be read yet."""
        return [path for path, each in self._arriving.items() if each.failures]

    def done(self, paths: Iterable[Path], *, changed_by_us: bool) -> None:
        """Notes that pictures were captioned, or never will be; they arrive again when they change."""
        for path in paths:
            arrived = self._arriving.pop(path).stamp
            self._known[path] = (_stamp_of(path) if changed_by_us else None) or arrived

    def _scan(self) -> dict[Path, Stamp]:
        found: dict[Path, Stamp] = {}
        self.unreachable = []
        seen: set[str] = set()
        for folder in self._folders:
            self._scan_folder(folder, found, seen)
        return found

    def _scan_folder(self, folder: Path, found: dict[Path, Stamp], seen: set[str]) -> None:
        """Adds the pictures below a folder, hidden ones apart, through links but into no folder twice."""
        real = os.path.realpath(folder)
        if real in seen:
            return
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self.unreachable.append(folder)
            return
        for entry in listed:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            try:
                if entry.is_dir():
                    self._scan_folder(Path(entry), found, seen)
                elif is_called_like_a_picture(entry.name):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        found.setdefault(Path(entry), (status.st_size, status.st_mtime_ns))
            except OSError:  # it has gone meanwhile
                continue


def _stamp_of(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _ends_in_zeros(path: Path) -> bool:
    if path.suffix.lower() not in ENDS_IN_CONTENT:
        return False
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            tail = file.read()
    except OSError:
        return False
    return len(tail) == TAIL and not any(tail)


@dataclass
class Watcher:
    """Captions what arrives in folders; `tell` is handed what became of it after each round."""

    caption: CaptionImages
    writer: CaptionWriter
    left_out: LeftOut
    tell: Callable[[Summary], None]
    changes_pictures: bool = False

    def run(self, watch: FolderWatch, every: float, warn: Callable[[str], None]) -> Summary:
        """Looks every so many seconds, until Ctrl-C or SIGTERM; what became of all pictures is returned."""
        total, missing = Summary(), list[Path]()
        with StopSignals() as signals, contextlib.suppress(KeyboardInterrupt):
            while True:
                began = time.monotonic()
                ready, changed = watch.look()
                taken = time.monotonic() - began
                for folder in set(watch.unreachable) - set(missing):
                    warn(f"{name_of(folder)} cannot be read at the moment; it is tried again.")
                missing = watch.unreachable
                if ready:
                    self.writer.forget(changed)
                    self.left_out.forget(changed)
                    self._round(watch, ready, signals, total)
                with signals.allowed():
                    time.sleep(max(every, SHARE * taken))
        for image in watch.incomplete():
            warn(f"{name_of(image)} was not whole yet; the next start captions it.")
        return total

    def _round(self, watch: FolderWatch, ready: list[Path], signals: StopSignals, total: Summary) -> None:
        """Captions the pictures that have arrived. One that is stopped leaves the rest to the next start."""
        waiting: set[Path] = set()

        def captioned(images: list[Path]) -> Iterator[dict[Path, Any]]:
            batches = iter(self.caption(images))
            while True:
                with signals.allowed():
                    batch = next(batches, None)
                if batch is None:
                    return
                waiting.update(image for image, found in batch.items() if _is_unfinished(found))
                waiting.difference_update([image for image in batch if image in waiting and not watch.waits_for(image)])
                yield {image: found for image, found in batch.items() if image not in waiting}

        summary = Summary()
        try:
            caption_folder(captioned, ready, self.writer, self.left_out, summary)
        finally:
            _add_up(total, summary)
        watch.done([image for image in ready if image not in waiting], changed_by_us=self.changes_pictures)
        if summary.written or summary.problems or summary.left_out:
            self.tell(summary)


def _is_unfinished(found: Any) -> bool:
    return isinstance(found, ImageError) and found.reason in UNFINISHED


def _add_up(total: Summary, summary: Summary) -> None:
    """Adds what became of a round's pictures; of the sentences the last ones are kept, each once."""
    for entry in fields(Summary):
        before, more = getattr(total, entry.name), getattr(summary, entry.name)
        is_count = isinstance(before, int)
        setattr(total, entry.name, before + more if is_count else list(dict.fromkeys([*before, *more]))[-SENTENCES:])
