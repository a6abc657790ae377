"""A file of JSON lines with what each run changed, written before the change, and the way back.

A run begins with {"run": ..., "settings": ...}, has a line for each file, and ends with {"end": ...}. One that was
killed has no end: the next run with the same settings goes on with it. {"undone": ...} says that a run was undone.
"""

import base64
import binascii
import datetime
import errno
import json
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioning.errors import DataError, StorageError
from captioning.inference.metadata.picture import Texts
from captioning.inference.metadata.splices import Splice
from captioning.runtime.files import explain_disk_errors, try_lock

DEFAULT_JOURNAL = Path("captions-journal.jsonl")  # in the current folder
BEGINNING = b'{"run": '
Settings = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One file's change: what it became (its SHA-256), its texts before and after, and the splices that lead back.

    `back` is None for a file that was not there before.
    """

    file: str
    kind: str  # picture, xmp or text
    sha256: str
    time: int  # of the last change before, in nanoseconds
    before: Texts
    after: Texts
    back: list[Splice] | None

    def as_json(self) -> dict[str, Any]:
        """The values of its line."""
        back = None if self.back is None else [[one.start, one.end, _packed(one.data)] for one in self.back]
        return {**self.__dict__, "back": back}


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def _entry(record: dict[str, Any]) -> Entry:
    back = record.pop("back")
    splices = None if back is None else [Splice(start, end, _unpacked(text)) for start, end, text in back]
    entry = Entry(**record, back=splices)
    texts = (entry.file, entry.kind, entry.sha256, *entry.before.values(), *entry.after.values())
    if not all(isinstance(text, str) for text in texts) or not isinstance(entry.time, int):
        raise TypeError("a value of another type")
    return entry


def _unpacked(text: str) -> bytes:
    reader = zlib.decompressobj()
    data = reader.decompress(base64.b64decode(text, validate=True), 1 << 28)
    if not reader.eof:
        raise ValueError("a block that is cut off, or larger than 256 MB")
    return data


@dataclass
class Run:
    """One run: its number, its settings, its changes in their order, and whether it ended or was undone."""

    number: int
    settings: Settings
    entries: list[Entry] = field(default_factory=list)
    has_ended: bool = False
    is_undone: bool = False


def read(path: Path) -> tuple[list[Run], int]:
    """The runs of a journal, and how many of its bytes are whole lines."""
    runs: list[Run] = []
    size = 0
    try:
        for line in _lines(path):
            if not line.endswith(b"\n"):  # of a run that was killed
                if not runs and not BEGINNING.startswith(line[: len(BEGINNING)]):
                    raise ValueError("no line is whole")
                break
            record = json.loads(line)
            if "run" in record:
                runs.append(Run(len(runs), dict(record["settings"])))
            elif "end" in record:
                runs[record["end"]].has_ended = True
            elif "undone" in record:
                runs[record["undone"]].is_undone = True
            else:
                runs[-1].entries.append(_entry(record))
            size += len(line)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, binascii.Error, zlib.error) as error:
        raise DataError(f"{path} is not a journal of captions ({error}); name another file.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; name the journal of the run.") from None
    return runs, size


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as lines:
        yield from lines


class Journal:
    """A journal that is open for one run, and locked; `done` holds what this run wrote before it was killed."""

    def __init__(self, path: Path, settings: Settings | None = None) -> None:
        self.path, self._settings, self._has_begun = path, settings, False
        self._lock = threading.Lock()
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115  (closed by `close`)
        if not try_lock(self._file.fileno()):
            self._file.close()
            raise StorageError(f"{path} is written by another run; wait for it, or give another --journal.")
        try:
            self.runs, self._end = read(path)
        except DataError:
            self._file.close()
            raise
        last = self.runs[-1] if self.runs else None
        self._goes_on = bool(last and last.settings == settings and not last.has_ended and not last.is_undone)
        self.done = {entry.file: entry.after for entry in last.entries} if last and self._goes_on else {}

    def add(self, entry: Entry) -> None:
        """Notes a change; it is on the disk when this returns. Several threads may do so."""
        with self._lock:
            if not self._has_begun and not self._goes_on:
                moment = datetime.datetime.now().isoformat(timespec="seconds")
                self._write({"run": moment, "settings": self._settings})
                self.runs.append(Run(len(self.runs), self._settings or {}))
            self._has_begun = True
            self._write(entry.as_json())
        self._sync()

    def _sync(self) -> None:
        with explain_disk_errors(self.path):
            os.fsync(self._file.fileno())

    def _write(self, record: dict[str, Any]) -> None:
        data = json.dumps(record).encode() + b"\n"
        with explain_disk_errors(self.path):
            self._file.truncate(self._end)  # half a line of a killed run, or of a full disk
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "the disk is full")
        self._end += len(data)

    def finish(self) -> None:
        """Notes that the run has ended; the next one begins anew."""
        if self._has_begun or self._goes_on:
            self._write({"end": len(self.runs) - 1})
            self._sync()

    def undone(self, run: Run) -> None:
        """Notes that a run was undone."""
        self._write({"undone": run.number})
        self._sync()

    def close(self) -> None:
        """Gives the journal back; one that nothing was written to is removed."""
        self._file.close()
        if not self._end and self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()

    def name_of(self, path: Path) -> str:
        """A file's name in the journal: within its folder where it is there, so that both can be moved."""
        absolute, folder = Path(os.path.abspath(path)), Path(os.path.abspath(self.path)).parent
        return str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)

    def path_of(self, name: str) -> Path:
        """The file of that name."""
        return self.path.parent / name
