"""Pictures in another light, a little to some side, a part of them, two in one; half as large."""

from itertools import product

import numpy as np

from captioning.training.augment import (
    LARGEST,
    SHIFTED,
    SMALLEST,
    STRONGEST,
    crop_randomly,
    downsample,
    jitter_colours,
    mix_images,
    shift_randomly,
)


def test_the_student_sees_another_light_and_nothing_else():
    pixels = np.random.default_rng(0).integers(60, 180, (8, 4, 4, 3), dtype="uint8")
    lit = jitter_colours(pixels, np.random.default_rng(1))
    assert (lit.shape, lit.dtype) == (pixels.shape, "float32")
    assert lit.min() >= 0
    assert lit.max() <= 255
    assert len({float(picture.mean() / old.mean()) for picture, old in zip(lit, pixels, strict=True)}) == 8
    for picture, old in zip(lit, pixels.astype("float32"), strict=True):
        assert np.corrcoef(picture.mean(axis=-1).ravel(), old.mean(axis=-1).ravel())[0, 1] > 0.97
    np.testing.assert_array_equal(lit, jitter_colours(pixels, np.random.default_rng(1)))


def test_the_student_sees_pictures_a_little_to_some_side():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 20, 20, 3), dtype="uint8")
    moved = shift_randomly(pixels, np.random.default_rng(1))
    assert moved.shape == pixels.shape
    inner, most = slice(SHIFTED, -SHIFTED), range(-SHIFTED, SHIFTED + 1)
    found = {
        next(
            (down, right)
            for down in most
            for right in most
            if np.array_equal(own[inner, inner], np.roll(old, (down, right), (0, 1))[inner, inner])
        )
        for own, old in zip(moved, pixels, strict=True)
    }
    assert len(found) > 20


def test_some_part_is_a_part_of_every_picture_mirrored_or_not():
    pictures = np.random.default_rng(0).integers(0, 255, (60, 6, 6, 3), dtype="uint8")
    found = set()
    for own, old in zip(crop_randomly(pictures, 4, np.random.default_rng(1)), pictures, strict=True):
        for y, x, way in product(range(3), range(3), (1, -1)):
            if np.array_equal(own, old[y : y + 4, x : x + 4][:, ::way]):
                found.add((y, x, way))
    assert len(found) == 18, "some are never taken"


def test_a_blend_shows_two_pictures_and_nothing_else():
    side, count = 40, 300
    white, black = np.full((count, side, side, 3), 200, "uint8"), np.zeros((count, side, side, 3), "uint8")
    blends = mix_images(white, black, np.random.default_rng(0))
    assert (white == 200).all(), "what was given is changed"
    ways = {"through": 0, "beside": 0, "before": 0}
    for blend in blends:
        covered = blend[..., 0] == 0
        if not covered.any():
            ways["through"] += 1
            assert np.unique(blend).size == 1
            assert 200 * STRONGEST <= blend.min() <= 200
            continue
        assert set(np.unique(blend)) == {0, 200}
        rows, columns = covered.any(axis=1), covered.any(axis=0)
        assert np.array_equal(covered, np.outer(rows, columns)), "what it covers is no rectangle"
        sides = sorted((rows.sum() / side, columns.sum() / side))
        assert SMALLEST <= sides[0] <= LARGEST
        ways["beside" if sides[1] == 1 else "before"] += 1
    assert min(ways.values()) > 70, ways


def test_a_halved_picture_is_the_mean_of_every_four_pixels():
    pictures = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    half = downsample(pictures)
    assert half.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(half[1, 1, 2], pictures[1, 2:4, 4:6].mean(axis=(0, 1)))
