"""Jobs: many pictures captioned in the background, kept in SQLite, so that a restart loses none and repeats none.

A job and its pictures are on the disk before it is accepted. A picture goes when its result is written, in the same
transaction.
"""

import dataclasses
import json
import secrets
import sqlite3
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.data.database import Database, Layout
from captioning.errors import CaptioningError, StorageError
from captioning.options import DecodeOptions
from captioning.serving.batching import Batcher, Busy
from captioning.serving.bodies import Picture
from captioning.serving.problems import Problem, problem_of
from captioning.serving.records import caption_record
from captioning.serving.schemas import PictureCaption, PictureProblem

if TYPE_CHECKING:
    from captioning.inference.caption import Caption

AT_ONCE = 8  # pictures of jobs that are captioned together: half a batch, so that others are answered in between
MOST_TRIES = 3  # of a picture that ends the process each time
ROOM = 2**30  # bytes of all pictures that wait
KEPT = timedelta(days=7)  # for which a finished job is kept
REST = 60.0  # seconds after which a runner without work looks for some, and for old jobs
PAUSE = 0.05  # seconds to wait while the queue is full
STATES = ("queued", "running", "done", "cancelled")

TABLES = (
    "CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, "
    "captioner TEXT NOT NULL, options TEXT NOT NULL, boxes INTEGER NOT NULL, state TEXT NOT NULL, "
    "created TEXT NOT NULL, finished TEXT)",
    "CREATE TABLE pictures (job TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, data BLOB, result TEXT, "
    "tries INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (job, number))",
    "CREATE INDEX waiting ON pictures (job, number) WHERE result IS NULL",
)
LAYOUT = Layout("jobs", 0x4341504A, 1, TABLES)
COUNTED = """SELECT jobs.*, count(pictures.number) AS pictures, count(pictures.result) AS answered
    FROM jobs LEFT JOIN pictures ON pictures.job = jobs.id"""
NEXT = """SELECT jobs.id AS job, captioner, options, boxes, pictures.number AS number, name, data, tries
    FROM jobs JOIN pictures ON pictures.job = jobs.id WHERE jobs.id =
    (SELECT id FROM jobs WHERE state IN ('queued', 'running') ORDER BY number LIMIT 1)
    AND result IS NULL ORDER BY pictures.number LIMIT ?"""


@dataclass(frozen=True)
class Job:
    """A job and how far it is."""

    id: str
    owner: str
    captioner: str
    state: str
    created: str
    finished: str | None
    pictures: int
    answered: int


@dataclass(frozen=True)
class Task:
    """One picture of a job that waits to be captioned."""

    job: str
    number: int
    picture: Picture
    captioner: str
    options: DecodeOptions
    boxes: bool
    tries: int  # begun before


