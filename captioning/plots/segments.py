"""Draws the segments of a picture: masks over it with numbers, and a legend of labels, scores and captions.

Colours are those of Okabe and Ito, which colour-blind people can tell apart. With more segments than colours they
repeat, and the numbers tell which is which.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from captioning.plots.layout import GREY, INK, WHITE, Block, font_for, framed, grid, paragraph, png, scaled, words_of

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000")
WIDE, TALL = 900, 900  # pixels of the picture, at most
LEGEND = 360  # pixels of the legend's width
FONT, SMALL, NUMBER = 17, 14, 15  # pixels
OPACITY = 0.5


class Shown(Protocol):
    """A segment: a label, a score, and a mask (H, W) of bool over the picture."""

    @property
    def label(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def mask(self) -> np.ndarray: ...


def colour_of(place: int) -> tuple[int, int, int]:
    """The colour of the segment at a place, red, green and blue."""
    code = COLOURS[place % len(COLOURS)]
    red, green, blue = (int(code[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def edge(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """The pixels of a mask that are at most this far from one outside it; the picture's own edge is none."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def overlaid(image: np.ndarray, masks: Sequence[np.ndarray], opacity: float = OPACITY) -> np.ndarray:
    """The picture (H, W, 3) under the masks, the largest first; their edges are drawn in full colour."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; expected a number from 0 to 1")
    drawn = image.astype("float32")
    for place in sorted(range(len(masks)), key=lambda place: -int(masks[place].sum())):
        mask, colour = masks[place], np.array(colour_of(place), "float32")
        drawn[mask] = (1 - opacity) * drawn[mask] + opacity * colour
        drawn[edge(mask, max(1, min(image.shape[:2]) // 250))] = colour
    return np.rint(drawn).astype("uint8")


def middle(mask: np.ndarray) -> tuple[float, float]:
    """A place within a mask, shares from the left and the top: its pixel closest to the mean of all of them."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.5, 0.5
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return (float(columns[nearest]) + 0.5) / mask.shape[1], (float(rows[nearest]) + 0.5) / mask.shape[0]


def segments_png(
    image: np.ndarray,
    segments: Sequence[Shown],
    *,
    opacity: float = OPACITY,
    caption: str = "",
    captions: Sequence[str] = (),
    words: Sequence[Sequence[str]] = (),
) -> bytes:
    """The picture with its segments and a legend; with captions of the picture and of each segment, and its words."""
    plain = scaled(image, WIDE, TALL)
    masks = [_resized(segment.mask, plain.size) for segment in segments]
    picture = Image.fromarray(overlaid(np.asarray(plain), masks, opacity))
    for place, segment in enumerate(segments):
        across, down = middle(segment.mask)
        _numbered(picture, place, across * picture.width, down * picture.height)
    beside = picture.width < picture.height * 1.6
    width = LEGEND if beside else max(LEGEND, picture.width)
    entries = [
        _entry(place, segment, width, *(list_[place] if list_ else () for list_ in (captions, words)))
        for place, segment in enumerate(segments)
    ] or [paragraph(words_of("No segment was found.", GREY), font_for("", FONT), width=width)]
    if caption:
        entries.insert(0, paragraph(words_of(caption), font_for(caption, FONT), width=width))
    legend = grid(entries, 1, gap=(0, 10))
    return png(framed(grid([picture, legend], 2 if beside else 1, gap=(20, 16))))


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at this width and height."""
    return np.asarray(Image.fromarray(mask.astype("uint8")).resize(size, Image.Resampling.NEAREST)) > 0


def _numbered(picture: Block, place: int, across: float, down: float) -> None:
    """The number of a segment on a disc at a place in the picture."""
    radius = 0.8 * NUMBER
    across = min(max(across, radius), picture.width - radius)
    down = min(max(down, radius), picture.height - radius)
    draw, text = ImageDraw.Draw(picture), str(place + 1)
    disc = (across - radius, down - radius, across + radius, down + radius)
    draw.ellipse(disc, fill=WHITE, outline=colour_of(place), width=2)
    draw.text((across, down), text, INK, font_for(text, NUMBER), anchor="mm")


def _entry(
    place: int, segment: Shown, width: int, caption: str | Sequence[str] = "", words: Sequence[str] = ()
) -> Block:
    """One line of the legend: a field in the segment's colour, its number, label, score, caption and words."""
    side, room = round(1.4 * FONT), width - 40
    swatch = Image.new("RGB", (side, side), colour_of(place))
    said = f"{place + 1}  {segment.label}"
    score = (f"{segment.score:.0%}", GREY)
    lines = [paragraph([*words_of(said), score], font_for(said, FONT), width=room)]
    if caption:
        text = str(caption)
        lines.append(paragraph(words_of(text), font_for(text, SMALL), width=room))
    if words:
        text = f"words: {', '.join(words)}"
        lines.append(paragraph(words_of(text, GREY), font_for(text, SMALL), width=room))
    return grid([swatch, grid(lines, 1)], 2, gap=(40 - side, 0))
