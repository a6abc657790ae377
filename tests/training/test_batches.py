"""An epoch shows every caption once, in an order that only seed and epoch decide; what is missing weighs nothing."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from captioning.training.batches import Batches, Examples, epoch_order, examples_of

LENGTH = 4


def captions_of(image: int, count: int) -> np.ndarray:
    """(count, LENGTH + 1) ids, <start> and <end> among them, each caption unlike any other."""
    rows = np.zeros((count, LENGTH + 1), "int32")
    for number in range(count):
        rows[number, : 4 - number % 2] = [1, 10 * image + number + 10, 20, 2][: 4 - number % 2]
    return rows


def examples(*counts: int) -> Examples:
    rows = np.arange(len(counts))[::-1, None].copy()
    array = np.arange(len(counts), dtype="float16")[:, None, None] * np.ones((1, 2, 3), "float16")
    return Examples(array, rows, [captions_of(image, count) for image, count in enumerate(counts)])


def batches(data: Examples, epoch: int | None = 0, *, size=2, captions=3, first=0, seed=7) -> Batches:
    order = None if epoch is None else epoch_order(seed, epoch)
    return Batches(data, batch_size=size, captions_per_image=captions, order=order, first=first)


def shown(epoch: Batches) -> list[tuple[int, int]]:
    """(image, first word) of every caption with weight, in the order shown."""
    return [
        (len(epoch.examples) - 1 - int(features[0, 0]), int(target[0]))
        for index in range(len(epoch))
        for inputs, targets, weights in [epoch[index]]
        for features, some, weight in zip(inputs["features"], targets, weights, strict=True)
        for target, heavy in zip(some, weight, strict=True)
        if heavy.any()
    ]


def all_captions(data: Examples) -> set[tuple[int, int]]:
    return {(image, int(row[1])) for image, some in enumerate(data.tokens) for row in some}


def same(one, other) -> bool:
    return all(np.array_equal(one[part], other[part]) for part in (1, 2)) and all(
        np.array_equal(one[0][name], other[0][name]) for name in one[0]
    )


@pytest.mark.parametrize("epoch", [None, 0, 1])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_every_caption_once_an_epoch(epoch, size):
    data = examples(3, 1, 2, 3, 3)
    found = shown(batches(data, epoch, size=size))
    assert Counter(found) == Counter(all_captions(data))
    assert data.num_captions == len(found) == 12


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_all_batches_have_one_shape(size):
    epoch = batches(examples(3, 1, 2, 3, 3), size=size)
    assert len(epoch) == -(-5 // size)
    for index in range(len(epoch)):
        inputs, targets, weights = epoch[index]
        assert inputs["features"].shape == (size, 2, 3)
        assert inputs["tokens"].shape == targets.shape == weights.shape == (size, 3, LENGTH)
        assert (inputs["tokens"].dtype, targets.dtype, weights.dtype) == ("int32", "int32", "float32")


def test_targets_are_the_next_words_and_padding_weighs_nothing():
    inputs, targets, weights = batches(examples(2), None)[0]
    assert inputs["tokens"][0].tolist() == [[1, 10, 20, 2], [1, 11, 20, 0], [0, 0, 0, 0]]
    assert targets[0].tolist() == [[10, 20, 2, 0], [11, 20, 0, 0], [0, 0, 0, 0]]
    assert (weights[0] * 5 / weights.size).round(5).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert not targets[1].any()  # the image that fills the batch
    assert not weights[1].any()


def test_each_epoch_shows_one_of_an_images_views_and_validation_the_first():
    array = np.arange(12, dtype="float16")[:, None, None] * np.ones((1, 2, 3), "float16")
    data = Examples(array, np.arange(12).reshape(4, 3), [captions_of(image, 1) for image in range(4)])
    chosen = [
        {float(row[0, 0]) for index in range(len(epoch)) for row in epoch[index][0]["features"]}
        for epoch in [batches(data, number) for number in range(20)]
    ]
    assert all({row // 3 for row in rows} == {0, 1, 2, 3} for rows in chosen)
    assert set().union(*chosen) == set(range(12))
    assert {float(row[0, 0]) for row in batches(data, None, size=4)[0][0]["features"]} == {0, 3, 6, 9}


def test_order_is_a_function_of_seed_and_epoch():
    data = examples(*[5] * 12)
    again, other_epoch, other_seed = batches(data, 3), batches(data, 4), batches(data, 3, seed=8)
    first = batches(data, 3)
    assert all(same(first[index], again[index]) for index in range(len(first)))
    assert shown(first) != shown(other_epoch)
    assert shown(first) != shown(other_seed)
    assert shown(batches(data, None)) == sorted(shown(batches(data, None)))


@pytest.mark.parametrize("seed", range(20))
def test_every_epoch_shows_the_same_in_another_order(seed):
    data = examples(*[2] * 9)
    epochs = [shown(batches(data, epoch, seed=seed)) for epoch in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1


def test_the_images_of_a_batch_are_named():
    split = {Path(f"{name}.jpg"): [name] for name in "abc"}
    features = SimpleNamespace(
        array=np.zeros((3, 1, 1)), rows={image: row for row, image in enumerate(split)}, views={}
    )
    data = examples_of(features, split, lambda captions: np.ones((len(captions), 3), int))
    assert [batches(data, None).names(index) for index in (0, 1)] == [["a.jpg", "b.jpg"], ["c.jpg"]]
    assert batches(data, None, first=1).names(0) == ["c.jpg"]
    assert batches(examples(1), None).names(0) == []


def test_first_skips_exactly_the_batches_before():
    data = examples(*[5] * 7)
    whole, rest = batches(data, 2), batches(data, 2, first=2)
    assert len(rest) == len(whole) - 2
    assert all(same(rest[index], whole[index + 2]) for index in range(len(rest)))


def test_more_captions_than_room_take_turns():
    data = examples(6, 6)
    epochs = [set(shown(batches(data, epoch))) for epoch in range(12)]
    for epoch in epochs:
        assert Counter(image for image, _ in epoch) == {0: 3, 1: 3}
    assert set.union(*epochs) == all_captions(data)
    assert set(shown(batches(data, None))) == {
        (image, 10 * image + 10 + number) for image in (0, 1) for number in range(3)
    }


def test_batches_of_one_epoch_can_be_read_again():
    epoch = batches(examples(6, 6, 6), 1)
    assert same(epoch[0], epoch[0])


def pictures_of(crop: float) -> Examples:
    array = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype("uint8")
    return Examples(array, np.arange(3)[:, None], [captions_of(image, 1) for image in range(3)], crop=crop)


def test_crops_follow_from_the_epoch_and_are_drawn_in_training_alone():
    data = pictures_of(0.5)
    assert same(batches(data, 3, size=3)[0], batches(data, 3, size=3)[0])
    assert not same(batches(data, 3, size=3)[0], batches(data, 4, size=3)[0])
    features = batches(data, 3, size=3)[0][0]["features"]
    assert (features.shape, features.dtype) == ((3, 16, 16, 3), np.uint8)
    whole = data.array[batches(data, 3, size=3).images]
    pairs = list(zip(features, whole, strict=True))
    assert all((one != other).any() and (one != other[:, ::-1]).any() for one, other in pairs)
    np.testing.assert_array_equal(batches(data, None, size=3)[0][0]["features"], data.array)


def test_a_crop_of_the_whole_changes_no_picture():
    data = pictures_of(1.0)
    epoch = batches(data, 3, size=3)
    for picture, image in zip(epoch[0][0]["features"], epoch.images, strict=True):
        np.testing.assert_array_equal(picture[:, :: -1 if epoch.flipped[image] else 1], data.array[image])