class JobStore:
    """The jobs of one service, in one database."""

    def __init__(self, path: str | Path) -> None:
        self._database = Database(path, LAYOUT)

    def create(
        self, owner: str, captioner: str, options: DecodeOptions, pictures: Sequence[Picture], *, boxes: bool = False
    ) -> Job:
        """A new job. It is on the disk when this returns."""
        job_id, size = secrets.token_hex(8), sum(len(picture.data) for picture in pictures)
        settings = json.dumps(dataclasses.asdict(options))
        with self._database.writing() as database:
            held = database.execute("SELECT coalesce(sum(length(data)), 0) FROM pictures").fetchone()[0]
            if held + size > ROOM:
                raise Problem(503, "busy", "There is no room for more jobs at the moment; try again later.", 60)
            row = job_id, owner, captioner, settings, boxes, "queued", _now()
            database.execute("INSERT INTO jobs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
            database.executemany(
                "INSERT INTO pictures (job, number, name, data) VALUES (?, ?, ?, ?)",
                [(job_id, number, each.name, each.data) for number, each in enumerate(pictures)],
            )
        return self.find(job_id)

    def find(self, job_id: str, owner: str | None = None) -> Job:
        """A job by its id; one of another owner is none."""
        with self._database.connected() as database:
            row = database.execute(f"{COUNTED} WHERE jobs.id = ? GROUP BY jobs.id", (job_id,)).fetchone()
        if not row or owner not in (None, row["owner"]):
            raise Problem(404, "job", "There is no such job; finished ones are kept for a week.")
        return _job(row)

    def list(self, owner: str | None = None, *, most: int = 100) -> Sequence[Job]:
        """The jobs of an owner, or of all, newest first."""
        question = f"{COUNTED} WHERE ? IS NULL OR owner = ? GROUP BY jobs.id ORDER BY jobs.number DESC LIMIT ?"
        with self._database.connected() as database:
            return [_job(row) for row in database.execute(question, (owner, owner, most))]

    def cancel(self, job_id: str) -> None:
        """Ends a job that is not done; what was captioned of it stays."""
        change = "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND state IN ('queued', 'running')"
        with self._database.writing() as database:
            if not database.execute(change, (_now(), job_id)).rowcount:
                raise Problem(409, "job", "This job has ended before.")
            database.execute("UPDATE pictures SET data = NULL WHERE job = ?", (job_id,))

    def results(self, job_id: str) -> str:
        """The results so far in the order of the pictures, a line of JSON each."""
        question = "SELECT result FROM pictures WHERE job = ? AND result IS NOT NULL ORDER BY number"
        with self._database.connected() as database:
            return "".join(f"{row['result']}\n" for row in database.execute(question, (job_id,)))

    def take(self, most: int = AT_ONCE) -> Sequence[Task]:
        """The next pictures of the oldest job, which are marked as begun."""
        with self._database.writing() as database:
            rows = database.execute(NEXT, (most,)).fetchall()
            begun = [(row["job"], row["number"]) for row in rows]
            database.executemany("UPDATE pictures SET tries = tries + 1 WHERE job = ? AND number = ?", begun)
            if rows:
                database.execute("UPDATE jobs SET state = 'running' WHERE id = ?", (rows[0]["job"],))
        return [_task(row) for row in rows]

    def finish(self, results: Sequence[tuple[Task, PictureCaption]]) -> None:
        """Writes results, each once, and ends the job whose last ones they are."""
        with self._database.writing() as database:
            for task, record in results:
                line = json.dumps({"number": task.number, **record.model_dump()}, ensure_ascii=False)
                change = "UPDATE pictures SET result = ?, data = NULL WHERE job = ? AND number = ? AND result IS NULL"
                database.execute(change, (line, task.job, task.number))
            for job_id in {task.job for task, _ in results}:
                database.execute(
                    "UPDATE jobs SET state = 'done', finished = ? WHERE id = ? AND state = 'running' AND NOT EXISTS "
                    "(SELECT 1 FROM pictures WHERE job = jobs.id AND result IS NULL)",
                    (_now(), job_id),
                )

    def forget_old(self) -> None:
        """Removes jobs that ended long ago."""
        until = (datetime.now(UTC) - KEPT).isoformat(timespec="seconds")
        with self._database.writing() as database:
            database.execute("DELETE FROM pictures WHERE job IN (SELECT id FROM jobs WHERE finished < ?)", (until,))
            database.execute("DELETE FROM jobs WHERE finished < ?", (until,))

    def waiting(self) -> int:
        """Pictures of jobs that wait."""
        question = "SELECT count(*) FROM pictures WHERE result IS NULL AND data IS NOT NULL"
        with self._database.connected() as database:
            return int(database.execute(question).fetchone()[0])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _job(row: sqlite3.Row) -> Job:
    return Job(**{field.name: row[field.name] for field in dataclasses.fields(Job)})


def _task(row: sqlite3.Row) -> Task:
    options = DecodeOptions(**json.loads(row["options"]))
    picture = Picture(row["name"], row["data"])
    return Task(row["job"], row["number"], picture, row["captioner"], options, bool(row["boxes"]), row["tries"])


class JobRunner:
    """Captions the pictures of jobs, in a thread of its own, through the batcher that answers requests."""

    def __init__(self, store: JobStore, batcher: Batcher) -> None:
        self.store, self._batcher = store, batcher
        self._changed, self._is_closed = threading.Event(), False
        self._readers = ThreadPoolExecutor(AT_ONCE, "jobs")
        threading.Thread(target=self._work, name="jobs", daemon=True).start()

    def wake(self) -> None:
        """There is a new job."""
        self._changed.set()

    def close(self) -> None:
        """Begins no further pictures."""
        self._is_closed = True
        self._changed.set()

    def _work(self) -> None:
        while not self._is_closed:
            try:
                is_idle = not self._step()
            except StorageError as error:  # a full disk: what is not written is captioned again
                print(f"Jobs wait: {error}", file=sys.stderr)
                is_idle = True
            if is_idle:
                self._changed.wait(REST)
                self._changed.clear()

    def _step(self) -> bool:
        """Captions the next pictures; whether there were any."""
        if tasks := self.store.take():
            self.store.finish(self._captioned(tasks))
        else:
            self.store.forget_old()
        return bool(tasks)

    def _captioned(self, tasks: Sequence[Task]) -> list[tuple[Task, PictureCaption]]:
        known = set(self._batcher.pool.names)
        can_be_tried = [task for task in tasks if task.tries < MOST_TRIES and task.captioner in known]
        self._reserve(len(can_be_tried))
        try:
            begun = {task.number: self._readers.submit(self._caption, task) for task in can_be_tried}
            wait(begun.values())
        finally:
            self._batcher.release(len(can_be_tried))
        return [(task, _record(task, begun.get(task.number))) for task in tasks]

    def _reserve(self, count: int) -> None:
        while True:
            try:
                return self._batcher.reserve(count)
            except Busy:
                threading.Event().wait(PAUSE)

    def _caption(self, task: Task) -> "Caption":
        return self._batcher.caption(task.picture.data, task.captioner, task.options).result()


def _record(task: Task, answer: "Future[Caption] | None") -> PictureCaption:
    if answer is None:
        refused: dict[str, Any] = {"code": "given_up", "detail": "This picture could not be captioned; it is given up."}
        return PictureCaption(image=task.picture.name, problem=PictureProblem(**refused))
    error = answer.exception()
    if error is None:
        return caption_record(task.picture.name, answer.result(), boxes=task.boxes)
    told = problem_of(error) if isinstance(error, CaptioningError) else Problem(500, "failed", "Something failed here.")
    return PictureCaption(image=task.picture.name, problem=PictureProblem(code=told.code, detail=told.detail))
