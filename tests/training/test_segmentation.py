"""Training a segmenter: targets from masks, a loss that falls, a training that goes on, and its command."""

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from captioning import cli
from captioning.data.coco_instances import Instance, Instances, Picture, read_instances
from captioning.data.coco_masks import encode_rle
from captioning.data.scenes.dataset import write_scenes
from captioning.data.scenes.masks import write_masks
from captioning.errors import DataError, StorageError, TrainingError
from captioning.extras.own_segmenter import SegmenterConfig, load_own_segmenter
from captioning.extras.segment_grouping import group
from captioning.training import segmentation
from captioning.training.segment_targets import (
    Example,
    batch_of,
    read_examples,
    split_pictures,
    targets_of,
    varied,
)
from captioning.training.segmentation import SegmentOptions, Training, check_output, train_segmenter

TINY = SegmenterConfig(("dog", "cat"), 32, (4, 4, 8, 8))
FLOOR = 0.1
OPTIONS = SegmentOptions(epochs=2, batch_size=9, image_size=32, held_out=0.25)


def picture_with(folder, *masks, name="a.png"):
    height, width = masks[0].shape
    Image.new("RGB", (width, height)).save(folder / name)
    things = tuple(
        Instance("dog" if n == 0 else "cat", encode_rle(mask), height, width) for n, mask in enumerate(masks)
    )
    return Picture(folder / name, height, width, things)


def square(top, left, side, size=(64, 64)):
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_smaller_of_two_overlapping_masks_lies_in_front(tmp_path):
    [example] = read_examples([picture_with(tmp_path, square(0, 0, 48), square(8, 8, 16))], TINY)
    assert example.pixels.shape == (32, 32, 3)
    expected = np.zeros((16, 16), int)
    expected[:12, :12], expected[2:6, 2:6] = 1, 2
    assert (example.objects == expected).all()
    assert example.labels.tolist() == [1, 2]


def test_targets_lead_back_to_the_objects(tmp_path):
    [example] = read_examples([picture_with(tmp_path, square(4, 4, 24), square(32, 28, 24))], TINY)
    category, centres, offsets = targets_of(example)
    assert category.max() == 2
    assert centres.shape == (16, 16, 1)
    found = group(np.eye(3)[category], centres[..., 0], offsets[..., :2], (64, 64), TINY.categories)
    for segment, wanted in zip(sorted(found, key=lambda each: each.box[1]), (4, 32), strict=True):
        assert abs(segment.box[1] - wanted) <= 2
        assert abs(segment.area - 24 * 24) < 100


def test_a_varied_picture_and_its_objects_move_together():
    objects = np.zeros((16, 16), np.uint8)
    objects[6:10, 3:8] = 1
    example = Example(np.repeat(np.repeat(objects, 2, 0), 2, 1)[..., None] * np.uint8(255), objects, np.array([1]))
    rng = np.random.default_rng(0)
    moved = [varied(example, rng) for _ in range(20)]
    for each in moved:
        assert (each.pixels[::2, ::2, 0] == each.objects * 255).all()
        assert each.objects.sum() >= 4 * 4
    assert len({each.objects.tobytes() for each in moved}) > 10


def test_the_split_depends_on_the_seed_alone(tmp_path):
    pictures = tuple(Picture(tmp_path / f"{n}.png", 1, 1, ()) for n in range(10))
    data = Instances(pictures, ("dog",), 0)
    learned, held_out = split_pictures(data, 0.2, 0)
    assert (len(learned), len(held_out)) == (8, 2)
    assert {*learned, *held_out} == {*pictures}
    assert split_pictures(data, 0.2, 0) == (learned, held_out)
    assert split_pictures(data, 0.2, 1) != (learned, held_out)
    with pytest.raises(DataError, match="too few"):
        split_pictures(replace(data, pictures=pictures[:1]), 0.2, 0)


