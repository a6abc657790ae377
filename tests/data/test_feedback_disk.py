"""The database of what people say meets strange files, full disks and other programs; nothing is lost."""

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from captioning.data import database, feedback
from captioning.data.feedback import Feedback, FeedbackStore
from captioning.errors import CaptioningError, StorageError
from tests.data.test_feedback import SAID, intact, picture


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "feedback.db"


@pytest.fixture
def store(path):
    return FeedbackStore(path)


def foreign(path: Path, *statements: str) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("CREATE TABLE customers (name)", "another program's"),
        ("PRAGMA application_id = 17", "another program's"),
        ("PRAGMA user_version = 1", "another program's"),
        (f"PRAGMA application_id = {feedback.MARK}", "format 0"),
    ],
)
def test_a_database_of_another_kind_is_left_alone(path, statement, told):
    before = foreign(path, statement)
    with pytest.raises(StorageError, match=told):
        FeedbackStore(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_database_of_a_later_version(store):
    foreign(store.path, "PRAGMA user_version = 2")
    with pytest.raises(StorageError, match="format 2, this version reads format 1"):
        FeedbackStore(store.path)


def test_what_is_no_database(path):
    path.parent.mkdir()
    path.write_bytes(b"a shopping list, not a database " * 40)
    with pytest.raises(StorageError, match="it is not a database"):
        FeedbackStore(path)
    assert path.read_bytes().startswith(b"a shopping list")


def test_a_damaged_database(store):
    for number in range(40):
        store.add(picture(0), **SAID, comment=str(number) * 200)
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(StorageError, match="damaged"):
        store.list()
    with pytest.raises(StorageError, match="damaged"):
        store.add(picture(1), **SAID, rating=1)


def test_a_folder_in_the_place_of_the_database(path):
    path.mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be opened"):
        FeedbackStore(path)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "kept").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        FeedbackStore(tmp_path / "kept" / "feedback.db")


def test_another_program_that_keeps_it_to_itself(store, monkeypatch):
    monkeypatch.setattr(database, "TIMEOUT", 0.05)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another program"):
        store.add(picture(0), **SAID, rating=1)
    assert store.list() == [], "reading needs no turn"
    other.execute("COMMIT")
    other.close()
    assert store.add(picture(0), **SAID, rating=1)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte, and a way to make it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> int:
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
        return done.returncode

    if mount("-t", "tmpfs", "-o", "size=1m", "none"):
        pytest.skip("needs the right to mount a small disk")
    yield folder, lambda: mount("-o", "remount,ro")
    subprocess.run(["umount", str(folder)], check=True)


def filled(store: FeedbackStore, pictures: Iterable[np.ndarray]) -> list[Feedback]:
    """What was kept of feedback on these pictures before the disk was full."""
    kept: list[Feedback] = []

    def fill() -> None:
        kept.extend(store.add(image, **SAID, comment="x" * 500) for image in pictures)

    with pytest.raises(StorageError, match=r"the disk is full.* nothing that was there is lost"):
        fill()
    return kept


def test_a_full_disk(small_disk):
    store, ballast = FeedbackStore(small_disk[0] / "feedback.db"), small_disk[0] / "ballast"
    ballast.write_bytes(bytes(2**17))
    kept = filled(store, (picture(number, 100, 200) for number in range(100)))
    assert 5 < len(kept) < 100
    assert store.list() == kept[::-1]
    assert intact(store)
    ballast.unlink()  # even deleting needs some room
    store.delete([entry.id for entry in kept[:5]])
    assert store.add(picture(999), **SAID, rating=1)


def test_a_full_disk_in_the_middle_of_a_row(small_disk):
    store = FeedbackStore(small_disk[0] / "feedback.db")
    kept = filled(store, (picture(0) for _ in range(2000)))
    assert store.list(limit=-1) == kept[::-1]
    assert intact(store)


def test_a_disk_that_became_read_only(small_disk):
    folder, protect = small_disk
    store = FeedbackStore(folder / "feedback.db")
    store.add(picture(0), **SAID, rating=1)
    assert protect() == 0
    for attempt in (lambda: store.add(picture(1), **SAID, rating=1), lambda: FeedbackStore(store.path)):
        with pytest.raises(CaptioningError, match="read-only") as refused:
            attempt()
        assert refused.value.exit_status == 4
