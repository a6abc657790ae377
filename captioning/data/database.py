"""SQLite files of ours: marked, of a known format, written in whole transactions, with errors in a sentence."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioning.errors import DataError, StorageError
from captioning.runtime.files import explain_disk_errors

TIMEOUT = 30  # seconds that a writer waits for the lock
REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it, or its folder, cannot be opened for writing",
    sqlite3.SQLITE_BUSY: "another program holds its lock",
    sqlite3.SQLITE_NOTADB: "it is not a database",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a backup",
}


@dataclass(frozen=True)
class Layout:
    """What a database is for, its application id and format version in the header, and its tables."""

    purpose: str
    mark: int
    form: int
    tables: Sequence[str]


class Database:
    """One file. Threads and processes may use it concurrently."""

    def __init__(self, path: str | Path, layout: Layout) -> None:
        self.path, self._layout = Path(path).absolute(), layout
        with explain_disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.writing() as database:
            self._check_or_create(database)

    @contextlib.contextmanager
    def connected(self, *, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection; what `is_durable` commits survives a power cut, and else the end of the process alone."""
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=TIMEOUT, isolation_level=None)) as database:
                database.row_factory = sqlite3.Row
                database.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'OFF'}")
                yield database
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary result code
            raise StorageError(
                f"{self.path} could not be used: {REASONS.get(code, error)}; nothing that was there is lost."
            ) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise DataError(
                f"The text has an invalid character, or a number is too large ({error}); type it again."
            ) from error

    @contextlib.contextmanager
    def writing(self, *, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One exclusive transaction. An error in the block rolls it back."""
        with self.connected(is_durable=is_durable) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    def _check_or_create(self, database: sqlite3.Connection) -> None:
        layout = self._layout
        mark, form, tables = (
            database.execute(question).fetchone()[0]
            for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if not (mark or form or tables):
            header = f"PRAGMA application_id = {layout.mark}", f"PRAGMA user_version = {layout.form}"
            for statement in (*layout.tables, *header):
                database.execute(statement)
        elif mark != layout.mark:
            raise StorageError(
                f"{self.path} is another program's database; choose another file for the {layout.purpose}."
            )
        elif form != layout.form:
            raise StorageError(
                f"{self.path} has format {form}, this version reads format {layout.form}; "
                "update captioning, or choose another file."
            )
