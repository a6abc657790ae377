"""Probabilities over a list of labels by a captioner itself, without any further model.

A label's evidence is the mean log-probability of its words after "a" or "an", given the picture, minus a share of the
same without the picture, which is a grid that has the average of all pictures everywhere. A bundle holds that average,
the share and the scale of the softmax, fitted on the development split. Shapes: N labels, L regions, D depth, V words.
"""

import base64
import binascii
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.tokenizer import START, UNKNOWN, Tokenizer, normalise
from captioning.errors import BundleError, CaptioningError
from captioning.inference.bundle_files import read_config, read_text
from captioning.inference.engine import Engine, State
from captioning.options import is_of_type

if TYPE_CHECKING:
    from captioning.inference.captioner import Captioner

MOST_LABELS = 10_000
LONGEST_LABEL = 60  # characters
AT_ONCE = 64  # beginnings of labels that are continued together
TOP = 5
ARTICLES = ("a", "an")
VOWELS = "aeiou"

Tokens = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LabelScale:
    """What labels need beside the captioner: the average (D) of all pictures, and two numbers fitted for it."""

    average: np.ndarray
    share: float  # of the log-probability without the picture that is taken off
    scale: float  # of the evidence, in the softmax

    def record(self) -> dict[str, Any]:
        """Its entry in config.json; the average in half precision, as text."""
        text = base64.b64encode(self.average.astype("<f2").tobytes()).decode()
        return {"average": text, "share": self.share, "scale": self.scale}

    def probabilities(self, given: np.ndarray, without: np.ndarray) -> np.ndarray:
        """The probabilities (..., N) of labels from their log-probabilities given the picture and without it."""
        evidence = self.scale * (given - self.share * without)
        shares = np.exp(evidence - evidence.max(axis=-1, keepdims=True))
        return shares / shares.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Label:
    """A label and its probability among those that were asked for."""

    text: str
    probability: float


@dataclass(frozen=True)
class Labels:
    """The labels of a picture, the most probable first, and those that hold a word the captioner lacks."""

    found: tuple[Label, ...]
    unknown: tuple[str, ...] = ()

    @property
    def top(self) -> tuple[Label, ...]:
        """The five most probable."""
        return self.found[:TOP]

    def summary(self) -> str:
        """What was found, in one sentence."""
        best, *others = self.top
        among = f"among {len(self.found):,} labels" if len(self.found) > 1 else "the only label"
        text = f"Most likely {best.text} ({best.probability:.0%}, {among})"
        if others:
            text += f", then {' and '.join(f'{each.text} ({each.probability:.0%})' for each in others[:2])}"
        return f"{text}."


def read_scale(folder: Path) -> LabelScale:
    """The label scale of a bundle; refused where it has none."""
    record = read_config(folder).get("labels")
    if record is None:
        raise BundleError(f"{folder} has not been calibrated for labels; run captioning calibrate {folder} DATA.")
    try:
        numbers = np.frombuffer(base64.b64decode(record["average"], validate=True), "<f2").astype("float32")
        share, scale = record["share"], record["scale"]
        is_sound = all(is_of_type(float, each) and np.isfinite(each) for each in (share, scale)) and scale > 0
        if not is_sound or not numbers.size or not np.isfinite(numbers).all():
            raise ValueError("numbers were expected")
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise BundleError(f"{folder}/config.json has labels that cannot be read ({error}); copy it again.") from None
    return LabelScale(numbers, float(share), float(scale))


def read_labels(given: str) -> list[str]:
    """The labels of a file, one a line, or of a text with commas between them; each once, in their order."""
    is_file = "," not in given or os.path.isfile(given)  # which, unlike Path's, takes a name that is too long
    return check_labels(_lines_of(given) if is_file else given.split(","), given[:LONGEST_LABEL])


def check_labels(lines: Sequence[str], source: str, most: int = MOST_LABELS) -> list[str]:
    """Labels, each once, in their order; refused where there are too few, too many, or one that is no label."""
    labels = list(dict.fromkeys(text for line in lines if (text := " ".join(line.split()))))
    if len(labels) < 2:
        raise CaptioningError(f"{source} has {len(labels)} different labels; expected two or more.")
    if len(labels) > most:
        raise CaptioningError(f"{len(labels):,} labels are too many; give at most {most:,}.")
    for label in labels:
        if len(label) > LONGEST_LABEL or not label.isprintable():
            shown = "".join(filter(str.isprintable, label[:LONGEST_LABEL]))
            raise CaptioningError(f"The label {shown} cannot be used: up to {LONGEST_LABEL} printable characters fit.")
    return labels


