"""A change of a file as splices: everything outside them is copied byte for byte, and each has its reverse."""

import hashlib
import io
import itertools
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from captioning.errors import DataError

CHUNK = 1 << 20  # bytes copied at a time


class Splice(NamedTuple):
    """The bytes from `start` to `end` become `data`."""

    start: int
    end: int
    data: bytes

    @property
    def growth(self) -> int:
        """By how many bytes the file grows."""
        return len(self.data) - (self.end - self.start)


class Source:
    """A file, or a window of it, whose bytes are read by position; reading past its end is refused."""

    def __init__(self, file: BinaryIO, start: int = 0, size: int | None = None) -> None:
        self._file, self._start = file, start
        self.size = file.seek(0, io.SEEK_END) - start if size is None else size

    def at(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`."""
        if start < 0 or length < 0 or start + length > self.size:
            raise DataError("ends too early, or names bytes that it lacks; copy or export it again.")
        self._file.seek(self._start + start)
        data = self._file.read(length)
        if len(data) != length:
            raise DataError("became shorter while it was read; try again.")
        return data

    def up_to(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return self.at(start, max(0, min(length, self.size - start)))

    def window(self, start: int, length: int) -> "Source":
        """A part of it."""
        if start < 0 or length < 0 or start + length > self.size:
            raise DataError("ends too early, or names bytes that it lacks; copy or export it again.")
        return Source(self._file, self._start + start, length)


def source_of(data: bytes) -> Source:
    """Bytes in memory, read by position."""
    return Source(io.BytesIO(data))


def in_order(splices: Iterable[Splice]) -> list[Splice]:
    """Sorted by place; insertions at one place keep their order. Overlapping ones are refused."""
    found = sorted(splices, key=lambda splice: (splice.start, splice.end))
    for one, following in itertools.pairwise(found):
        if one.end > following.start:
            raise DataError("has metadata that overlaps itself; repair or remove it.")
    return found


def copy(source: Source, splices: list[Splice], target: BinaryIO) -> str:
    """Writes the changed file to `target`; the SHA-256 of what was written is returned."""
    digest, place = hashlib.sha256(), 0

    def write(data: bytes) -> None:
        digest.update(data)
        target.write(data)

    for start, end, data in [*in_order(splices), Splice(source.size, source.size, b"")]:
        for chunk in range(place, start, CHUNK):
            write(source.at(chunk, min(CHUNK, start - chunk)))
        write(data)
        place = end
    return digest.hexdigest()


def spliced(data: bytes, splices: list[Splice]) -> bytes:
    """The changed bytes."""
    target = io.BytesIO()
    copy(source_of(data), splices, target)
    return target.getvalue()


def reverse(source: Source, splices: list[Splice]) -> list[Splice]:
    """The splices that lead back from the changed file to `source`."""
    back, shift = [], 0
    for splice in in_order(splices):
        start = splice.start + shift
        back.append(Splice(start, start + len(splice.data), source.at(splice.start, splice.end - splice.start)))
        shift += splice.growth
    return back
