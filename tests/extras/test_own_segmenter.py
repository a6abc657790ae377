"""The segmenter of our own: its network, how cells are grouped into objects, and what its folder must be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from captioning.errors import BundleError
from captioning.extras.own_segmenter import (
    WEIGHTS,
    OwnSegmenter,
    SegmenterConfig,
    build_network,
    load_own_segmenter,
    save_segmenter,
)
from captioning.extras.segment_grouping import find_peaks, group, owners_of
from captioning.extras.segments import OWN, is_own

TINY = SegmenterConfig(("dog", "cat"), 32, (4, 4, 8, 8))


def maps_of(objects, grid=20):
    """The maps of a network that makes no mistake: objects are (row, column, half a side, category)."""
    categories, centres = np.zeros((grid, grid, 3)), np.zeros((grid, grid))
    offsets = np.zeros((grid, grid, 2))
    categories[..., 0] = 1
    rows, columns = np.mgrid[:grid, :grid]
    for row, column, half, category in objects:
        inside = (abs(rows - row) <= half) & (abs(columns - column) <= half)
        categories[inside] = np.eye(3)[category]
        offsets[inside] = np.stack([row - rows[inside], column - columns[inside]], axis=-1) / grid
        centres = np.maximum(centres, np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4))
    return categories, centres, offsets


def test_touching_objects_of_one_kind_are_told_apart():
    maps = maps_of([(5, 5, 3, 1), (5, 12, 3, 1), (15, 10, 2, 2)])
    found = group(*maps, (40, 60), TINY.categories)
    assert sorted(segment.label for segment in found) == ["cat", "dog", "dog"]
    assert [segment.score for segment in found] == [1, 1, 1]
    boxes = sorted(segment.box for segment in found)
    for box, wanted in zip(boxes, [(6, 4, 21, 14), (24, 26, 15, 10), (27, 4, 21, 14)], strict=True):
        assert np.abs(np.subtract(box, wanted)).max() <= 1
    assert np.sum([segment.mask for segment in found], axis=0).max() == 1
    assert all(segment.mask.shape == (40, 60) and segment.mask.dtype == bool for segment in found)


def test_where_nothing_is_nothing_is_found():
    assert group(*maps_of([]), (40, 40), TINY.categories) == []
    categories, _, offsets = maps_of([(5, 5, 3, 1)])
    assert group(categories, np.zeros((20, 20)), offsets, (40, 40), TINY.categories) == []


def test_unsure_maps_give_low_scores_the_best_first():
    categories, centres, offsets = maps_of([(5, 5, 3, 1), (14, 14, 3, 2)])
    categories[14 - 3 : 14 + 4, 14 - 3 : 14 + 4] = (0.2, 0.3, 0.5)
    first, second = group(categories, centres, offsets, (40, 40), TINY.categories)
    assert (first.label, second.label) == ("dog", "cat")
    assert second.score == pytest.approx(0.5**0.5)


def test_peaks_are_apart_and_of_equal_ones_there_is_one():
    centres = np.zeros((9, 9))
    centres[2, 2] = centres[2, 3] = 0.6
    centres[7, 7] = 0.9
    assert find_peaks(centres).tolist() == [[7, 7], [2, 2]]
    assert find_peaks(np.full((9, 9), 0.05)).shape == (0, 2)


def test_cells_belong_to_the_centre_that_their_offset_leads_to():
    offsets = np.zeros((4, 4, 2))
    offsets[0, 0] = 3 / 4, 3 / 4
    owners = owners_of(np.array([[0, 0], [3, 3]]), offsets)
    assert owners[0, 0] == 1
    assert owners[0, 1] == 0


@pytest.fixture(scope="module")
def network():
    return build_network(TINY)


def test_the_maps_have_half_the_side_of_the_picture(network):
    shapes = [tuple(output.shape) for output in network.outputs]
    assert shapes == [(None, 16, 16, 3), (None, 16, 16, 1), (None, 16, 16, 2)]
    assert network.count_params() < 10_000


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter") / "mine"
    save_segmenter(folder, network, TINY, {"pictures": 3})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "mine"))


def test_a_saved_segmenter_is_loaded_and_finds_the_same(folder, network):
    assert is_own(folder)
    assert sorted(path.name for path in folder.iterdir()) == [OWN, WEIGHTS]
    loaded = load_own_segmenter(folder)
    assert (loaded.name, loaded.config) == ("mine", TINY)
    picture = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    batch = np.zeros((1, 32, 32, 3), np.float32)
    for ours, theirs in zip(network.predict_on_batch(batch), loaded.network.predict_on_batch(batch), strict=True):
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    for segment in loaded.segments(picture, threshold=0.0):
        assert segment.mask.shape == (30, 50)
    assert loaded.segments(picture, threshold=1.1) == []


def test_only_segments_of_the_score_are_given(network, monkeypatch):
    categories, centres, offsets = maps_of([(5, 5, 3, 1)], grid=16)
    maps = np.log(categories + 1e-9)[None], 0.5 * centres[None, ..., None], offsets[None]
    segmenter = OwnSegmenter(network, TINY, "x")
    monkeypatch.setattr(network, "predict_on_batch", lambda _: maps)
    picture = np.zeros((20, 30, 3), np.uint8)
    assert [segment.label for segment in segmenter.segments(picture)] == ["dog"]
    assert segmenter.segments(picture, threshold=0.8) == []


def rewrite(folder, **changes):
    record = json.loads((folder / OWN).read_text("utf-8"))
    (folder / OWN).write_text(json.dumps(record | changes), encoding="utf-8")


def damage_weights(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damage_weights, "not the file of this training"),
        (lambda folder: (folder / WEIGHTS).unlink(), "lacks"),
        (lambda folder: (folder / OWN).unlink(), "lacks"),
        (lambda folder: (folder / OWN).write_text("{"), "does not describe a segmenter"),
        (lambda folder: (folder / OWN).write_text("[]"), "does not describe a segmenter"),
        (lambda folder: rewrite(folder, format=9), "format is 9"),
        (lambda folder: rewrite(folder, config={}), "does not describe a segmenter"),
        (lambda folder: rewrite(folder, config=config_of(image_size=10**6)), "image_size or widths"),
        (lambda folder: rewrite(folder, config=config_of(image_size=[32])), "image_size or widths"),
        (lambda folder: rewrite(folder, config=config_of(widths=[4, 4, 8, 10**9])), "image_size or widths"),
        (lambda folder: rewrite(folder, config=config_of(categories="dog")), "list of names"),
        (lambda folder: rewrite(folder, config=config_of(categories=["dog"])), "does not fit"),
    ],
)
def test_an_altered_folder_is_refused_in_one_sentence(folder, change, said):
    change(folder)
    with pytest.raises(BundleError, match=said) as error:
        load_own_segmenter(folder)
    assert "\n" not in str(error.value)


def config_of(**changes):
    return {"categories": list(TINY.categories), "image_size": 32, "widths": list(TINY.widths)} | changes


def test_weights_that_are_not_finite_are_refused(tmp_path, network):
    before = network.get_weights()
    network.set_weights([np.full_like(weight, np.nan) for weight in before])
    save_segmenter(tmp_path, network, TINY, {})
    network.set_weights(before)
    with pytest.raises(BundleError, match="NaN"):
        load_own_segmenter(tmp_path)
