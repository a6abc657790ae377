"""Changing the texts of a file whole or not at all, with a note in the journal before, and undoing it."""

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from captioning.errors import CaptioningError, DataError
from captioning.inference.metadata import picture, xmp
from captioning.inference.metadata.journal import Entry, Journal, Run
from captioning.inference.metadata.picture import Texts
from captioning.inference.metadata.splices import CHUNK, Source, Splice, copy, reverse, source_of
from captioning.inference.records import name_of
from captioning.runtime.files import atomic_file

MAX_SIDECAR = xmp.MAX_PACKET


class Kind(NamedTuple):
    """How the texts of a kind of file are read and written."""

    read: Callable[[Source], Texts]
    splices: Callable[[Source, Mapping[str, str | None]], list[Splice]]


def _whole(source: Source) -> bytes:
    if source.size > MAX_SIDECAR:
        raise DataError(f"has {source.size:,} bytes, of which {MAX_SIDECAR:,} at most were expected.")
    return source.at(0, source.size)


def _read_sidecar(source: Source) -> Texts:
    return xmp.read(_whole(source)) if source.size else {}


def _sidecar_splices(source: Source, texts: Mapping[str, str | None]) -> list[Splice]:
    return [Splice(0, source.size, xmp.edit(_whole(source), texts))]


def _read_text(source: Source) -> Texts:
    return {"text": _whole(source).decode("utf-8", "surrogateescape")} if source.size else {}


def _text_splices(source: Source, texts: Mapping[str, str | None]) -> list[Splice]:
    return [Splice(0, source.size, (texts["text"] or "").encode("utf-8", "surrogateescape"))]


KINDS = {
    "picture": Kind(picture.read, picture.splices),
    "xmp": Kind(_read_sidecar, _sidecar_splices),
    "text": Kind(_read_text, _text_splices),
}


def read_texts(path: Path, kind: str) -> Texts:
    """The texts that a file holds; none where it is absent."""
    try:
        with _opened(path) as file:
            return KINDS[kind].read(Source(file))
    except FileNotFoundError:
        return {}


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, whose mistakes and those of the system are told in a sentence that begins with its name."""
    if path.is_symlink():
        raise DataError(f"{name_of(path)} is a symbolic link; give the file that it points to.")
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DataError("is no ordinary file; give one.")
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{name_of(path)} cannot be read: {(error.strerror or str(error)).lower()}.") from None
    except DataError as error:
        raise DataError(f"{name_of(path)} {error}") from None


def _possible(texts: Texts, kind: str, source: Source) -> Texts:
    has_iptc = kind != "picture" or picture.has_place_for_iptc(source)
    return {name: text for name, text in texts.items() if name != "iptc" or has_iptc}


@dataclass(frozen=True)
class Rewriter:
    """Writes texts into files, and notes each in a journal first."""

    journal: Journal
    keep_times: bool = False

    def write(self, path: Path, kind: str, texts: Callable[[Texts], Texts]) -> None:
        """Sets the texts of a file to what `texts` makes of those it holds; a sidecar that is not there is made."""
        if kind != "picture" and not os.path.lexists(path):
            return self._create(path, kind, texts({}))
        try:
            with _opened(path) as file:
                source = Source(file)
                before = KINDS[kind].read(source)
                new = _possible(texts(before), kind, source)
                if all(before.get(name) == text for name, text in new.items()):
                    return  # the file says so already
                splices = KINDS[kind].splices(source, new)
                entry = Entry("", kind, "", 0, before, {**before, **new}, reverse(source, splices))
                self._replace(path, file, splices, entry)
        except FileNotFoundError:
            raise DataError(f"{name_of(path)} is not there any more; nothing was written.") from None

    def _replace(self, path: Path, file: BinaryIO, splices: list[Splice], entry: Entry) -> None:
        with replacing(path, file, keep_times=self.keep_times) as target:
            digest = copy(Source(file), splices, target)
            time = os.fstat(file.fileno()).st_mtime_ns
            self.journal.add(replace(entry, file=self.journal.name_of(path), sha256=digest, time=time))

    def _create(self, path: Path, kind: str, texts: Texts) -> None:
        data = KINDS[kind].splices(source_of(b""), texts)[0].data
        with atomic_file(path) as target:
            target.write(data)
            digest = hashlib.sha256(data).hexdigest()
            self.journal.add(Entry(self.journal.name_of(path), kind, digest, 0, {}, texts, None))


@contextmanager
def replacing(path: Path, file: BinaryIO, *, keep_times: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which replaces the open `file` at `path` and has its mode, unless that has changed meanwhile."""
    before = os.fstat(file.fileno())
    if not before.st_mode & stat.S_IWUSR or not os.access(path, os.W_OK):
        raise DataError("is read-only; allow writing to it, or use --sidecar --format xmp.")
    with atomic_file(path) as target:
        yield target
        target.flush()
        try:
            shutil.copystat(path, target.name)
            now = os.lstat(path)
        except FileNotFoundError:
            raise DataError("is not there any more; nothing was written.") from None
        if not keep_times:
            os.utime(target.name)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise DataError("was changed by another program meanwhile; nothing was written, try again.")


