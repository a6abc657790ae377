"""Links the words of a caption to the segments of its picture by the attention of each word.

A word's lift over a segment is the share of its attention inside the mask, divided by the mask's share of the picture:
1 where the attention is spread evenly. A word belongs to the segment of its largest lift, where that is above 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from captioning.extras.segments import Segment
from captioning.inference.caption import Caption, Word
from captioning.inference.protocol import AnyCaptioner

if TYPE_CHECKING:
    from captioning.options import DecodeOptions


@dataclass(frozen=True)
class Link:
    """The place of the segment that a word belongs to, and the word's lift over it."""

    place: int
    lift: float


def covered(mask: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Which share of every cell of a grid (rows, columns) over the picture a mask covers."""
    down, across = (_overlaps(*sides) for sides in zip(grid, mask.shape, strict=True))
    return down @ np.asarray(mask, dtype="float64") @ across.T


def _overlaps(cells: int, pixels: int) -> np.ndarray:
    """Which share of every cell each pixel of a line is, (cells, pixels); exact, unlike the filters of Pillow."""
    cell, pixel = np.arange(cells)[:, None] / cells, np.arange(pixels) / pixels
    shared = np.minimum(cell + 1 / cells, pixel + 1 / pixels) - np.maximum(cell, pixel)
    return np.clip(shared, 0, None) * cells


def lift(attention: np.ndarray, cover: np.ndarray) -> float:
    """The share of the attention inside a mask that covers the cells so, divided by the mask's share of the picture."""
    total, share = float(attention.sum()), float(cover.mean())
    if not (total > 0 and share > 0):
        return 0.0
    return float((attention * cover).sum()) / total / share


def links(words: Sequence[Word], segments: Sequence[Segment]) -> list[Link | None]:
    """For every word the segment that it belongs to; None where it has no attention or no lift is above 1."""
    found: list[Link | None] = []
    grids = {word.attention.shape for word in words if word.attention is not None}
    covers = {grid: [covered(segment.mask, grid) for segment in segments] for grid in grids}
    for word in words:
        seen = word.attention
        lifts = [] if seen is None else [lift(seen, cover) for cover in covers[seen.shape]]
        best = int(np.argmax(lifts)) if lifts else 0
        found.append(Link(best, lifts[best]) if lifts and lifts[best] > 1 else None)
    return found


def caption_segment(
    captioner: AnyCaptioner, image: np.ndarray, segment: Segment, options: "DecodeOptions | None" = None
) -> Caption:
    """The caption of one segment, by the region captioning of a captioner."""
    return captioner.caption(image, options, region=segment.mask)
