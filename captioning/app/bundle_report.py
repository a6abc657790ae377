"""What a bundle's folder tells of its training: scores, curves, captions epoch by epoch, the model card.

Knows nothing of pages, and does not open the captioner.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captioning.data.images import read_image
from captioning.data.scenes import dataset as scenes


@dataclass(frozen=True)
class Learning:
    """What some watched pictures were called after each epoch; `images` are None where they are not at hand."""

    names: tuple[str, ...] = ()
    images: tuple[np.ndarray | None, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()  # by epoch


def score_cards(folder: Path) -> dict[str, Any]:
    """The score cards by split."""
    return json.loads(_text(folder / "scores.json") or "{}")


def curves(folder: Path) -> np.ndarray | None:
    """The picture of the losses, uint8 (H, W, 3)."""
    return read_image(folder / "loss.png") if (folder / "loss.png").is_file() else None


def model_card(folder: Path) -> str:
    """The model card in Markdown, without the pictures that it refers to."""
    return re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", _text(folder / "README.md")) or "This bundle has no model card."


def learning(folder: Path) -> Learning:
    """The captions of the watched pictures by epoch, with the pictures where they can be drawn again."""
    record = json.loads(_text(folder / "learning.json") or "{}")
    names = tuple(record.get("images", ()))
    references = _references(folder)
    images = tuple(_drawn(name, references.get(name)) for name in names)
    return Learning(names, images, tuple(map(tuple, record.get("captions", ()))))


def _references(folder: Path) -> dict[str, list[str]]:
    lines = [json.loads(line) for line in _text(folder / "predictions-dev.jsonl").splitlines()]
    return {Path(line["image"]).name: line["references"] for line in lines}


def _drawn(name: str, references: list[str] | None) -> np.ndarray | None:
    """The built-in scene of this name, if it is the one that people's captions belong to."""
    found = re.fullmatch(r"dev_(\d{5})\.jpg", name)
    if not found or references is None:
        return None
    scene = scenes.draw_scene(0, scenes.SIZES["train"] + int(found[1]))
    return np.asarray(scene.image) if list(scene.captions) == references else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
