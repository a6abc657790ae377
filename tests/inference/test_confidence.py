"""Confidence means what was counted: a share of good captions, higher where captions are likelier and undisputed."""

from types import SimpleNamespace

import numpy as np
import pytest

from captioning.inference.confidence import LEAST_EXAMPLES, SURE, calibration_error, fit, is_sure, signals


def caption(text: str, probability: float = 0.5) -> SimpleNamespace:
    return SimpleNamespace(words=[SimpleNamespace(text=word, probability=probability) for word in text.split()])


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals, the true share of good captions for each, and whether each was good."""
    rng = np.random.default_rng(seed)
    found = np.column_stack([rng.normal(-1, 0.5, count), rng.uniform(0, 1, count)])
    shares = 1 / (1 + np.exp(-(1.0 + 2.0 * found[:, 0] + 3.0 * found[:, 1])))
    return found, shares, rng.random(count) < shares


def test_the_signals_of_a_caption():
    likelihood, agreement = signals(caption("a dog runs", 0.5), [caption("a dog sits"), caption("a dog runs")])
    assert likelihood == pytest.approx(np.log(0.5))
    assert agreement == pytest.approx((2 / 3 + 1) / 2)


def test_signals_of_captions_without_words_or_rivals():
    assert signals(caption("a dog"), [])[1] == 1
    likelihood, agreement = signals(caption(""), [caption("a dog")])
    assert likelihood < -10
    assert agreement == 0


def test_a_fitted_curve_gives_the_true_shares():
    found, shares, good = drawn(5000)
    curve = fit(found, good)
    given = [curve.confidence(*pair) for pair in found]
    np.testing.assert_allclose(given, shares, atol=0.06)
    fresh, shares, good = drawn(5000, seed=1)
    assert calibration_error([curve.confidence(*pair) for pair in fresh], good) < 0.03


def test_an_overconfident_curve_has_a_large_error():
    _, shares, good = drawn(5000)
    assert calibration_error(shares, good) < 0.03
    assert calibration_error(np.ones(5000), good) == pytest.approx(1 - good.mean())


def test_signals_that_part_good_from_bad_stay_finite():
    found = [(-1.0 - step / 50, 1.0) for step in range(50)]
    curve = fit(found, [step < 25 for step in range(50)])
    assert 0.9 < curve.confidence(-1.0, 1.0) < 1
    assert 0 < curve.confidence(-2.0, 1.0) < 0.1


@pytest.mark.parametrize("good", [[True] * 40, [False] * 40, [True, False] * (LEAST_EXAMPLES // 2 - 1)])
def test_what_cannot_be_known_is_not_claimed(good):
    assert fit([(-1.0, 0.5)] * len(good), good) is None


def test_a_caption_is_sure_unsure_or_unknown():
    assert [is_sure(confidence) for confidence in (SURE, SURE - 1e-9, None)] == [True, False, None]