def _lines_of(given: str) -> list[str]:
    path = Path(given)
    if not os.path.isfile(path):
        raise CaptioningError(f"{given[:LONGEST_LABEL]} is no file of labels; give one with a label a line, or a,b,c.")
    try:
        return read_text(path.parent, path.name).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise CaptioningError(f"{path} is not text in UTF-8; save the labels as UTF-8.") from None


def tokens_of(tokenizer: Tokenizer, labels: Sequence[str]) -> dict[str, Tokens]:
    """The words of each label as ids, its article first; labels with a word that the vocabulary lacks are left out."""
    found = {}
    for label in labels:
        words = normalise(label)
        if words and words[0] not in (*ARTICLES, "the"):
            words = [ARTICLES[words[0][0] in VOWELS], *words]
        ids = tuple(map(tokenizer.id, words))
        if len(ids) > 1 and UNKNOWN not in ids:
            found[label] = ids
    return found


def log_probabilities(engine: Engine, grid: np.ndarray, wanted: Sequence[Tokens]) -> np.ndarray:
    """The mean log-probability (N) of each label's words after its article, given a grid (L, D)."""
    totals = defaultdict[Tokens, float](float)
    states: dict[Tokens, tuple[int, State]] = {}
    level: dict[Tokens, list[Tokens]] = {(): list(dict.fromkeys(wanted))}
    state = engine.start(np.asarray(grid, "float32")[None])
    states[()] = 0, state
    while level:
        level = _next_level(engine, level, states, totals)
    return np.array([totals[tokens] / (len(tokens) - 1) for tokens in wanted])


def _next_level(
    engine: Engine, level: Mapping[Tokens, list[Tokens]], states: dict[Tokens, tuple[int, State]], totals: Any
) -> dict[Tokens, list[Tokens]]:
    """Goes on by one word from every beginning; adds to the totals, returns the longer beginnings and their labels."""
    longer = defaultdict[Tokens, list[Tokens]](list)
    beginnings = list(level)
    for first in range(0, len(beginnings), AT_ONCE):
        part = beginnings[first : first + AT_ONCE]
        last = np.array([[each[-1] if each else START] for each in part], "int32")
        log_probs, state = engine.step(last, _stacked([states[each] for each in part]))
        for row, beginning in enumerate(part):
            for tokens in level[beginning]:
                place = len(beginning)
                totals[tokens] += float(log_probs[row, 0, tokens[place]]) if place else 0.0  # the article is free
                if place + 1 < len(tokens):
                    longer[tokens[: place + 1]].append(tokens)
            states.update({each: (row, state) for each in _continued(beginning, level[beginning])})
    for beginning in beginnings:
        states.pop(beginning)
    return dict(longer)


def _continued(beginning: Tokens, labels: Sequence[Tokens]) -> set[Tokens]:
    place = len(beginning) + 1
    return {tokens[:place] for tokens in labels if place < len(tokens)}


def _stacked(states: Sequence[tuple[int, State]]) -> State:
    """The rows of several states as one state; the first axis of each part is that of captions."""
    parts = zip(*(state for _, state in states), strict=True)
    rows = [row for row, _ in states]
    return tuple(np.stack([np.asarray(each[row]) for row, each in zip(rows, part, strict=True)]) for part in parts)


class Labeller:
    """Labels pictures with one captioner; the evidence without a picture is computed once for a list of labels."""

    def __init__(self, captioner: "Captioner", scale: LabelScale, labels: Sequence[str]) -> None:
        self._captioner, self._scale = captioner, scale
        words = tokens_of(captioner.tokenizer, labels)
        self.unknown = tuple(label for label in labels if label not in words)
        if len(words) < 2:
            raise CaptioningError(
                f"The captioner knows the words of {len(words)} of {len(labels):,} labels; give two or more that are "
                "in its vocabulary."
            )
        self._labels, self._tokens = list(words), list(words.values())
        average = np.tile(scale.average, (captioner.engine.num_regions, 1))
        self._without = log_probabilities(captioner.engine, average, self._tokens)

    def __call__(self, image: Any) -> Labels:
        """The labels of a picture with their probabilities."""
        [grid] = self._captioner.features([image])
        if grid.shape[-1] != len(self._scale.average) or grid.ndim != 2:
            raise CaptioningError("Labels need one captioner whose encoder is its own; give one --bundle.")
        given = log_probabilities(self._captioner.engine, grid, self._tokens)
        probabilities = self._scale.probabilities(given, self._without)
        order = np.argsort(-probabilities, kind="stable")
        found = tuple(Label(self._labels[place], float(probabilities[place])) for place in order)
        return Labels(found, self.unknown)
