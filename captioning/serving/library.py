"""The pictures of folders with their captions and corrections, in one SQLite file that can be searched.

A picture is known by its path in its folder. What a person wrote is kept while the folder, or a picture, is away.
"""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioning.data.database import Database, Layout
from captioning.data.dataset import find_images
from captioning.data.feedback import MAX_TEXT
from captioning.data.tokenizer import is_ideograph
from captioning.errors import DataError

MARK, FORMAT = 0x43464F4C, 1  # application id and format version in the database header
MOST_ROWS = 200  # that are handed out at once
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")

TABLES = (
    "CREATE TABLE folder (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, opened INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE picture (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL REFERENCES folder, name TEXT NOT NULL, "
    "size INTEGER NOT NULL, time INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0, bundle TEXT NOT NULL DEFAULT '', "
    "caption TEXT, score REAL, confidence REAL, verdict TEXT NOT NULL DEFAULT '', language TEXT NOT NULL DEFAULT '', "
    "correction TEXT NOT NULL DEFAULT '', accepted INTEGER NOT NULL DEFAULT 0, problem TEXT NOT NULL DEFAULT '', "
    "feedback INTEGER, learnt TEXT NOT NULL DEFAULT '', UNIQUE (folder, name))",
    "CREATE TABLE change (step INTEGER NOT NULL, picture INTEGER NOT NULL, correction TEXT NOT NULL, "
    "accepted INTEGER NOT NULL)",
    "CREATE INDEX change_step ON change (step)",
    "CREATE TABLE thumbnail (picture INTEGER PRIMARY KEY, jpeg BLOB NOT NULL)",
    "CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')",
)
CALIBRATED = "CASE verdict WHEN 'unfamiliar' THEN -1 WHEN 'not calibrated' THEN {0} ELSE coalesce(confidence, {0}) END"
ORDERS = {
    "name": "name",
    "least": f"{CALIBRATED.format(2)}, name",
    "most": f"{CALIBRATED.format(-2)} DESC, name",
}
FILTERS = {
    "all": "1",
    "open": "NOT accepted",
    "unsure": "verdict IN ('not sure', 'not calibrated', 'unknown') AND NOT accepted",
    "unfamiliar": "verdict = 'unfamiliar' AND NOT accepted",
    "accepted": "accepted",
    "corrected": "correction <> ''",
    "none": "caption IS NULL AND correction = ''",
    "trouble": "problem <> ''",
}
TEXT = "coalesce(nullif(correction, ''), caption, '')"
SHOWN = f"id, name, time, {TEXT} AS text, caption, confidence, verdict, language, correction, accepted, problem, score"

Row = dict[str, Any]


@dataclass(frozen=True)
class View:
    """Which pictures of a folder are shown, and in which order; `words` are searched in captions and names."""

    order: str = "name"
    show: str = "all"
    words: str = ""

    def __post_init__(self) -> None:
        for kind, chosen, known in (("order", self.order, ORDERS), ("filter", self.show, FILTERS)):
            if chosen not in known:
                raise DataError(f"{chosen} is no {kind}; expected one of {', '.join(known)}.")