@dataclass
class Undone:
    """What became of the files of a run that was undone."""

    files: int = 0  # as they were, byte for byte
    texts: int = 0  # another program has changed the file since: its texts alone are as they were
    problems: list[str] = field(default_factory=list)

    def text(self, earlier: int) -> str:
        """One sentence, then a line for each problem."""
        parts = [f"{self.files + self.texts:,} file{'s' * (self.files + self.texts != 1)} as before"]
        if self.texts:
            parts.append(f"{self.texts:,} of them in their texts alone, since other programs changed them later")
        if self.problems:
            parts.append(f"{len(self.problems):,} left as they are")
        if earlier:
            parts.append(f"{earlier:,} earlier run{'s' * (earlier != 1)} can be undone next")
        return "\n".join([", ".join(parts) + (":" if self.problems else "."), *(f"  {one}" for one in self.problems)])


def undo(path: Path) -> tuple[Undone, int]:
    """Undoes the last run of a journal that is not undone yet, and says how many runs are left."""
    if not path.is_file():
        raise DataError(f"{path} is not there; name the journal of the run.")
    journal = Journal(path)
    try:
        runs = [run for run in journal.runs if not run.is_undone]
        if not runs:
            raise DataError(f"{path} holds no run that could be undone.")
        result = _undo_run(journal, runs[-1])
        journal.undone(runs[-1])
        return result, len(runs) - 1
    finally:
        journal.close()


def _undo_run(journal: Journal, run: Run) -> Undone:
    result = Undone()
    for entry in reversed(run.entries):
        place = journal.path_of(entry.file)
        try:
            is_exact = _undo_entry(place, entry)
            result.files += is_exact is True
            result.texts += is_exact is False
        except FileNotFoundError:
            if entry.back is not None:
                result.problems.append(f"{name_of(place)} is not there any more.")
        except CaptioningError as error:
            result.problems.append(str(error))
    return result


def _undo_entry(path: Path, entry: Entry) -> bool | None:
    """True: the file is as before; False: its texts are; None: it was so already."""
    with _opened(path) as file:
        if _digest(file) != entry.sha256:
            return _undo_texts(path, file, entry)
        if entry.back is None:
            path.unlink()
            return True
        with replacing(path, file, keep_times=True) as target:
            copy(Source(file), entry.back, target)
        os.utime(path, ns=(os.stat(path).st_atime_ns, entry.time))
        return True


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while data := file.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()


def _undo_texts(path: Path, file: BinaryIO, entry: Entry) -> bool | None:
    kind, source = KINDS[entry.kind], Source(file)
    now = kind.read(source)
    names = {*entry.before, *entry.after}
    wanted = {name: entry.before.get(name) for name in names if now.get(name) != entry.before.get(name)}
    if not wanted:
        return None
    if any(now.get(name) != entry.after.get(name) for name in wanted):
        raise DataError("holds another text by now, which is kept.")
    splices = kind.splices(source, wanted)
    with replacing(path, file) as target:
        copy(source, splices, target)
    return False
