"""What is saved is what is loaded; another training's state and damaged files are refused in a sentence."""

import contextlib
from dataclasses import asdict

import numpy as np
import pytest

from captioning.errors import StorageError
from captioning.options import RunOptions
from captioning.training.checkpoint import (
    Progress,
    check_overwrite,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

RECIPE = {"data": {"dataset": "scenes", "force": ("a", "b")}, "training": {"seed": 1, "rate": 1e-3}, "vocabulary": 9}
VALUES = [
    np.arange(6, dtype="float32").reshape(2, 3),
    np.int64(7),
    np.full(3, 0.5, "float16"),
    np.zeros((0, 2), "uint32"),
]


def progress() -> Progress:
    return Progress(
        epoch=3,
        step=2,
        history=[{"epoch": 1, "loss": 1.5}, {"epoch": 2, "loss": float("inf")}],
        samples=[["a dog"], ["ein Bällchen", "猫"]],
        best_score=0.25,
        best_epoch=1,
        best_weights=[np.ones((2, 2), "float32"), np.float32(3)],
        running_means=[0.5, 12.0],
    )


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.npz", RECIPE, progress(), VALUES)
    return tmp_path / "checkpoint.npz"


def assert_same(found, wanted) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)


def assert_whole(loaded) -> None:
    found, values = loaded
    assert_same(values, VALUES)
    assert_same(found.best_weights, progress().best_weights)
    left, right = asdict(found), asdict(progress())
    assert left | {"best_weights": 0} == right | {"best_weights": 0}


def test_save_then_load_is_identity(path):
    assert_whole(load_checkpoint(path, RECIPE))


def test_a_fresh_progress_round_trips(tmp_path):
    save_checkpoint(tmp_path / "file", {}, Progress(), [])
    assert load_checkpoint(tmp_path / "file", {}) == (Progress(), [])


def test_many_variables_keep_their_order(tmp_path):
    values = [np.float32(number) for number in range(23)]
    save_checkpoint(tmp_path / "file", {}, Progress(), values)
    assert load_checkpoint(tmp_path / "file", {})[1] == values


def test_saving_again_replaces(path):
    save_checkpoint(path, RECIPE, Progress(epoch=9), [np.float32(1)])
    found, values = load_checkpoint(path, RECIPE)
    assert (found.epoch, len(values), found.best_weights) == (9, 1, [])
    assert sorted(file.name for file in path.parent.iterdir()) == ["checkpoint.earlier.npz", path.name]
    save_checkpoint(path, RECIPE, Progress(epoch=10), [])
    assert len(list(path.parent.iterdir())) == 2


@pytest.fixture
def two(path):
    """The newest of two checkpoints, after epochs 3 and 4."""
    save_checkpoint(path, RECIPE, Progress(epoch=4), VALUES)
    return path


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:99]), lambda path: path.unlink()])
def test_where_the_newest_is_damaged_the_one_before_is_gone_on_with(two, capsys, damage):
    damage(two)
    assert has_checkpoint(two)
    for _ in range(2):
        assert_whole(load_checkpoint(two, RECIPE))
    told = capsys.readouterr().err
    assert told == f"{two} cannot be read; resuming from the previous checkpoint, after 3 epochs and 2 steps.\n"
    save_checkpoint(two, RECIPE, Progress(epoch=4), VALUES)
    two.write_bytes(b"")
    assert_whole(load_checkpoint(two, RECIPE))


def test_another_recipe_is_refused_though_there_is_one_before(two):
    with pytest.raises(StorageError, match="belongs to another training"):
        load_checkpoint(two, RECIPE | {"vocabulary": 10})
    two.write_bytes(b"")
    with pytest.raises(StorageError, match="belongs to another training"):
        load_checkpoint(two, RECIPE | {"vocabulary": 10})
    assert two.read_bytes() == b""


def test_two_damaged_checkpoints_are_refused(two):
    for file in two.parent.iterdir():
        file.write_bytes(b"")
    with pytest.raises(StorageError, match="start again with --overwrite"):
        load_checkpoint(two, RECIPE)


def test_nothing_kept_is_nothing_to_go_on_from(tmp_path):
    assert not has_checkpoint(tmp_path / "checkpoint.npz")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"vocabulary": 10}, "vocabulary was 9, is 10"),
        ({"extra": 1}, "extra was None, is 1"),
        ({"training": {"seed": 2, "rate": 1e-3}}, "training was"),
    ],
)
def test_another_recipe_is_refused_by_its_difference(path, changed, named):
    with pytest.raises(StorageError, match="belongs to another training") as refused:
        load_checkpoint(path, RECIPE | changed)
    assert named in str(refused.value)
    assert str(path) in str(refused.value)
    assert "--overwrite" in str(refused.value)


def test_truncated_files_are_refused(path):
    data = path.read_bytes()
    for length in (0, 1, 4, 30, len(data) // 2, len(data) - 22, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(StorageError, match="cannot be read as a checkpoint"):
            load_checkpoint(path, RECIPE)


def test_a_flipped_bit_is_refused_or_harmless(path):
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            assert_whole(load_checkpoint(path, RECIPE))
        except StorageError:
            refused += 1
    assert refused > len(data) / 3 / 2


def test_a_header_that_numpy_stumbles_over_is_refused(path):
    save_checkpoint(path, RECIPE, Progress(), [np.zeros(9999)])  # too large to be checked whole before it is looked at
    path.with_name("checkpoint.earlier.npz").unlink()
    data = path.read_bytes()
    place = data.rindex(b"}  ")
    path.write_bytes(data[:place] + b"} (" + data[place + 3 :])
    with pytest.raises(StorageError, match="cannot be read as a checkpoint"):
        load_checkpoint(path, RECIPE)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"PK\x05\x06" + bytes(18)])
def test_files_that_are_no_checkpoint_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(StorageError, match="start again with --overwrite"):
        load_checkpoint(path, RECIPE)


@pytest.mark.parametrize(
    ("finished", "unfinished", "flags", "refusal"),
    [
        (False, False, {}, None),
        (False, False, {"resume": True}, "no training to resume"),
        (True, False, {}, "finished bundle"),
        (True, False, {"resume": True}, "no training to resume"),
        (True, False, {"overwrite": True}, None),
        (False, True, {}, "unfinished training"),
        (False, True, {"resume": True}, None),
        (False, True, {"overwrite": True}, None),
        (True, True, {"resume": True}, None),
        (True, True, {"resume": True, "overwrite": True}, None),
    ],
)
def test_nothing_is_replaced_unasked(tmp_path, finished, unfinished, flags, refusal):
    folder, checkpoint_folder = tmp_path / "name", tmp_path / "name.training"
    for path, exists in ((folder / "config.json", finished), (checkpoint_folder / "checkpoint.npz", unfinished)):
        path.parent.mkdir()
        if exists:
            path.touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match=refusal) if refusal else contextlib.nullcontext():
        check_overwrite(folder, checkpoint_folder, RunOptions(**flags))
    assert sorted(tmp_path.rglob("*")) == before
