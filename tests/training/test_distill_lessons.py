"""What a student is told: directions alike in spread, how far it is off, what its teacher sees in blends."""

import keras
import numpy as np
import pytest

from captioning.training import distill


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


def test_unlikeness_is_the_squared_difference_and_the_angle():
    base = np.array([[[3.0, 4.0], [1.0, 0.0]]], "float32")
    seen = np.array([[[3.0, 4.0], [0.0, 2.0]]], "float32")
    np.testing.assert_allclose(np.asarray(distill.unlikeness(base, seen)), [[0, (1 + 4) / 2 + 1]], atol=1e-6)


def test_the_teacher_is_asked_about_the_very_blends_that_the_student_is_shown():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 20, 20, 3), dtype="uint8")
    images = keras.Input((16, 16, 3))
    teacher = keras.Model(images, keras.layers.Reshape((4, 3))(keras.layers.AveragePooling2D(8)(images)))
    blends = distill.Blends(pixels, np.array([1, 3, 4]), teacher)
    looks, seen = blends.draw(6, np.random.default_rng(1))
    assert (looks.shape, seen.shape) == ((6, 8, 8, 3), (6, 4, 3))
    np.testing.assert_allclose(looks.reshape(6, 2, 4, 2, 4, 3).mean(axis=(2, 4)).reshape(6, 4, 3), seen, rtol=1e-4)
    again, others = (blends.draw(6, np.random.default_rng(seed))[0] for seed in (1, 2))
    np.testing.assert_array_equal(looks, again)
    assert not np.array_equal(looks, others)
