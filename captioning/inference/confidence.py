"""Confidence: the probability that a caption is a good one, calibrated on the validation split.

A good caption agrees with the image's references better than the weakest quarter of people's captions do: of captions
with a confidence of 0.8, 80 % were good.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from captioning.inference.caption import Caption

SURE = 0.65  # a caption below this is called "not sure"
STEPS, RIDGE = 50, 1e-3
LEAST_EXAMPLES = 20

Verdict = Literal["sure", "not sure", "unfamiliar", "not calibrated", "unknown"]


def is_sure(confidence: float | None, familiar: bool | None = None) -> bool | None:
    """Whether a caption counts as sure, as none of an unfamiliar image does; None where its confidence is unknown."""
    if familiar is False:
        return False
    return None if confidence is None else confidence >= SURE


def verdict_of(confidence: float | None, familiar: bool | None = None, *, calibrated: bool = True) -> Verdict:
    """What is said of a caption: whether it is sure, or that its image is unfamiliar, or nothing.

    A confidence that is not calibrated says neither that a caption is sure nor that it is not.
    """
    if familiar is False:
        return "unfamiliar"
    if confidence is not None and not calibrated:
        return "not calibrated"
    sure = is_sure(confidence)
    return "unknown" if sure is None else "sure" if sure else "not sure"


@dataclass(frozen=True)
class Calibration:
    """A logistic curve over the two signals of a caption."""

    bias: float
    likelihood: float
    agreement: float

    def confidence(self, likelihood: float, agreement: float) -> float:
        """The share of captions with these signals that are good."""
        return float(_logistic(self.bias + self.likelihood * likelihood + self.agreement * agreement))


def signals(caption: "Caption", rivals: Sequence["Caption"]) -> tuple[float, float]:
    """The mean log-probability of a caption's words, and how many words it shares with its rivals (F1, 0 to 1)."""
    probabilities = [word.probability for word in caption.words]
    likelihood = float(np.log(np.maximum(probabilities, 1e-6)).mean()) if probabilities else float(np.log(1e-6))
    said = [word.text for word in caption.words]
    shared = [_f1(said, [word.text for word in rival.words]) for rival in rivals]
    return likelihood, float(np.mean(shared)) if shared else 1.0


def _f1(one: Sequence[str], other: Sequence[str]) -> float:
    common = (Counter(one) & Counter(other)).total()
    return 2 * common / max(len(one) + len(other), 1)


def fit(found: Sequence[tuple[float, float]], good: Sequence[bool]) -> Calibration | None:
    """The curve that fits which captions were good, given their signals; None where too few or all are alike."""
    if min(sum(good), len(good) - sum(good)) < 1 or len(good) < LEAST_EXAMPLES:
        return None
    columns = np.column_stack([np.ones(len(found)), np.array(found)])
    centre = np.array([0, *columns[:, 1:].mean(axis=0)])
    spread = np.array([1, *np.maximum(columns[:, 1:].std(axis=0), 1e-6)])
    scaled, wanted, weights = (columns - centre) / spread, np.array(good, float), np.zeros(3)
    for _ in range(STEPS):  # Newton's method; the ridge keeps it finite where good and bad are separable
        shares = _logistic(scaled @ weights)
        slope = scaled.T @ (wanted - shares) - RIDGE * len(good) * weights
        curve = scaled.T @ (scaled * (shares * (1 - shares))[:, None]) + RIDGE * len(good) * np.eye(3)
        weights = weights + np.linalg.solve(curve, slope)
    weights = weights / spread
    return Calibration(float(weights[0] - weights @ centre), float(weights[1]), float(weights[2]))


def calibration_error(confidences: Sequence[float], good: Sequence[bool], *, bins: int = 10) -> float:
    """How far confidence and counted share lie apart, on average over captions sorted into bins of equal size."""
    order = np.argsort(confidences, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(np.mean(np.take(confidences, part)) - np.mean(np.take(good, part))) * len(part) for part in parts]
    return float(sum(gaps) / len(order))


def _logistic(value: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(value, -30, 30)))
