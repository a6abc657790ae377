"""What a student is shown and what it is told: another light, a little to some side; directions alike in spread."""

import numpy as np
import pytest

from captioning import distill


def test_principal_components_are_centred_and_alike_in_spread():
    random = np.random.default_rng(0)
    stretch = np.diag([100.0, 10, 1, 0.1]) @ np.linalg.qr(random.normal(size=(4, 4)))[0]
    regions = (random.normal(size=(2000, 4)) @ stretch + 7).astype("float32")
    kernel, bias, kept = distill.principal(regions, 3)
    seen = regions @ kernel + bias
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-3)
    assert np.square(seen).mean() == pytest.approx(1, rel=1e-3)
    spreads = seen.std(axis=0)
    np.testing.assert_allclose(spreads[:-1] / spreads[1:], np.sqrt(10), rtol=0.05)  # of 10, halfway to 1, as ratios
    np.testing.assert_allclose(np.corrcoef(seen.T), np.eye(3), atol=1e-2)
    assert kept == pytest.approx(1 - 0.01 / 10101.01, abs=1e-7)


def test_regions_that_hardly_differ_make_no_infinite_numbers():
    regions = np.outer(np.arange(20), np.ones(4)).astype("float32")
    kernel, bias, kept = distill.principal(regions, 4)
    assert np.isfinite([*kernel.ravel(), *bias]).all()
    assert kept == pytest.approx(1)


def test_the_student_sees_another_light_and_nothing_else():
    pixels = np.random.default_rng(0).integers(60, 180, (8, 4, 4, 3), dtype="uint8")
    lit = distill.otherwise_lit(pixels, np.random.default_rng(1))
    assert (lit.shape, lit.dtype) == (pixels.shape, "float32")
    assert lit.min() >= 0
    assert lit.max() <= 255
    assert len({float(picture.mean() / old.mean()) for picture, old in zip(lit, pixels, strict=True)}) == 8
    for picture, old in zip(lit, pixels.astype("float32"), strict=True):
        assert np.corrcoef(picture.mean(axis=-1).ravel(), old.mean(axis=-1).ravel())[0, 1] > 0.97
    np.testing.assert_array_equal(lit, distill.otherwise_lit(pixels, np.random.default_rng(1)))


def test_the_student_sees_pictures_a_little_to_some_side():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 20, 20, 3), dtype="uint8")
    moved = distill.shifted(pixels, np.random.default_rng(1))
    assert moved.shape == pixels.shape
    inner, most = slice(distill.SHIFTED, -distill.SHIFTED), range(-distill.SHIFTED, distill.SHIFTED + 1)
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


def test_unlikeness_is_the_squared_difference_and_the_angle():
    taught = np.array([[[3.0, 4.0], [1.0, 0.0]]], "float32")
    seen = np.array([[[3.0, 4.0], [0.0, 2.0]]], "float32")
    np.testing.assert_allclose(np.asarray(distill.unlikeness(taught, seen)), [[0, (1 + 4) / 2 + 1]], atol=1e-6)
