"""Familiar images lie near directions of the validation images; what a bundle stores of them is checked to the bit."""

import json

import numpy as np
import pytest

from captioning.inference import familiarity
from captioning.inference.familiarity import DIRECTIONS, LEAST_IMAGES, Familiarity


def means(count: int, seed: int = 0, depth: int = 24, subjects: int = 4) -> np.ndarray:
    """Mean features of images with a few subjects, each a direction of its own."""
    own = np.random.default_rng(7).uniform(0, 1, (subjects, depth)) ** 4
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 0.05, (count, depth))
    return own[rng.integers(subjects, size=count)] * rng.uniform(1, 3, (count, 1)) + noise


@pytest.fixture(scope="module")
def known() -> Familiarity:
    return familiarity.fit(means(400))


def test_images_of_the_same_kind_are_familiar_and_others_are_not(known):
    assert np.mean(known.is_familiar(means(1000, seed=1))) > 0.95
    assert not any(known.is_familiar(np.random.default_rng(7).normal(size=(50, 24))))


def test_the_limit_leaves_one_in_a_hundred_of_the_images_outside_that_took_no_part(known):
    assert 0.003 <= 1 - np.mean(known.is_familiar(means(3000, seed=2))) <= 0.03


def test_a_distance_is_within_its_bounds_and_brightness_does_not_count(known):
    found = known.distances(np.random.default_rng(0).normal(size=(200, 24)))
    assert (found >= -1e-3).all()
    assert (found <= 2 + 1e-3).all()
    np.testing.assert_allclose(known.distances(5 * means(9)), known.distances(means(9)), atol=1e-6)


def test_further_from_every_direction_is_never_more_familiar(known):
    near, strange = means(1), np.random.default_rng(3).normal(size=(1, 24))
    path = np.concatenate([(1 - share) * near + share * strange for share in np.linspace(0, 1, 20)])
    likeness = 1 - known.distances(path)
    first = known.is_familiar(path).index(False)
    assert not any(known.is_familiar(path)[first:])
    assert likeness[0] > likeness[-1]


def test_a_grid_is_as_familiar_as_its_mean(known):
    grids = np.random.default_rng(0).uniform(size=(5, 9, 24))
    np.testing.assert_allclose(known.distances(grids), known.distances(grids.mean(axis=1)), atol=1e-6)


def test_features_that_are_all_zero_are_unfamiliar(known):
    assert known.distances(np.zeros((1, 24)))[0] == 1
    assert known.is_familiar(np.full((1, 9, 24), np.nan)) == [False]


def test_too_few_images_say_nothing():
    assert familiarity.fit(means(LEAST_IMAGES - 1)) is None
    assert familiarity.fit(means(LEAST_IMAGES)) is not None


def test_the_same_images_give_the_same_directions(known):
    again = familiarity.fit(means(400))
    assert (again.limit, again.directions.tolist()) == (known.limit, known.directions.tolist())


def test_a_bundle_gives_back_what_was_measured(known):
    record = json.loads(json.dumps(known.record()))
    back = familiarity.read(record)
    assert back.limit == known.limit
    assert np.array_equal(back.directions, known.directions)
    assert back.directions.shape == (DIRECTIONS, 24)


def test_what_a_bundle_stores_is_small():
    deep = Familiarity(np.eye(DIRECTIONS, 2048, dtype="float32"), 0.5)
    assert len(json.dumps(deep.record())) < 150_000


@pytest.mark.parametrize(
    "change",
    [
        {"limit": -0.1},
        {"limit": 2.1},
        {"limit": "1"},
        {"limit": True},
        {"depth": 0},
        {"depth": -24},
        {"depth": 24.0},
        {"depth": 23},
        {"directions": 7},
        {"directions": ""},
        {"directions": "no base64!"},
        {"directions": "AAA="},
    ],
)
def test_a_record_of_something_else_is_refused(known, change):
    with pytest.raises(ValueError, match="familiarity"):
        familiarity.read(known.record() | change)


@pytest.mark.parametrize("value", [np.nan, np.inf, 100.0, 0.0])
def test_a_direction_without_length_one_is_refused(known, value):
    directions = known.directions.copy()
    directions[3] = value
    with pytest.raises(ValueError, match="not of length 1"):
        familiarity.read(Familiarity(directions, 0.5).record())
