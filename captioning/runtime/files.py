"""Atomic writes of files, and locks that let one program at a time write to a folder."""

import contextlib
import errno
import os
import shutil
import socket
import time
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

from captioning.errors import StorageError

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EROFS: "the disk is read-only"}


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turns an OSError into a StorageError that names the reason and the free space."""
    try:
        yield
    except OSError as error:
        reason = _FULL.get(error.errno or 0, (error.strerror or str(error)).lower())
        advice = f"free some space (now {_in_words(_free(path))} free) or choose another folder"
        raise StorageError(
            f"{path} could not be written: {reason}; {advice}; nothing that was there is lost."
        ) from error


def require_space(folder: Path, bytes_needed: int, *, flag: str = "--cache") -> None:
    """Raises StorageError if the disk of `folder` has too little space. `flag` is the option for another folder."""
    free = _free(folder)
    if bytes_needed > free:
        raise StorageError(
            f"{folder} needs {_in_words(bytes_needed)} more and its disk has {_in_words(free)} free; "
            f"free some space, or give a folder on another disk with {flag} FOLDER."
        )


def is_same_disk(one: Path, other: Path) -> bool:
    """Whether two folders, there or not yet, take their space from the same file system."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _free(path: Path) -> int:
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def _in_words(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


@contextlib.contextmanager
def atomic_file(path: Path, *, earlier: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write under a temporary name. When the block ends without an error, it is synced and renamed to `path`.

    A previous file at `path` is replaced, or renamed to `earlier`.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with explain_disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if earlier and path.exists():
                os.replace(path, earlier)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def atomic_write(path: Path, data: bytes | str) -> None:
    """Writes a file completely or not at all."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def sync_folder(folder: Path) -> None:
    """Syncs a folder's own entries to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Locks a folder until the block ends or the process dies. A second process gets StorageError.

    An empty folder is removed afterwards.
    """
    with contextlib.ExitStack() as stack:
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(folder / ".lock", "ab+", buffering=0))
            _take(file, folder)
        stack.callback(_tidy, folder)
        yield


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Waits until no other program is in such a block with this folder, and says that it waits."""
    lock, has_told = folder / ".lock", False
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while (file := _open_locked(lock)) is None:
            if not has_told:
                print(f"Another program writes to {folder}; this one goes on when that has ended.", flush=True)
            has_told = True
            time.sleep(0.1)
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps files that are open
                lock.unlink()


def _open_locked(lock: Path) -> BinaryIO | None:
    """The lock's file, held until it is closed; None if another program has it, or has just removed it."""
    with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
        file = stack.enter_context(open(lock, "ab"))
        if _locks(file, lock):
            stack.pop_all()
            return file
    return None


def _locks(file: RawIOBase | BinaryIO, lock: Path) -> bool:
    """Whether the open file is locked now, and is still the one of that name."""
    return try_lock(file.fileno()) and os.path.samestat(os.fstat(file.fileno()), os.stat(lock))


def _take(file: RawIOBase, folder: Path) -> None:
    if not _locks(file, folder / ".lock"):
        file.seek(0)
        holder = (file.read() or b"started just now").decode()
        raise StorageError(f"Another training ({holder}) writes to {folder}; wait for it, or choose another --name.")
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M')}".encode())


def _tidy(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [".lock"]:
            (folder / ".lock").unlink()
            folder.rmdir()


def try_lock(handle: int) -> bool:
    """Locks an open file until it is closed or the process dies; False if another process holds it."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
    except BlockingIOError:
        return False
    return True
