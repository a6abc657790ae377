"""Figures of captions: attention word by word, captions by epoch, loss curves, contact sheets.

Images are uint8 (H, W, 3). Attention maps are (rows, columns) arrays over the whole image.
"""

import io
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from captioning.plots.layout import (
    ACCENT,
    GREY,
    INK,
    PALE,
    SMALLEST,
    Block,
    Font,
    bar,
    font_for,
    framed,
    gif,
    grid,
    paragraph,
    png,
    scaled,
    shortened,
    words_of,
)

COLOURS = "plasma"  # of attention: perceptually uniform, and safe for colour-blind readers
MOVES = 0.1  # least attention variation of a caption whose maps are informative
PAGE = 1280  # pixels of a page's width
PANEL = (190, 400)  # pixels of the side of a square panel, where there are many and where there are few
LABEL = 190  # pixels that a narrow panel may widen to for a long word
EPOCHS = 14  # most rows of captions by epoch
GAP = (14, 16)  # pixels between panels
WORD, PAUSE = 900, 1700  # milliseconds of a word's frame, and of the first and the last frame
THUMBNAIL = (264, 198)
STILL = "the attention hardly differs between the words: the maps are not informative"
STAYS = "epoch by epoch; words of the last caption are dark"
KEY = "under each image: the CIDEr-D of its caption, the caption, and in grey the closest of its references"

Row = tuple[np.ndarray, str, str, float]


class Word(Protocol):
    """A word of a caption: its text, its probability, its attention map (rows, columns) or None."""

    @property
    def text(self) -> str: ...

    @property
    def probability(self) -> float: ...

    @property
    def attention(self) -> np.ndarray | None: ...


