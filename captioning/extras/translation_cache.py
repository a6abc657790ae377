"""Translations that were made before, in an SQLite file that several processes may use at once.

A cache is never worth a failed run: a damaged file is begun anew, one that cannot be used is left alone, and either is
said in one sentence.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from captioning.data.database import Database, Layout
from captioning.errors import CaptioningError, StorageError
from captioning.runtime.files import try_lock

FILE = "translations.db"
MOST = 100_000  # translations that are kept, the newest
AT_ONCE = 500  # texts of one question: fewer than the variables that SQLite takes
LAYOUT = Layout(
    "translations",
    0x43415054,
    1,
    (
        "CREATE TABLE translations (id INTEGER PRIMARY KEY, model TEXT NOT NULL, language TEXT NOT NULL, "
        "text TEXT NOT NULL, translation TEXT NOT NULL, UNIQUE (model, language, text))",
    ),
)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Tell = Callable[[str], None]


def cache_folder() -> Path:
    """Where this person's caches of ours are: captioning in XDG_CACHE_HOME, which is ~/.cache unless it is set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captioning"


class TranslationCache:
    """Translations of texts into one language by one model."""

    def __init__(self, model: str, language: str, *, tell: Tell, path: Path | None = None) -> None:
        self._model, self._language, self._tell = model, language, tell
        self.path = path or cache_folder() / FILE
        self._is_used = True
        self._database: Database | None = None

    def find(self, texts: Sequence[str]) -> dict[str, str]:
        """The translations of those texts that have one."""
        return self._attempt(lambda database: self._find(database, texts)) or {}

    def add(self, translations: Mapping[str, str]) -> None:
        """Keeps translations by their texts."""
        if translations:
            self._attempt(lambda database: self._add(database, translations))

    def _find(self, database: Database, texts: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        with database.connected(is_durable=False) as connection:
            for first in range(0, len(texts), AT_ONCE):
                part = texts[first : first + AT_ONCE]
                rows = connection.execute(
                    "SELECT text, translation FROM translations WHERE model = ? AND language = ? AND text IN "
                    f"({', '.join('?' * len(part))})",
                    (self._model, self._language, *part),
                )
                found |= {row["text"]: row["translation"] for row in rows}
        return found

    def _add(self, database: Database, translations: Mapping[str, str]) -> dict[str, str]:
        rows = [(self._model, self._language, *pair) for pair in translations.items()]
        with database.writing(is_durable=False) as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO translations (model, language, text, translation) VALUES (?, ?, ?, ?)", rows
            )
            connection.execute("DELETE FROM translations WHERE id <= (SELECT max(id) FROM translations) - ?", (MOST,))
        return {}

    def _attempt(self, work: Callable[[Database], dict[str, str]]) -> dict[str, str] | None:
        """What the work returns; None where the cache cannot be used."""
        if not self._is_used:
            return None
        try:
            try:
                return work(self._opened())
            except StorageError as error:
                if not (_is_damaged(error) and self._begin_anew()):
                    raise
            return work(self._opened())
        except (CaptioningError, OSError) as error:
            self._is_used = False
            self._tell(f"Translations are not kept: {error}")
            return None

    def _opened(self) -> Database:
        self._database = self._database or Database(self.path, LAYOUT)
        return self._database

    def _begin_anew(self) -> bool:
        """Removes a damaged file, unless another process does so now or has done so."""
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(self.path.with_suffix(".lock"), "ab"))
            if not try_lock(file.fileno()):
                return False
            if self._is_still_damaged():
                for path in (self.path, *(Path(f"{self.path}{end}") for end in ("-journal", "-wal", "-shm"))):
                    path.unlink(missing_ok=True)
                self._tell(f"{self.path} was damaged and is begun anew; it only held translations made before.")
            self._database = None
        return True

    def _is_still_damaged(self) -> bool:
        try:
            with self._opened().connected() as connection:
                connection.execute("SELECT model, language, text, translation FROM translations LIMIT 1")
                return connection.execute("PRAGMA quick_check").fetchone()[0] != "ok"
        except StorageError as error:
            return _is_damaged(error)


def _is_damaged(error: StorageError) -> bool:
    """Whether SQLite found the file damaged, or the tables of our own format are missing from it."""
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code in DAMAGED or (isinstance(cause, sqlite3.OperationalError) and "no such table" in str(cause))
