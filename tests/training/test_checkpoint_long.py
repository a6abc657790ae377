"""Faults, kills and damage anywhere: the newest checkpoint or the one before is there, whole; nothing is left lying."""

import errno
import random
import shutil

import numpy as np
import pytest

from captioning.errors import StorageError
from captioning.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from tests.faults import Killed, failing_everywhere

RECIPE = {"seed": 1}
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
MUTATIONS = 600
pytestmark = pytest.mark.slow


def save(path, number: int) -> None:
    """A checkpoint in which everything is one number."""
    arrays = [np.full((50, 50), number, "float32"), np.full(3, number, "int64")]
    save_checkpoint(path, RECIPE, Progress(epoch=number, step=number, best_weights=arrays), arrays)


def saved_in(path) -> int:
    """Which checkpoint is loaded, once it is clear that it is no mixture."""
    progress, values = load_checkpoint(path, RECIPE)
    found = {progress.epoch, progress.step, *np.concatenate([each.ravel() for each in values]).tolist()}
    found |= set(np.concatenate([each.ravel() for each in progress.best_weights]).tolist())
    assert len(found) == 1, "mixed"
    return int(found.pop())


@pytest.fixture
def prepare(tmp_path):
    """A new folder with the checkpoints 1 and 2."""

    def call():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        for number in (1, 2):
            save(tmp_path / "run" / "checkpoint.npz", number)
        return tmp_path / "run"

    return call


def assert_goes_on(folder) -> None:
    """The next save works, and nothing but the two checkpoints is left."""
    save(folder / "checkpoint.npz", 4)
    assert saved_in(folder / "checkpoint.npz") == 4
    assert len(list(folder.iterdir())) == 2


def test_a_disk_that_fails_anywhere_in_a_save(prepare, tmp_path, record_property):
    faults, path = 0, tmp_path / "run" / "checkpoint.npz"
    for number in ERRORS:
        for lasts in (False, True):
            for disk, raised in failing_everywhere(lambda: save(path, 3), prepare, error=number, lasts=lasts):
                faults += 1
                assert isinstance(raised, StorageError) or disk.done[-1] == ("fsync", "run"), disk.done
                assert saved_in(path) == (2 if raised else 3), disk.done
                assert_goes_on(path.parent)
    assert faults > 5 * len(ERRORS)
    record_property("faults", faults)
    record_property("lost", 0)


def test_a_kill_anywhere_in_a_save(prepare, tmp_path, record_property):
    kills, path = 0, tmp_path / "run" / "checkpoint.npz"
    for disk, raised in failing_everywhere(lambda: save(path, 3), prepare):
        kills += 1
        assert isinstance(raised, Killed)
        assert saved_in(path) == (3 if disk.done[-1] == ("fsync", "run") else 2), disk.done
        assert_goes_on(path.parent)
    assert kills > 5
    record_property("kills", kills)
    record_property("lost", 0)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut short, with a stretch of zeros, or with one bit flipped."""
    place, length = rng.randrange(len(data)), rng.choice((1, 16, 512, 4096))
    flipped = bytes([data[place] ^ 1 << rng.randrange(8)])
    ways = data[:place], data[:place] + bytes(len(data[place : place + length])) + data[place + length :]
    return rng.choice((*ways, data[:place] + flipped + data[place + 1 :]))


def test_damage_to_the_newest(prepare, tmp_path, record_property, capsys):
    path, found = tmp_path / "run" / "checkpoint.npz", []
    for number in range(MUTATIONS):
        prepare()
        path.write_bytes(mutated(path.read_bytes(), random.Random(number)))
        found.append(saved_in(path))
        assert ("cannot be read" in capsys.readouterr().err) == (found[-1] == 1)
        assert_goes_on(path.parent)
    assert set(found) == {1, 2}
    record_property("mutations", MUTATIONS)
    record_property("gone on from the one before", found.count(1))
    record_property("harmless", found.count(2))
