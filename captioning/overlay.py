"""Image + attention -> figure. Knows nothing of models: maps are (rows, columns) arrays over the whole image."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

COLUMNS = 6


def heat(attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An attention map brought smoothly to (height, width), between 0 and 1."""
    from PIL import Image

    peak = float(attention.max()) or 1.0
    picture = Image.fromarray((attention / peak).astype("float32"))
    return np.clip(np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)), 0, 1)


def strip_png(image: np.ndarray, words: Sequence[Any], title: str = "") -> bytes:
    """The image followed by one panel a word, heat over the image; words have text, probability, attention."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(words) + 1)
    rows = math.ceil((len(words) + 1) / columns)
    figure = Figure(figsize=(1.9 * columns, 2.15 * rows + 0.4), layout="constrained")
    panels = np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(image)
    for panel, word in zip(panels[1:], words, strict=False):
        weights = heat(word.attention, image.shape[:2])
        panel.imshow(image.mean(axis=-1), cmap="gray", vmin=-80, vmax=335)
        panel.imshow(weights, cmap="inferno", alpha=0.15 + 0.6 * weights)
        panel.set_title(f"{word.text}  {word.probability:.0%}", fontsize=10)
    figure.suptitle(title, fontsize=12)
    return _png(figure)


def curves_png(history: Sequence[dict[str, float]], score: str) -> bytes:
    """The losses and the validation score, epoch by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    losses.plot(epochs, [row["loss"] for row in history], "o-", color="#0072b2", label="training", markersize=3)
    losses.plot(epochs, [row["dev_loss"] for row in history], "o-", color="#d55e00", label="validation", markersize=3)
    scores.plot(epochs, [row[score] for row in history], "o-", color="#009e73", markersize=3)
    losses.set_ylabel("loss")
    losses.legend(frameon=False)
    scores.set_ylabel(f"validation {score}, greedy")
    for panel in (losses, scores):
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    return picture.getvalue()