def test_a_picture_of_another_size_is_refused(tmp_path):
    picture = picture_with(tmp_path, square(0, 0, 8))
    Image.new("RGB", (10, 8)).save(picture.path)
    with pytest.raises(DataError, match="10 x 8 pixels, its annotations are for 64 x 64"):
        read_examples([picture], TINY)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = write_scenes(tmp_path_factory.mktemp("drawn") / "scenes", sizes={"train": 12})
    write_masks(folder)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    keras = pytest.importorskip("keras")
    at_once = functools.partialmethod(keras.Model.compile, run_eagerly=True)  # three steps are not worth a graph
    monkeypatch.setattr(keras.Model, "compile", at_once)
    monkeypatch.setattr(segmentation, "SegmenterConfig", lambda names, size: SegmenterConfig(names, size, TINY.widths))


def test_a_training_lowers_the_loss_and_goes_on_where_it_was(drawn, tmp_path, monkeypatch, capsys):
    output, epoch = tmp_path / "mine", Training.epoch

    def break_off(self, examples, number):
        if number == 1:
            raise KeyboardInterrupt
        return epoch(self, examples, number)

    options = replace(OPTIONS, epochs=3, learning_rate=0.01)
    monkeypatch.setattr(Training, "epoch", break_off)
    with pytest.raises(KeyboardInterrupt):
        train_segmenter(drawn, output, options)
    monkeypatch.setattr(Training, "epoch", epoch)
    with pytest.raises(StorageError, match="unfinished"):
        train_segmenter(drawn, output, options)
    scores = train_segmenter(drawn, output, options, resume=True)
    rows = (output / "history.csv").read_text("utf-8").splitlines()
    assert rows[0] == "epoch,loss,held_out_loss"
    losses = [float(row.split(",")[1]) for row in rows[1:]]
    assert len(losses) == 3
    assert losses[2] < 0.9 * losses[0]
    assert json.loads((output / "scores.json").read_text("utf-8"))["ap"] == pytest.approx(scores.ap)
    assert {path.name for path in output.iterdir()} >= {"loss.png", "segmenter.json", "segmenter.weights.h5"}
    assert not list(output.glob("checkpoint*"))
    assert len(load_own_segmenter(output).config.categories) == 17
    with pytest.raises(StorageError, match="holds a segmenter"):
        check_output(output, resume=False, overwrite=False)
    assert "epoch 3/3: loss" in capsys.readouterr().out


def test_a_loss_of_nan_ends_the_training(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "epoch", lambda *_: float("nan"))
    monkeypatch.setattr(Training, "loss_on", lambda *_: 1.0)
    with pytest.raises(TrainingError, match="epoch 1"):
        train_segmenter(drawn, tmp_path / "mine", OPTIONS)


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(StorageError, match="no training to resume"):
        check_output(tmp_path, resume=True, overwrite=False)


def test_a_batch_has_a_target_for_each_output():
    example = Example(np.zeros((32, 32, 3), np.uint8), np.zeros((16, 16), np.uint8), np.array([1]))
    pixels, (category, centres, offsets) = batch_of([example] * 3)
    assert (pixels.shape, category.shape) == ((3, 32, 32, 3), (3, 16, 16))
    assert (centres.shape, offsets.shape) == ((3, 16, 16, 1), (3, 16, 16, 3))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--image-size", "100"], "multiple of 16"),
        (["--epochs", "0"], "count from 1"),
        (["--held-out", "1"], "between 0 and 1"),
        (["--coco-masks", "1"], "at least 2"),
        ([], "holds no instances.json"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, capsys, flags, said):
    assert cli.main(["segment-train", str(tmp_path), "--output", str(tmp_path / "out"), *flags]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_draws_scenes_and_hands_its_flags_on(tmp_path, monkeypatch, capsys):
    asked = {}

    def train(data, output, options, **more):
        asked.update(options=options, more=more, pictures=len(read_instances(data).pictures))
        return segmentation.mask_ap([])

    monkeypatch.setattr(segmentation, "train_segmenter", train)
    command = ["segment-train", str(tmp_path / "drawn"), "--output", str(tmp_path / "out"), "--coco-masks", "3"]
    assert cli.main([*command, "--epochs", "2", "--seed", "5", "--overwrite"]) == 0
    assert asked["options"] == SegmentOptions(epochs=2, seed=5)
    assert asked["more"] == {"images": None, "resume": False, "overwrite": True}
    assert asked["pictures"] == 3
    assert "AP nan" in capsys.readouterr().out