def upsample(attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An attention map, upsampled to (height, width) and divided by its maximum, 0 to 1.

    Each cell becomes a quadratic B-spline around its centre, so that nothing is negative and nothing rings.
    """
    down, across = (_splines(*sides) for sides in zip(attention.shape, size, strict=True))
    found = down @ _bordered(_bordered(attention).T).T @ across.T
    return found / (found.max() or 1)


def _bordered(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[:2].min(axis=0, keepdims=True), values, values[-2:].min(axis=0, keepdims=True)])


def _splines(cells: int, length: int) -> np.ndarray:
    """The weights (length, cells + 2) of the cells, and of one beyond either border, at every pixel's centre."""
    centres = (np.arange(length) + 0.5) * cells / length + 0.5
    away = np.abs(centres[:, None] - np.arange(cells + 2))
    return np.where(away < 0.5, 0.75 - away**2, np.maximum(1.5 - away, 0) ** 2 / 2)


def blend_attention(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """The image in soft grey under a coloured attention map, uint8 (H, W, 3)."""
    colour, opacity = _coloured(upsample(attention, image.shape[:2]))
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype="float32")[..., None] / 255
    return np.rint(255 * (grey * (1 - opacity) + colour * opacity)).astype("uint8")


def overlay(attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A coloured attention map to lay over a grey image, uint8 (height, width, 4): red, green, blue, opacity."""
    return np.rint(255 * np.concatenate(_coloured(upsample(attention, size)), axis=-1)).astype("uint8")


def _coloured(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (H, W, 3) and opacity (H, W, 1) of shares, 0 to 1. Low shares fade the image towards white."""
    import matplotlib

    weights = shares.astype("float32")
    table = matplotlib.colormaps[COLOURS](np.arange(256))[:, :3].astype("float32")
    cover = 0.85 * weights[..., None] ** 0.75
    opacity = 1 - 0.6 * (1 - cover)
    return (0.3 * (1 - cover) + table[np.rint(255 * weights).astype(int)] * cover) / opacity, opacity


def attention_variation(maps: Sequence[np.ndarray]) -> float:
    """The mean total variation distance, 0 to 1, between each word's map and the mean map of the caption.

    Trained captioners reach 0.3 to 0.5. A single word counts as 1.
    """
    if len(maps) < 2:
        return 1.0
    shares = np.stack([np.ravel(each / each.sum()) for each in maps])
    return float(np.abs(shares - shares.mean(axis=0)).sum(axis=1).mean() / 2)


def is_attention_static(words: Sequence[Word]) -> bool:
    """Whether the words' attention maps hardly differ."""
    return attention_variation([word.attention for word in words if word.attention is not None]) < MOVES


def _under(photo: Image.Image, word: Word) -> Image.Image:
    """The photograph under the attention of a word; as it is where the word has none."""
    return photo if word.attention is None else Image.fromarray(blend_attention(np.asarray(photo), word.attention))


def strip_png(image: np.ndarray, words: Sequence[Word], title: str = "") -> bytes:
    """The image, followed by one panel for each word with its attention over the image."""
    font = font_for(title + "".join(word.text for word in words), 21)
    photo = _sized(image, len(words) + 1)
    longest = max((font.getlength(f"{word.text}  {word.probability:.0%}") for word in words), default=0)
    width = max(photo.width, min(LABEL, math.ceil(longest)))
    panels = [_panel(photo, paragraph([], font, width=width))]
    for word in words:
        coloured = _under(photo, word)
        panels.append(_panel(coloured, _label(word, font, photo.width, width=width)))
    columns = max(1, (PAGE + GAP[0]) // (width + GAP[0]))
    columns = math.ceil(len(panels) / math.ceil(len(panels) / columns))  # no row much shorter than the others
    return png(framed(_headed(grid(panels, columns, gap=GAP), title, STILL if is_attention_static(words) else "")))


def _sized(image: np.ndarray, count: int) -> Block:
    """The image as one of `count` panels. Its area is the same for every shape, and full rows fill the page's width."""
    side = min(max(PAGE * math.sqrt(0.5 / count), PANEL[0]), PANEL[1])
    shape = math.sqrt(image.shape[1] / image.shape[0])
    columns = max(1, round((PAGE + GAP[0]) / (side * shape + GAP[0])))
    return scaled(image, min(math.floor(side * shape), (PAGE + GAP[0]) // columns - GAP[0]), side / shape)


def _panel(picture: Block, label: Block) -> Block:
    return grid([label, picture], 1, gap=(0, 2))


def _label(word: Word, font: Font, image_width: int, *, width: int) -> Block:
    """The word, shrunk to fit, and its probability at the image's right edge, or further right after a long word."""
    block, share = paragraph([], font, width=width), f"{word.probability:.0%}"
    space = width - font.getlength("  " + share)
    shrunk = font.size * min(1, space / max(1, font.getlength(word.text)))
    fitting = font.font_variant(size=max(SMALLEST, shrunk))
    text = shortened(word.text, fitting, space)
    draw = ImageDraw.Draw(block)
    draw.text((0, font.size), text, INK, fitting, anchor="ls")
    draw.text((max(image_width, fitting.getlength(text) + width - space), font.size), share, GREY, font, anchor="rs")
    return block


def _headed(body: Block, title: str, note: str = "") -> Block:
    """A block under a title and a note, widened for a short title."""
    font, small = font_for(title, 28), font_for(note, 20)
    width = max(body.width, min(480, math.ceil(max(font.getlength(title), small.getlength(note)))))
    lines = [paragraph(words_of(title), font, width=width)] if title else []
    lines += [paragraph(words_of(note, GREY), small, width=width)] if note else []
    return grid([*lines, body], 1, gap=(0, 10))


def walk_gif(image: np.ndarray, words: Sequence[Word], *, longest: int = 480) -> bytes:
    """An animation with one frame for each word: its attention over the image, the caption, the word's probability.

    The first frame is the image itself. `longest` is the image's longer side in pixels.
    """
    photo = scaled(image, longest, longest)
    width = max(photo.width, 2 * longest // 3)
    font = font_for("".join(word.text for word in words), max(SMALLEST, longest / 22))
    pictures = [photo, *(_under(photo, word) for word in words)]
    frames = [_frame(picture, words, now, font, width) for now, picture in enumerate(pictures, start=-1)]
    return gif(frames, [PAUSE, *([WORD] * (len(words) - 1)), PAUSE][: len(frames)])


def _frame(picture: Block, words: Sequence[Word], now: int, font: Font, width: int) -> Block:
    """The frame of word `now`. At -1 no word is marked."""
    colours = [ACCENT if number == now else PALE if number > now >= 0 else INK for number in range(len(words))]
    caption = [(word.text, colour) for word, colour in zip(words, colours, strict=True)]
    probability = paragraph([], font, width=width)
    if now >= 0:
        probability = _measured(f"{words[now].probability:.0%}", words[now].probability, font, width)
    centred = ImageOps.pad(picture, (width, picture.height), color="white")
    return framed(grid([centred, paragraph(caption, font, width=width), probability], 1, gap=(0, 8)))


def _measured(text: str, share: float, font: Font, width: int) -> Block:
    """A number and its bar."""
    number = paragraph([(text, GREY)], font, width=round(3 * font.size))
    return grid([number, bar(share, font, width=width - number.width)], 2)


def epochs_png(image: np.ndarray, captions: Sequence[tuple[int, str, float | None]], title: str = "") -> bytes:
    """The image and its captions by epoch. Words that the last caption contains are dark.

    `captions` are (epoch, caption, score or None). At most `EPOCHS` are shown, spaced geometrically.
    """
    shown = list(captions)
    if len(shown) > EPOCHS:
        chosen = np.rint(np.geomspace(1, len(shown), EPOCHS + 1)).astype(int)
        shown = [shown[number - 1] for number in np.unique(chosen)]
    font = font_for("".join(caption for _, caption, _ in shown), 21)
    width = min(620, math.ceil(max((font.getlength(caption) for _, caption, _ in shown), default=0)) + 1)
    best = max((score or 0 for *_, score in shown), default=0) or 1
    rows = [block for row in shown for block in _epoch(row, shown[-1][1], best, font, width)]
    body = grid([scaled(image, 440, 440), grid(rows, 3, gap=(16, 12))], 2, gap=(32, 0))
    return png(framed(_headed(body, title, STAYS if len(shown) > 1 else "")))


def _epoch(row: tuple[int, str, float | None], last: str, best: float, font: Font, width: int) -> list[Block]:
    epoch, caption, score = row
    left, words = Counter(last.split()), []
    for word in caption.split():
        words.append((word, INK if left[word] > 0 else PALE))
        left[word] -= 1
    number = paragraph([(str(epoch), GREY)], font, width=round(2 * font.size))
    amount = paragraph([], font, width=0) if score is None else _measured(f"{score:.2f}", score / best, font, 140)
    return [number, paragraph(words, font, width=width), amount]


def sheet_png(sections: Mapping[str, Sequence[Row]]) -> bytes:
    """A contact sheet of (image, caption, reference, CIDEr-D), five in a row, under their section's name."""
    rows = list(itertools.chain.from_iterable(sections.values()))
    letters = "".join(caption + reference for _, caption, reference, _ in rows)
    best = max((score for *_, score in rows), default=0) or 1
    blocks: list[Block] = []
    for title, some in sections.items():
        if some:
            body = grid([_thumbnail(row, best, letters) for row in some], 5, gap=(18, 26))
            blocks.append(_headed(body, title, "" if blocks else KEY))
    return png(framed(grid(blocks, 1, gap=(0, 40))))


def _thumbnail(row: Row, best: float, letters: str) -> Block:
    image, caption, reference, score = row
    width = THUMBNAIL[0]
    blocks = [
        ImageOps.pad(scaled(image, *THUMBNAIL), THUMBNAIL, color="#f2f2f5"),
        _measured(f"{score:.2f}", score / best, font_for("", 17), width),
        paragraph(words_of(caption), font_for(letters, 19), width=width, lines=5),
        paragraph(words_of(reference, GREY), font_for(letters, 16), width=width, lines=5),
    ]
    return grid(blocks, 1, gap=(0, 4))


def curves_png(history: Sequence[dict[str, float]], score: str) -> bytes:
    """The losses and the validation score, epoch by epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    fitted = [row for row in history if "loss" in row]  # self-critical epochs, at the end, have no loss
    for name, colour, label in (("loss", "#0072b2", "training"), ("dev_loss", "#d55e00", "validation")):
        values = [row[name] for row in fitted]
        losses.plot(epochs[: len(fitted)], values, "o-", color=colour, label=label, markersize=3)
    scores.plot(epochs, [row[score] for row in history], "o-", color="#009e73", markersize=3)
    if len(fitted) < len(history):
        scores.axvspan(len(fitted) + 0.5, len(history) + 0.5, color="#009e73", alpha=0.08, label="self-critical")
        scores.legend(frameon=False, loc="lower right")
    losses.set_title("loss", fontsize=11)
    losses.legend(frameon=False)
    scores.set_title(f"validation {score}, greedy captions", fontsize=11)
    scores.set_ylim(bottom=0)
    for panel in (losses, scores):
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.3)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format="png")
    return png(framed(Image.open(drawn).convert("RGB")))
