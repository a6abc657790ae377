"""Fault injection: a disk that fails at a chosen operation, or a process that is killed there."""

import builtins
import io
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from captioning.runtime import files

DONE = ("open", "write", "fsync", "replace", "rename", "mkdir", "rmdir", "unlink")


class Killed(BaseException):
    """Stands for a kill. No later operation reaches the disk."""


class Written(io.FileIO):
    """A file whose writes are counted."""

    disk: "FaultyDisk"

    def write(self, data) -> int:
        if self.disk.is_dead:
            return len(data)
        self.disk.does("write", self.name)
        return super().write(data)


class FaultyDisk:
    """Counts the operations in a folder and fails at number `at`, from 1, with an error number or a kill.

    An error that `lasts` also refuses all later operations except removals.
    """

    def __init__(
        self, folder: Path, *, at: int = 0, error: int | None = None, lasts: bool = False, only: Collection[str] = DONE
    ) -> None:
        self.folder, self.at, self.error, self.lasts, self.only = folder, at, error, lasts, only
        self.done: list[tuple[str, str]] = []
        self.is_dead = False

    def __enter__(self) -> "FaultyDisk":
        self.patch = pytest.MonkeyPatch()
        for name in DONE[2:]:
            self.patch.setattr(os, name, self._watched(name, getattr(os, name)))
        self.patch.setattr(files, "open", self._open, raising=False)
        return self

    def __exit__(self, *_) -> None:
        self.patch.undo()

    @property
    def has_failed(self) -> bool:
        return 0 < self.at <= len(self.done)

    def does(self, what: str, place: str | Path) -> None:
        if self.is_dead:
            raise Killed
        if what not in self.only or not Path(place).is_relative_to(self.folder):
            return
        self.done.append((what, Path(place).name))
        if len(self.done) == self.at or (self.lasts and self.has_failed and what not in ("rmdir", "unlink")):
            if self.error is None:
                self.is_dead = True
                raise Killed
            raise OSError(self.error, os.strerror(self.error))

    def _watched(self, name: str, real: Callable) -> Callable:
        def call(*arguments, **others):
            self.does(name, _place(arguments[-1 if name in ("replace", "rename") else 0], others.get("dir_fd")))
            return real(*arguments, **others)

        return call

    def _open(self, path, mode="r", **others):
        if mode != "wb":
            return builtins.open(path, mode, **others)
        self.does("open", path)
        file = Written(path, mode)
        file.disk = self
        return io.BufferedWriter(file)


def _place(argument, folder: int | None) -> str:
    """The path of a file given by its path, its descriptor, or its name within an opened folder."""
    if isinstance(argument, int):
        return os.readlink(f"/proc/self/fd/{argument}")
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), argument) if folder else os.fspath(argument)


def failing_everywhere(
    act: Callable[[], None], prepare: Callable[[], Path], **fault
) -> Iterator[tuple[FaultyDisk, object]]:
    """Run `act` once for each of its disk operations and fail there. Yield the disk and the exception of `act`."""
    for at in range(1, 10_000):
        disk, raised = FaultyDisk(prepare(), at=at, **fault), None
        with disk:
            try:
                act()
            except (Killed, Exception) as error:
                raised = error
        if not disk.has_failed:
            return
        yield disk, raised
