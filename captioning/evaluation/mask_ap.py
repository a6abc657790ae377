"""COCO's average precision of masks, without crowds: AP over IoU 0.50 to 0.95, AP50 and AP75."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as COCO computes them
AT_75 = 5
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # of a category that count in a picture, as in COCO


class Labelled(Protocol):
    """An object with a label and a mask (H, W) of bool."""

    @property
    def label(self) -> str: ...

    @property
    def mask(self) -> np.ndarray: ...


class Scored(Labelled, Protocol):
    """An object that was found, with a score."""

    @property
    def score(self) -> float: ...


@dataclass(frozen=True)
class MaskScores:
    """Average precisions from 0 to 1; `categories` has the AP of each category that is in the truth."""

    ap: float
    ap50: float
    ap75: float
    categories: dict[str, float]

    def text(self) -> str:
        """The three figures in a line."""
        return f"AP {self.ap:.3f}, AP50 {self.ap50:.3f}, AP75 {self.ap75:.3f}"


def mask_ap(pictures: Iterable[tuple[Sequence[Scored], Sequence[Labelled]]]) -> MaskScores:
    """The scores of what was found in pictures, each beside what is there. Without any object all are NaN."""
    matches: dict[str, list[np.ndarray]] = defaultdict(list)
    scores: dict[str, list[float]] = defaultdict(list)
    present: dict[str, int] = defaultdict(int)
    for found, truth in pictures:
        for label in sorted({each.label for each in [*found, *truth]}):
            masks = [each.mask for each in truth if each.label == label]
            best = sorted((each for each in found if each.label == label), key=lambda each: -each.score)[:MOST]
            present[label] += len(masks)
            scores[label] += [each.score for each in best]
            matches[label].append(_match([each.mask for each in best], masks))
    table = {
        label: _precisions(np.array(scores[label]), np.concatenate(matches[label], axis=1), count)
        for label, count in present.items()
        if count
    }
    if not table:
        return MaskScores(float("nan"), float("nan"), float("nan"), {})
    mean = np.mean(list(table.values()), axis=0)
    categories = {label: float(table[label].mean()) for label in sorted(table)}
    return MaskScores(float(mean.mean()), float(mean[0]), float(mean[AT_75]), categories)


def overlaps(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> np.ndarray:
    """Intersection over union of every mask with every other."""
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    ours = np.stack(found).reshape(len(found), -1).astype(np.float32)
    theirs = np.stack(truth).reshape(len(truth), -1).astype(np.float32)
    shared = (ours @ theirs.T).astype(float)
    union = ours.sum(axis=1, dtype=float)[:, None] + theirs.sum(axis=1, dtype=float)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _match(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> np.ndarray:
    """Whether each mask, the best first, is right at each threshold: it takes the free object that it overlaps most."""
    ious = overlaps(found, truth)
    right = np.zeros((len(THRESHOLDS), len(found)), bool)
    if not truth:
        return right
    for row, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(truth), bool)
        for number in range(len(found)):
            candidates = np.where(free, ious[number], -1.0)
            last = len(truth) - 1 - int(candidates[::-1].argmax())  # of equals the last, as in COCO
            if candidates[last] >= threshold:
                free[last] = False
                right[row, number] = True
    return right


def _precisions(scores: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """The precision at each threshold, averaged over 101 recalls."""
    hits = right[:, np.argsort(-scores, kind="stable")]
    true = hits.cumsum(axis=1)
    recall = true / count
    precision = true / np.arange(1, hits.shape[1] + 1)
    averages = np.zeros(len(THRESHOLDS))
    for row in range(len(THRESHOLDS)):
        highest = np.maximum.accumulate(precision[row][::-1])[::-1]
        places = np.searchsorted(recall[row], RECALLS, side="left")
        averages[row] = np.append(highest, 0.0)[np.minimum(places, len(highest))].mean()
    return averages