class Library:
    """The folders in one database. Threads and processes may use it concurrently."""

    def __init__(self, path: str | Path) -> None:
        database = Database(path, Layout("folders", MARK, FORMAT, TABLES))
        self.path, self.connected, self.writing = database.path, database.connected, database.writing
        with self.connected() as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # rows are read while captions are written

    def open_folder(self, folder: Path) -> int:
        """Brings the pictures below a folder up to date, and returns the folder's number.

        A picture whose file has changed is captioned anew; what a person wrote about it stays.
        """
        found = _files_in(folder)
        with self.writing() as database:
            database.execute("INSERT OR IGNORE INTO folder (path) VALUES (?)", (str(folder),))
            (number,) = database.execute("SELECT id FROM folder WHERE path = ?", (str(folder),)).fetchone()
            database.execute("UPDATE folder SET opened = 1 + (SELECT max(opened) FROM folder) WHERE id = ?", (number,))
            database.execute("UPDATE picture SET gone = 1 WHERE folder = ?", (number,))
            database.executemany(
                "INSERT INTO picture (folder, name, size, time) VALUES (?, ?, ?, ?) ON CONFLICT (folder, name) DO "
                "UPDATE SET gone = 0, caption = iif(size = excluded.size AND time = excluded.time, caption, NULL), "
                "verdict = iif(size = excluded.size AND time = excluded.time, verdict, ''), "
                "confidence = iif(size = excluded.size AND time = excluded.time, confidence, NULL), problem = '', "
                "accepted = accepted AND (correction <> '' OR (size = excluded.size AND time = excluded.time)), "
                "size = excluded.size, time = excluded.time",
                [(number, *file) for file in found],
            )
            changed = "SELECT id FROM picture WHERE folder = ? AND NOT gone AND caption IS NULL"
            ids = [row[0] for row in database.execute(changed, (number,))]
            database.executemany("DELETE FROM thumbnail WHERE picture = ?", ((each,) for each in ids))
            _index(database, ids)
        return int(number)

    def folders(self) -> list[str]:
        """The folders that were opened, the last one first."""
        with self.connected() as database:
            return [row[0] for row in database.execute("SELECT path FROM folder ORDER BY opened DESC LIMIT 20")]

    def rows(self, folder: int, view: View, start: int = 0, count: int | None = MOST_ROWS) -> tuple[int, list[Row]]:
        """How many pictures a view shows, and some of them in its order; all of them without a count."""
        where, values = _where(folder, view)
        with self.connected() as database:
            (total,) = database.execute(f"SELECT count(*) FROM picture WHERE {where}", values).fetchone()
            limit = -1 if count is None else max(0, min(count, MOST_ROWS))
            rows = database.execute(
                f"SELECT {SHOWN} FROM picture WHERE {where} ORDER BY {ORDERS[view.order]} LIMIT ? OFFSET ?",
                (*values, limit, max(0, start)),
            )
            return int(total), [dict(row) for row in rows]

    def counts(self, folder: int) -> dict[str, int]:
        """The number of pictures that each filter shows, and of the steps that can be undone."""
        sums = ", ".join(f"coalesce(sum({condition}), 0) AS '{name}'" for name, condition in FILTERS.items())
        with self.connected() as database:
            row = database.execute(f"SELECT {sums} FROM picture WHERE folder = ? AND NOT gone", (folder,)).fetchone()
            steps = database.execute(f"SELECT count(DISTINCT step) FROM change WHERE {_OF}", (folder,)).fetchone()[0]
        return dict(row) | {"steps": steps}

    def picture(self, folder: int, number: int) -> Row:
        """One picture of a folder; a DataError where the folder has no such picture."""
        with self.connected() as database:
            found = database.execute(
                f"SELECT {SHOWN}, bundle, feedback, learnt FROM picture WHERE folder = ? AND id = ?", (folder, number)
            ).fetchone()
        if found is None:
            raise DataError("The folder has no such picture; open it again.")
        return dict(found)

    def waiting(self, folder: int, count: int) -> list[Row]:
        """The next pictures without a caption; those with a problem are not tried again before the folder is opened."""
        return self._select(folder, "caption IS NULL AND problem = ''", count)

    def to_learn(self, folder: int, count: int) -> list[Row]:
        """Pictures whose correction differs from what the feedback store holds."""
        return self._select(folder, "correction <> learnt AND caption IS NOT NULL", count)

    def _select(self, folder: int, condition: str, count: int) -> list[Row]:
        columns = f"{SHOWN}, bundle, feedback, learnt"
        with self.connected() as database:
            rows = database.execute(
                f"SELECT {columns} FROM picture WHERE folder = ? AND NOT gone AND {condition} ORDER BY name LIMIT ?",
                (folder, count),
            )
            return [dict(row) for row in rows]

    def update(self, rows: Sequence[Row]) -> None:
        """Stores values of pictures, by column, which the program has found; each row has its id."""
        with self.writing() as database:
            for row in rows:
                values = {name: value for name, value in row.items() if name != "id"}
                columns = ", ".join(f"{name} = ?" for name in values)
                database.execute(f"UPDATE picture SET {columns} WHERE id = ?", (*values.values(), row["id"]))
            _index(database, [row["id"] for row in rows])

    def correct(self, folder: int, number: int, text: str, before: str) -> None:
        """Stores what a person wrote in place of `before`, and accepts it; no text brings the caption back."""
        written = _checked(text)
        known = self.picture(folder, number)
        if known["text"] != before:
            raise DataError(f"{known['name']} was changed elsewhere meanwhile; it is shown as it is now.")
        correction = "" if written == (known["caption"] or "") else written
        self._change([(number, correction, int(bool(written)))])

    def accept(self, folder: int, numbers: Iterable[int], *, is_right: bool = True) -> int:
        """Marks captions as right, or takes the mark back; returns how many were changed."""
        rows = [self.picture(folder, number) for number in numbers]
        chosen = [(row["id"], row["correction"], int(is_right)) for row in rows if row["text"]]
        return self._change(chosen)

    def replace(self, folder: int, view: View, find: str, put: str) -> int:
        """Replaces whole words in the captions that a view shows; returns how many captions were changed."""
        if not find.strip():
            raise DataError("There is nothing to find; write the words that are to be replaced.")
        edges = ["" if is_ideograph(each) else r"\b" if each.isalnum() else "" for each in (find[0], find[-1])]
        pattern = re.compile(f"{edges[0]}{re.escape(find)}{edges[1]}", re.IGNORECASE)
        changes = []
        for row in self.rows(folder, view, count=None)[1]:
            text = _checked(pattern.sub(lambda _: put, row["text"]))
            if row["text"] and text and text != row["text"]:
                changes.append((row["id"], "" if text == row["caption"] else text, row["accepted"]))
        return self._change(changes)

    def undo(self, folder: int) -> int:
        """Takes back the last step in a folder; returns how many pictures it had changed."""
        with self.writing() as database:
            step = database.execute(f"SELECT max(step) FROM change WHERE {_OF}", (folder,)).fetchone()[0]
            rows = database.execute("SELECT * FROM change WHERE step = ?", (step,)).fetchall()
            for row in rows:
                values = row["correction"], row["accepted"], row["picture"]
                database.execute("UPDATE picture SET correction = ?, accepted = ? WHERE id = ?", values)
            database.execute("DELETE FROM change WHERE step = ?", (step,))
            _index(database, [row["picture"] for row in rows])
        return len(rows)

    def _change(self, changes: Sequence[tuple[int, str, int]]) -> int:
        """One step: the corrections and marks of some pictures, with those before them kept."""
        if not changes:
            return 0
        with self.writing() as database:
            (step,) = database.execute("SELECT 1 + coalesce(max(step), 0) FROM change").fetchone()
            for number, correction, accepted in changes:
                database.execute(
                    "INSERT INTO change SELECT ?, id, correction, accepted FROM picture WHERE id = ?", (step, number)
                )
                values = correction, accepted, number
                database.execute("UPDATE picture SET correction = ?, accepted = ? WHERE id = ?", values)
            _index(database, [number for number, *_ in changes])
        return len(changes)

    def thumbnail(self, number: int) -> bytes | None:
        """The thumbnail kept of a picture, if there is one."""
        with self.connected() as database:
            found = database.execute("SELECT jpeg FROM thumbnail WHERE picture = ?", (number,)).fetchone()
        return found[0] if found else None

    def keep_thumbnail(self, number: int, jpeg: bytes) -> None:
        """Keeps the thumbnail of a picture until its file changes."""
        with self.writing() as database:
            database.execute("INSERT OR REPLACE INTO thumbnail VALUES (?, ?)", (number, jpeg))


