"""Image + attention -> figure. Knows nothing of models: maps are (rows, columns) arrays over the whole image."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

COLUMNS = 6
PANEL = 1.9  # inches of a panel's longer side
DOTS = 100  # an inch
TITLE = 1.3  # inches of a long word with its probability


def heat(attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An attention map brought smoothly to (height, width), between 0 and 1."""
    from PIL import Image

    peak = float(attention.max()) or 1.0
    picture = Image.fromarray((attention / peak).astype("float32"))
    return np.clip(np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)), 0, 1)


def strip_png(image: np.ndarray, words: Sequence[Any], title: str = "") -> bytes:
    """The image followed by one panel a word, heat over the image; words have text, probability, attention."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = math.ceil((len(words) + 1) / COLUMNS)
    columns = math.ceil((len(words) + 1) / rows)
    longest = PANEL if rows <= 2 else 0.8 * PANEL
    image = _shrunk(image, round(longest * DOTS))
    height, width = (side / max(image.shape[:2]) * longest for side in image.shape[:2])
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(1.04 * max(width, TITLE) * columns, (height + 0.27) * rows + 0.3), layout=layout)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(image)
    for panel, word in zip(panels[1:], words, strict=False):
        weights = heat(word.attention, image.shape[:2])
        panel.imshow(image.mean(axis=-1), cmap="gray", vmin=-60, vmax=275)
        panel.imshow(weights, cmap="inferno", vmin=0, vmax=1, alpha=0.75 * weights)
        panel.set_title(f"{word.text}  {word.probability:.0%}", fontsize=10, pad=3)
    figure.suptitle(title, fontsize=12)
    return _png(figure)


def _shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def curves_png(history: Sequence[dict[str, float]], score: str) -> bytes:
    """The losses and the validation score, epoch by epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    losses.plot(epochs, [row["loss"] for row in history], "o-", color="#0072b2", label="training", markersize=3)
    losses.plot(epochs, [row["dev_loss"] for row in history], "o-", color="#d55e00", label="validation", markersize=3)
    scores.plot(epochs, [row[score] for row in history], "o-", color="#009e73", markersize=3)
    losses.set_title("loss", fontsize=11)
    losses.legend(frameon=False)
    scores.set_title(f"validation {score}, greedy captions", fontsize=11)
    scores.set_ylim(bottom=0)
    for panel in (losses, scores):
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.3)
    return _png(figure)


def _png(figure: Any) -> bytes:
    """A figure in 32 steps a channel: a third of the bytes, and no eye sees the difference."""
    from PIL import Image

    drawn, picture = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=DOTS, format="png")
    steps = np.rint(np.asarray(Image.open(drawn).convert("RGB")) / 255 * 31)
    Image.fromarray(np.rint(steps / 31 * 255).astype("uint8")).save(picture, "png", optimize=True)
    return picture.getvalue()
