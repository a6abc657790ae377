"""Fits on captioned images how a captioner's log-probabilities become probabilities of labels, and how good they are.

The images are those whose captions all name the same one of the commonest nouns. Shapes: I images, N labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from captioning.data.tokenizer import normalise
from captioning.errors import ImageError
from captioning.inference.bundle_writer import write_labels
from captioning.inference.labels import LabelScale, log_probabilities, tokens_of

if TYPE_CHECKING:
    from captioning.inference.captioner import Captioner

NOUNS = 20
LEAST_EACH = 3  # images that agree on a noun
LEAST_IMAGES = 50
AT_ONCE = 32  # images that are encoded together
FOLDS = 5
SHARES = np.linspace(0, 1.2, 13)
SCALES = np.geomspace(0.25, 8, 21)
ARTICLES = {"a", "an", "the", "two", "his", "her"}
FOLLOWING = set("is are in on with and at by near of to wearing has that who while from over through".split())  # noqa: SIM905


class Measured(NamedTuple):
    """A fitted scale, and shares of images whose most probable label is right, each fitted without that image."""

    scale: LabelScale
    labels: list[str]
    images: int
    top_1: float
    top_5: float
    commonest: float  # if the commonest label were always chosen

    def text(self) -> str:
        """What was found, as a sentence."""
        return (
            f"labels: {self.top_1:.0%} of {self.images:,} images right among {len(self.labels)} nouns, "
            f"{self.top_5:.0%} in the first five; {1 / len(self.labels):.0%} by chance, "
            f"{self.commonest:.0%} with {self.labels[0]} for all"
        )


def nouns_of(captions: Sequence[str]) -> set[str]:
    """Words that captions use as nouns: mostly before a function word or the end, and often after an article."""
    count, before, after = Counter[str](), Counter[str](), Counter[str]()
    for caption in captions:
        words = ["", *normalise(caption), ""]
        for last, word, following in zip(words, words[1:-1], words[2:], strict=False):
            count[word] += 1
            before[word] += last in ARTICLES
            after[word] += not following or following in FOLLOWING
    return {
        word
        for word, total in count.items()
        if word not in ARTICLES | FOLLOWING and after[word] > 0.5 * total and before[word] > 0.2 * total
    }


def agreed(images: Mapping[Path, Sequence[str]], *, most: int = NOUNS) -> tuple[list[str], dict[Path, int]]:
    """The commonest nouns on which all captions of some images agree, and the images that have exactly one of them."""
    nouns = nouns_of([caption for own in images.values() for caption in own])
    named = {image: nouns.intersection(*map(normalise, own)) for image, own in images.items()}
    counts = Counter(word for words in named.values() for word in sorted(words))
    labels = [word for word, count in counts.most_common(most) if count >= LEAST_EACH]
    single = {image: words & set(labels) for image, words in named.items() if len(words & set(labels)) == 1}
    return labels, {image: labels.index(min(words)) for image, words in single.items()}


def fit(given: np.ndarray, without: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The share and the scale under which the true labels (I) are most likely; given (I, N), without (N)."""
    rows = np.arange(len(truth))

    def loss(share: float, scale: float) -> float:
        shares = LabelScale(np.zeros(1), share, scale).probabilities(given, without)
        return float(-np.log(np.maximum(shares[rows, truth], 1e-9)).mean())

    return min(((float(share), float(scale)) for share in SHARES for scale in SCALES), key=lambda pair: loss(*pair))


def measure(given: np.ndarray, without: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Top-1 and top-5 accuracy, each image under numbers that were fitted to other images."""
    fold = np.random.default_rng(0).permutation(len(truth)) % FOLDS
    places = np.zeros(len(truth), int)
    for number in range(FOLDS):
        own = fold == number
        share, scale = fit(given[~own], without, truth[~own])
        shares = LabelScale(np.zeros(1), share, scale).probabilities(given[own], without)
        places[own] = (shares > shares[np.arange(own.sum()), truth[own]][:, None]).sum(axis=1)
    return float((places < 1).mean()), float((places < 5).mean())


def measure_captioner(captioner: "Captioner", images: Mapping[Path, Sequence[str]]) -> Measured | None:
    """The label scale of a captioner on captioned images; None where too few of them agree on a noun."""
    labels, truths = agreed(images)
    words = tokens_of(captioner.tokenizer, labels)
    kept = {image: label for image, label in truths.items() if labels[label] in words}
    if len(kept) < LEAST_IMAGES or len(words) < 2:
        return None
    grids, truth = _encoded(captioner, kept)
    if len(grids) < LEAST_IMAGES or grids.ndim != 3:
        return None
    known = list(words)
    places = np.array([known.index(labels[label]) for label in truth])
    return measure_grids(captioner, grids, places, known)


def measure_grids(captioner: "Captioner", grids: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Measured:
    """The label scale from the grids (I, L, D) of images and the places (I) of their labels."""
    tokens = list(tokens_of(captioner.tokenizer, labels).values())
    average = np.asarray(grids, "float32").mean(axis=(0, 1))
    without = log_probabilities(captioner.engine, np.tile(average, (grids.shape[1], 1)), tokens)
    given = np.stack([log_probabilities(captioner.engine, grid, tokens) for grid in grids])
    top_1, top_5 = measure(given, without, truth)
    scale = LabelScale(average, *fit(given, without, truth))
    commonest = float(np.bincount(truth).max() / len(truth))
    ordered = sorted(labels, key=lambda label: -int((truth == list(labels).index(label)).sum()))
    return Measured(scale, ordered, len(truth), top_1, top_5, commonest)


def calibrate_labels(folder: Path, captioner: "Captioner", images: Mapping[Path, Sequence[str]]) -> Measured | None:
    """Measures the label scale of a bundle's captioner and writes it into the bundle; None: too few images agree."""
    measured = measure_captioner(captioner, images)
    if measured:
        write_labels(folder, measured.scale.record())
    return measured


def _encoded(captioner: "Captioner", images: Mapping[Path, int]) -> tuple[np.ndarray, list[int]]:
    grids, truth, paths = [], [], list(images)
    for first in range(0, len(paths), AT_ONCE):
        for path, grid in _readable(captioner, paths[first : first + AT_ONCE]):
            grids.append(grid)
            truth.append(images[path])
    return np.array(grids), truth


def _readable(captioner: "Captioner", paths: Sequence[Path]) -> list[tuple[Path, np.ndarray]]:
    """The grids of these images; one that cannot be read is left out, as the calibration has said before."""
    try:
        return list(zip(paths, captioner.features(paths), strict=True))
    except ImageError:
        if len(paths) == 1:
            return []
        return [each for path in paths for each in _readable(captioner, [path])]
