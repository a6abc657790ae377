"""One folder that is open on the page: captioned in the background, corrected, written where programs find it."""

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from captioning.data.feedback import FeedbackStore
from captioning.data.images import read_image
from captioning.errors import CaptioningError, DataError, ImageError
from captioning.inference.caption import Caption
from captioning.inference.folder import caption_images
from captioning.inference.metadata.changes import undo
from captioning.inference.writers import OutputOptions, open_writer
from captioning.options import DecodeOptions
from captioning.serving.library import Library, Row, View
from captioning.serving.pool import CaptionerPool

BATCH = 16  # pictures for which the captioner is held
THUMBNAIL, ENLARGED = 320, 1280  # pixels of the longer side
LEARNT = 4  # corrections that are handed to the feedback store at a time
TARGETS: dict[str, dict[str, Any]] = {
    "metadata": {"metadata": True},
    "txt": {"sidecar": True, "format": "txt"},
    "xmp": {"sidecar": True, "format": "xmp"},
}
IF_EXISTS = ("skip", "append", "prepend", "overwrite")


class FolderSession:
    """A folder, its pictures in the library, and the one thing that is done with them in the background."""

    def __init__(self, library: Library, pool: CaptionerPool, store: FeedbackStore, folder: Path) -> None:
        self.library, self.folder = library, folder
        self._pool, self._store = pool, store
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._learning = threading.Lock()
        self.task, self.said, self.version = "", "", 0
        self.number = library.open_folder(folder)
        self.learn()

    def refresh(self) -> None:
        """Reads again which pictures the folder has."""
        self.library.open_folder(self.folder)
        self.version += 1

    def state(self) -> dict[str, Any]:
        """What is going on, and how many pictures there are of each kind."""
        return {"task": self.task, "said": self.said, "version": self.version, **self.library.counts(self.number)}

    def caption(self, bundle: str, language: str = "") -> None:
        """Begins to caption what has no caption; a person's mistake is told at once."""
        self._pool.require(bundle)
        self._begin("caption", lambda: self._caption_all(bundle, language))

    def write(self, target: str, if_exists: str, view: View) -> None:
        """Begins to write the captions that a view shows into the pictures or beside them."""
        if target not in TARGETS or if_exists not in IF_EXISTS:
            raise DataError(f"{target} or {if_exists} is unknown; choose one that the page offers.")
        options = OutputOptions(**TARGETS[target], if_exists=if_exists, journal=self.journal)
        self._begin("write", lambda: self._write_all(options, view))

    def take_back(self) -> None:
        """Begins to restore what was in the files before the last writing."""
        self._begin("undo", self._undo_files)

    def stop(self) -> None:
        """Ends what is done in the background after the batch that it is at."""
        self._stop.set()

    def wait(self, seconds: float) -> None:
        """Waits until the work in the background has ended."""
        if self._thread:
            self._thread.join(seconds)

    @property
    def journal(self) -> Path:
        """The journal of what is written into the files of this folder; `captioning undo` reads it too."""
        return self.library.path.with_name(f"{self.library.path.stem}-{self.number}-journal.jsonl")

    def path(self, number: int) -> Path:
        """The file of a picture of this folder; others are refused."""
        return self.folder / self.library.picture(self.number, number)["name"]

    def image(self, number: int, *, is_large: bool = False) -> bytes:
        """A picture as a small JPEG, made when it is first asked for; a large one is not kept."""
        path = self.path(number)
        kept = None if is_large else self.library.thumbnail(number)
        if kept:
            return kept
        picture, file = Image.fromarray(read_image(path, longest=ENLARGED if is_large else THUMBNAIL)), io.BytesIO()
        picture.save(file, "JPEG", quality=80)
        if not is_large:
            self.library.keep_thumbnail(number, file.getvalue())
        return file.getvalue()

    def csv(self, view: View) -> bytes:
        """The captions that a view shows as CSV, as the command line writes it."""
        with tempfile.TemporaryDirectory() as scratch:
            options = OutputOptions(output=Path(scratch, "captions.csv"))
            with open_writer(options, several=False) as writer:
                writer.add(dict(self._captions(view)))
            return options.output.read_bytes() if options.output and options.output.exists() else b""

    def learn(self) -> None:
        """Hands corrections to the feedback store, in a thread of its own."""
        threading.Thread(target=self._learn_all, daemon=True).start()

    def _begin(self, task: str, work: Callable[[], str]) -> None:
        with self._lock:
            if self.task:
                raise DataError("Something is being done with this folder already; stop it, or wait for its end.")
            self._stop.clear()
            self.task, self.said = task, ""

        def run() -> None:
            try:
                self.said = work()
            except CaptioningError as error:
                self.said = str(error)
            finally:
                self.task = ""
                self.version += 1

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def _caption_all(self, bundle: str, language: str) -> str:
        while not self._stop.is_set():
            rows = self.library.waiting(self.number, BATCH)
            if not rows:
                break
            by_path = {self.folder / row["name"]: row["id"] for row in rows}
            with self._pool.captioner(bundle) as captioner:
                options = _options(captioner.options, language)
                found = {
                    path: each for batch in caption_images(captioner, by_path, options) for path, each in batch.items()
                }
            self.library.update([{"id": by_path[path], **_columns(each, bundle)} for path, each in found.items()])
            self.version += 1
        return ""

    def _write_all(self, options: OutputOptions, view: View) -> str:
        captions, written, known, problems = self._captions(view), 0, 0, list[str]()
        with open_writer(options, several=False) as writer:
            for start in range(0, len(captions), BATCH):
                if self._stop.is_set():
                    break
                batch = dict(captions[start : start + BATCH])
                fresh = {path: caption for path, caption in batch.items() if path not in writer}
                refused = writer.add(fresh)
                known += len(batch) - len(fresh)
                written += len(fresh) - len(refused)
                problems += refused.values()
                self.said = f"{start + len(batch)} / {len(captions)}"
        self._note_files()
        parts = [f"{written} written{options.place}, {known} left as they were, {len(problems)} refused."]
        return " ".join(parts + problems[:5])

    def _undo_files(self) -> str:
        result, left = undo(self.journal)
        self._note_files()
        return result.text(left)

    def _note_files(self) -> None:
        """Takes the files as they are now, so that what was written here counts as no change of the pictures."""
        fresh = []
        for row in self.library.rows(self.number, View(), count=None)[1]:
            with contextlib.suppress(OSError):
                status = os.stat(self.folder / row["name"])
                fresh.append({"id": row["id"], "size": status.st_size, "time": status.st_mtime_ns})
        self.library.update(fresh)

    def _captions(self, view: View) -> list[tuple[Path, Caption]]:
        rows = self.library.rows(self.number, view, count=None)[1]
        return [(self.folder / row["name"], _caption_of(row)) for row in rows if row["text"]]

    def _learn_all(self) -> None:
        with self._learning, contextlib.suppress(CaptioningError):  # tried again with the next correction
            while rows := self.library.to_learn(self.number, LEARNT):
                self.library.update([{"id": row["id"], **self._learnt(row)} for row in rows])

    def _learnt(self, row: Row) -> dict[str, Any]:
        """Replaces the entry of a picture in the feedback store by one with its correction of now."""
        if row["feedback"]:
            self._store.delete([row["feedback"]])
        entry = None
        with contextlib.suppress(DataError):  # a picture that is gone, a correction without a word
            if row["correction"]:
                kept = {"bundle": row["bundle"], "caption": row["caption"], "options": {"language": row["language"]}}
                pixels = read_image(self.folder / row["name"], longest=ENLARGED)
                entry = self._store.add(pixels, **kept, correction=row["correction"]).id
        return {"feedback": entry, "learnt": row["correction"]}


def _options(options: DecodeOptions, language: str) -> DecodeOptions:
    return replace(options, language=language) if language else options


def _columns(found: Caption | ImageError, bundle: str) -> dict[str, Any]:
    if isinstance(found, ImageError):
        return {"problem": str(found)}
    values = {"caption": str(found), "score": found.score, "confidence": found.confidence, "verdict": found.verdict}
    return values | {"language": found.written_language, "bundle": bundle, "problem": ""}


def _caption_of(row: Row) -> Caption:
    """A picture's text as a caption; a text that a person wrote has no confidence."""
    if row["correction"]:
        return Caption(row["text"], (), 0.0, language=row["language"])
    familiar = None if row["verdict"] in ("unknown", "not calibrated") else row["verdict"] != "unfamiliar"
    return Caption(
        row["text"],
        (),
        row["score"] or 0.0,
        confidence=row["confidence"],
        familiar=familiar,
        language=row["language"],
        calibrated=row["verdict"] != "not calibrated",
    )
