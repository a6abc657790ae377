"""What a bundle's folder tells of its training: scores, curves, captions epoch by epoch, the model card.

Reads only files that the bundle's config.json lists. A file that is damaged is left out, with a sentence that says so.
"""

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from captioning.data.images import read_image
from captioning.data.scenes import dataset as scenes
from captioning.errors import BundleError, ImageError
from captioning.inference.bundle_files import read_listed
from captioning.runtime import strict_json

LONGEST = 2**20  # bytes of scores, captions or card that a page shows
MOST = 64  # pictures that a training watches: each may have to be drawn
CURVE = 3  # epochs with a loss, at least
NO_CARD = "This bundle has no model card."
DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, csv.Error)

Part = TypeVar("Part")


@dataclass(frozen=True)
class Learning:
    """What some watched pictures were called after each epoch; `images` are None where they are not at hand."""

    names: tuple[str, ...] = ()
    images: tuple[np.ndarray | None, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()  # by epoch


@dataclass(frozen=True)
class Report:
    """All that the page shows of a bundle; `problems` tell of files that cannot be shown."""

    scores: dict[str, Any]
    curves: np.ndarray | None
    learning: Learning
    card: str
    problems: tuple[BundleError, ...]


def read_report(folder: Path) -> Report:
    """The report of a bundle, as far as its files can be read."""
    problems: list[BundleError] = []

    def read(part: Callable[[Path], Part], otherwise: Part) -> Part:
        try:
            return part(folder)
        except BundleError as error:
            problems.append(error)
            return otherwise

    return Report(
        scores=read(score_cards, {}),
        curves=read(curves, None),
        learning=read(learning, Learning()),
        card=read(model_card, NO_CARD),
        problems=tuple(problems),
    )


def score_cards(folder: Path) -> dict[str, Any]:
    """The score cards by split."""
    text = _text(folder, "scores.json")
    with _damage_told(folder, "scores.json"):
        return {name: _score_card(card) for name, card in strict_json.loads(text or "{}").items()}


def _score_card(card: dict[str, Any]) -> dict[str, Any]:
    """The parts of a score card that are shown, as the texts and numbers that they should be."""
    numbers = "value", "low", "high"
    return {
        "split": str(card["split"]),
        "images": int(card["images"]),
        "scores": {name: {key: float(score[key]) for key in numbers} for name, score in card["scores"].items()},
        "shuffled_images": {"CIDEr-D": float(card["shuffled_images"]["CIDEr-D"])},
        "variety": {"distinct_captions": float(card["variety"]["distinct_captions"])},
    }


def curves(folder: Path) -> np.ndarray | None:
    """The picture of the losses, uint8 (H, W, 3); None where there are too few epochs for a curve."""
    rows = csv.DictReader(_text(folder, "history.csv").splitlines())
    with _damage_told(folder, "history.csv"):
        if sum(bool(row.get("loss")) for row in rows) < CURVE:
            return None
    data = read_listed(folder, "loss.png")
    try:
        return read_image(io.BytesIO(data)) if data else None
    except ImageError as error:
        reason = str(error).replace("the picture", f"{folder.name}/loss.png", 1)
        raise BundleError(reason) from None


def model_card(folder: Path) -> str:
    """The model card in Markdown, without HTML and without the pictures that it refers to."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", _text(folder, "README.md"))
    text = text.replace("![", "[")  # a browser would fetch what is left of them, also from other machines
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text) or NO_CARD


def learning(folder: Path) -> Learning:
    """The captions of the watched pictures by epoch, with the pictures where they can be drawn again."""
    text = _text(folder, "learning.json")
    with _damage_told(folder, "learning.json"):
        record = strict_json.loads(text or "{}")
        names = _texts(record.get("images", []))
        captions = tuple(map(_texts, record.get("captions", [])))
        if len(names) > MOST or any(len(epoch) != len(names) for epoch in captions):
            raise ValueError("too many images, or an epoch without a caption for each")
    references = _references(folder)
    return Learning(names, tuple(_drawn(name, references.get(name)) for name in names), captions)


def _texts(found: list[str]) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise TypeError(f"{type(found).__name__} where a list of texts should be")
    return tuple(found)


def _references(folder: Path) -> dict[str, list[str]]:
    name = "predictions-dev.jsonl"
    data = read_listed(folder, name)
    with _damage_told(folder, name):
        lines = [strict_json.loads(line) for line in data.decode().splitlines()]
        return {Path(line["image"]).name: line["references"] for line in lines}


def _drawn(name: str, references: list[str] | None) -> np.ndarray | None:
    """The built-in scene of this name, if it is the one that people's captions belong to."""
    found = re.fullmatch(r"dev_(\d{5})\.jpg", name)
    if not found or references is None:
        return None
    scene = scenes.draw_scene(0, scenes.SIZES["train"] + int(found[1]))
    return np.asarray(scene.image) if list(scene.captions) == references else None


def _text(folder: Path, name: str) -> str:
    data = read_listed(folder, name)
    if len(data) > LONGEST:
        raise BundleError(f"{folder.name}/{name} has more than {LONGEST // 2**20} MB, so it is not shown.")
    with _damage_told(folder, name):
        return data.decode()


@contextlib.contextmanager
def _damage_told(folder: Path, name: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE:
        raise BundleError(f"{folder.name}/{name} is damaged, so it is not shown; copy the bundle again.") from None
