"""What people said stays, however often its writers are killed and however many there are; and it can be copied."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captioning.data.feedback import FeedbackStore
from captioning.errors import DataError
from tests.data.test_feedback import ROOT, SAID, WRITER, intact, picture, rows_of

pytestmark = pytest.mark.slow

KILLS, WRITERS, ENTRIES, TEXTS, BACKUPS = 100, 8, 1000, 10_000, 20
MANY = """
import sys
import numpy as np
from captioning.data.feedback import FeedbackStore
store, who = FeedbackStore(sys.argv[1]), sys.argv[2]
for number in range(int(sys.argv[3])):
    image = np.full((20, 30, 3), number % 7, "uint8")
    store.add(image, bundle="b", caption="a dog", options={}, comment=f"{who}-{number}")
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "feedback.db"


def writer(path: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, path, name], cwd=ROOT, stdout=subprocess.PIPE)


def numbers(output: bytes) -> set[int]:
    return {int(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")}


def test_killed_at_any_moment_nothing_acknowledged_is_lost(path, record_property):
    dice, acknowledged, damaged = random.Random(0), set(), 0
    for kill in range(KILLS // 2):
        both = [writer(path, name) for name in ("one", "other")]
        for each in both:
            acknowledged.add(int(each.stdout.readline()))
        time.sleep(dice.uniform(0, 0.1))
        for each in both:
            os.kill(each.pid, signal.SIGKILL)
            acknowledged |= numbers(each.communicate(timeout=60)[0])
        if kill % 10 == 9:
            damaged += not intact(FeedbackStore(path))
    kept = {entry.id for entry in FeedbackStore(path).list(limit=-1)}
    record_property("kills", KILLS)
    record_property("acknowledged", len(acknowledged))
    record_property("lost", len(acknowledged - kept))
    assert acknowledged <= kept
    assert not damaged


def test_eight_writers_never_get_into_each_others_way(path, record_property):
    command = [sys.executable, "-c", MANY, path]
    writers = [
        subprocess.Popen([*command, str(number), str(ENTRIES)], cwd=ROOT, stderr=subprocess.PIPE)
        for number in range(WRITERS)
    ]
    errors = [each.communicate(timeout=1500)[1].decode() for each in writers]
    store = FeedbackStore(path)
    kept = {entry.comment for entry in store.list(limit=-1)}
    record_property("entries", WRITERS * ENTRIES)
    record_property("lost", WRITERS * ENTRIES - len(kept))
    assert not any(errors), errors
    assert kept == {f"{who}-{number}" for who in range(WRITERS) for number in range(ENTRIES)}
    assert intact(store)


def test_any_of_ten_thousand_texts_comes_back(path, record_property, monkeypatch):
    monkeypatch.setattr("captioning.data.feedback.MAX_ENTRIES", 2 * TEXTS)
    monkeypatch.setattr("os.fsync", lambda handle: None)
    store, counts = FeedbackStore(path), {"kept": 0, "refused": 0}
    words = st.sampled_from(["'; DROP TABLE feedback; --", "\0", "\ud800", "=1+1", "%s", "?", ":text", "\u202e"])

    @settings(max_examples=TEXTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(text=st.text(max_size=30) | st.lists(words | st.text(max_size=3), max_size=4).map("".join))
    def come_back(text: str) -> None:
        try:
            added = store.add(picture(0), **SAID | {"caption": text}, rating=1)
        except DataError:
            counts["refused"] += 1
            return
        counts["kept"] += 1
        [found] = store.list(limit=1)
        assert found == added
        assert found.caption == text
        assert rows_of(store.csv([found]))[1][4].removeprefix("'") == text

    come_back()
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"feedback", "leftover", "sqlite_sequence"}
    assert intact(store)
    record_property("texts kept", counts["kept"])
    record_property("half characters refused", counts["refused"])
    assert counts["kept"] > TEXTS // 2


def test_a_copy_taken_while_people_write_is_whole(path, tmp_path, record_property):
    FeedbackStore(path)
    busy = [writer(path, name) for name in ("one", "other")]
    for each in busy:
        each.stdout.readline()
    for number in range(BACKUPS):
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
            before = database.execute("SELECT count(*) FROM feedback").fetchone()[0]
            database.execute("VACUUM INTO ?", (str(tmp_path / f"{number}.db"),))
        under_way = shutil.ignore_patterns("*.tmp")
        shutil.copytree(f"{path}-images", tmp_path / f"{number}.db-images", ignore=under_way)
        copy = FeedbackStore(tmp_path / f"{number}.db")
        assert intact(copy)
        assert len(copy.list(limit=-1)) >= before
    for each in busy:
        assert each.poll() is None, "writers did not notice"
        each.kill()
        each.communicate(timeout=60)
    record_property("copies", BACKUPS)
    record_property("broken", 0)
