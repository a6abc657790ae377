"""Feedback on captions in SQLite, with a copy of each image in a folder beside the database.

A row is committed after its image copy is on the disk. So a kill may leave a copy without a row, never a row without
a copy.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioning.data.database import Database, Layout
from captioning.data.tokenizer import normalise
from captioning.errors import DataError, StorageError
from captioning.runtime.files import atomic_write, explain_disk_errors
from captioning.runtime.safe_csv import csv_row

MARK, FORMAT = 0x43415054, 1  # application id and format version in the database header
MAX_TEXT = 500  # characters of a correction or a comment
MAX_ENTRIES = 20_000  # about 3 GB with their image copies
LONGEST_SIDE = 1024

TABLES = (
    "CREATE TABLE feedback (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, image_sha256 TEXT NOT NULL, "
    "bundle TEXT NOT NULL, caption TEXT NOT NULL, options TEXT NOT NULL, rating INTEGER, correction TEXT NOT NULL, "
    "comment TEXT NOT NULL)",
    "CREATE INDEX feedback_image ON feedback (image_sha256)",
    "CREATE TABLE leftover (image_sha256 TEXT PRIMARY KEY)",  # image copies to remove unless a row needs them
)
FIND = """SELECT * FROM feedback WHERE (:bundle = '' OR bundle = :bundle)
    AND (:least_rating IS NULL OR rating >= :least_rating) AND (:most_rating IS NULL OR rating <= :most_rating)
    AND (:corrected IS NULL OR (correction <> '') = :corrected)
    AND instr(folded(caption || char(10) || correction || char(10) || comment), folded(:text))
    ORDER BY id DESC LIMIT :limit"""
INSERT = """INSERT INTO feedback (time, image_sha256, bundle, caption, options, rating, correction, comment)
    VALUES (:time, :image_sha256, :bundle, :caption, :options, :rating, :correction, :comment)"""

CONTROL_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
LAYOUT = Layout("feedback", MARK, FORMAT, TABLES)

Captions = dict[Path, list[str]]


@dataclass(frozen=True)
class Feedback:
    """One person's feedback on one caption; `image_sha256` is the hash of the pixels that were captioned."""

    id: int
    time: str  # ISO 8601, UTC
    image_sha256: str
    bundle: str
    caption: str
    options: dict[str, Any]
    rating: int | None
    correction: str
    comment: str


class FeedbackStore:
    """The feedback in one database. Threads and processes may use it concurrently."""

    def __init__(self, path: str | Path) -> None:
        self._database = Database(path, LAYOUT)
        self.path = self._database.path
        self.images = self.path.with_name(f"{self.path.name}-images")
        self._remove_leftovers()

    def add(
        self,
        image: np.ndarray,
        *,
        bundle: str,
        caption: str,
        options: dict[str, Any],
        rating: int | None = None,
        correction: str = "",
        comment: str = "",
    ) -> Feedback:
        """Stores feedback on the caption of an image, uint8 (H, W, 3). It is on the disk when this returns."""
        assert (image.dtype, image.ndim, image.shape[-1]) == (np.uint8, 3, 3), f"{image.dtype} {image.shape}"
        correction, comment = " ".join(correction.split()), comment.strip()
        _check_feedback(rating, correction, comment)
        time, name, settings = datetime.now(UTC).isoformat(timespec="seconds"), _hash(image), json.dumps(options)
        feedback = Feedback(0, time, name, bundle, caption, json.loads(settings), rating, correction, comment)
        picture = _jpeg(image)
        with self._database.writing() as database:
            if database.execute("SELECT count(*) FROM feedback").fetchone()[0] >= MAX_ENTRIES:
                raise StorageError(f"{self.path} is full with {MAX_ENTRIES:,} entries; export and delete some.")
            if not self._copy(name).exists():
                atomic_write(self._copy(name), picture)
            number = database.execute(INSERT, asdict(feedback) | {"options": settings}).lastrowid
        assert number is not None
        return replace(feedback, id=number)

    def delete(self, ids: Iterable[int]) -> int:
        """Removes entries, and image copies that no other entry needs. Returns the number of entries removed."""
        chosen = [(int(number),) for number in ids]
        with self._database.writing() as database:
            database.executemany(
                "INSERT OR IGNORE INTO leftover SELECT image_sha256 FROM feedback WHERE id = ?", chosen
            )
            count = database.executemany("DELETE FROM feedback WHERE id = ?", chosen).rowcount
        self._remove_leftovers()
        return max(0, count)

    def image(self, feedback: Feedback) -> Path:
        """The copy of the captioned image, a JPEG of at most 1024 pixels on its longer side."""
        return self._copy(feedback.image_sha256)

    def corrections(self, bundle: str = "") -> Captions:
        """The corrected captions by image copy, oldest first, in the form that training reads."""
        found: Captions = {}
        for entry in reversed(self.list(bundle=bundle, corrected=True, limit=MAX_ENTRIES)):
            captions = found.setdefault(self.image(entry), [])
            if entry.correction not in captions:
                captions.append(entry.correction)
        return found

    def list(
        self,
        *,
        bundle: str = "",
        least_rating: int | None = None,
        most_rating: int | None = None,
        corrected: bool | None = None,
        text: str = "",
        limit: int = 1000,
    ) -> Sequence[Feedback]:
        """The matching entries, newest first. `text` is searched in captions, corrections and comments."""
        filters = {"bundle": bundle, "least_rating": least_rating, "most_rating": most_rating, "corrected": corrected}
        with self._database.connected() as database:
            database.create_function("folded", 1, str.casefold, deterministic=True)
            rows = database.execute(FIND, filters | {"text": text, "limit": limit}).fetchall()
        return [Feedback(**dict(row) | {"options": json.loads(row["options"])}) for row in rows]

    @staticmethod
    def csv(entries: Iterable[Feedback]) -> str:
        """The entries as CSV with a header. No cell is a formula to a spreadsheet."""
        rows = (asdict(entry) | {"options": json.dumps(entry.options, ensure_ascii=False)} for entry in entries)
        return csv_row(field.name for field in fields(Feedback)) + "".join(csv_row(row.values()) for row in rows)

    def _copy(self, name: str) -> Path:
        return self.images / f"{name}.jpg"

    def _remove_leftovers(self) -> None:
        with self._database.writing() as database, explain_disk_errors(self.images):
            orphans = database.execute("SELECT image_sha256 FROM leftover EXCEPT SELECT image_sha256 FROM feedback")
            for (name,) in orphans.fetchall():
                self._copy(name).unlink(missing_ok=True)
            database.execute("DELETE FROM leftover")


def _check_feedback(rating: int | None, correction: str, comment: str) -> None:
    if rating is None and not correction and not comment:
        raise DataError("The feedback is empty: give a rating, a corrected caption or a comment.")
    if rating is not None and rating not in range(1, 6):
        raise DataError(f"The rating {rating} is invalid: expected 1, 2, 3, 4 or 5.")
    for kind, text in (("correction", correction), ("comment", comment)):
        if len(text) > MAX_TEXT:
            raise DataError(f"The {kind} has {len(text):,} characters: shorten it to {MAX_TEXT}.")
        if CONTROL_CHARACTER.search(text):
            raise DataError(f"The {kind} holds a control character; type it again.")
    if correction and not normalise(correction):
        raise DataError("The correction holds no word: write a whole caption.")


def _hash(image: np.ndarray) -> str:
    digest = hashlib.sha256("x".join(map(str, image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _jpeg(image: np.ndarray) -> bytes:
    picture, file = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()