_OF = "picture IN (SELECT id FROM picture WHERE folder = ?)"


def _where(folder: int, view: View) -> tuple[str, tuple[Any, ...]]:
    where = f"folder = ? AND NOT gone AND ({FILTERS[view.show]})"
    asked = [f'"{word}"*' for word in re.findall(r"\w+", _spaced(view.words))]
    if not asked:
        return where, (folder,)
    return f"{where} AND id IN (SELECT rowid FROM words WHERE words MATCH ?)", (folder, " ".join(asked))


def _index(database: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Writes the words of pictures, their names among them, into the full-text index."""
    for number in numbers:
        database.execute("DELETE FROM words WHERE rowid = ?", (number,))
        row = database.execute("SELECT name, caption, correction FROM picture WHERE id = ?", (number,)).fetchone()
        text = _spaced(" ".join([row["name"], row["correction"] or row["caption"] or ""]))
        database.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, text))


def _spaced(text: str) -> str:
    """The text with each Chinese character as a word of its own, since no spaces divide them."""
    return "".join(f" {each} " if is_ideograph(each) else each for each in text.replace("_", " "))


def _checked(text: str) -> str:
    if CONTROL_CHARACTER.search(text.strip()):
        raise DataError("The caption holds a control character; type it again, in one line.")
    written = " ".join(text.split())
    if len(written) > MAX_TEXT:
        raise DataError(f"The caption has {len(written):,} characters: shorten it to {MAX_TEXT}.")
    return written


def _files_in(folder: Path) -> list[tuple[str, int, int]]:
    """The name, size and time of each picture below a folder."""
    if not folder.is_absolute():
        raise DataError(f"{folder} is no whole path; give one from the root on, such as {Path.home()}.")
    try:
        os.listdir(folder)
    except NotADirectoryError:
        raise DataError(f"{folder} is a file; give the folder that it is in.") from None
    except FileNotFoundError:
        raise DataError(f"{folder} does not exist; check the name.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder} cannot be read ({reason}); check its permissions.") from None
    found = []
    for path in find_images(folder):
        with contextlib.suppress(OSError, UnicodeEncodeError):  # gone meanwhile, or a name that is no text
            name, status = str(path.relative_to(folder)), path.stat()
            name.encode()
            found.append((name, status.st_size, status.st_mtime_ns))
    if not found:
        raise DataError(f"{folder} holds no picture; give a folder with some.")
    return found
