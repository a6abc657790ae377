"""Links the words of a caption to the segments of its picture by the attention of each word.

A word's lift over a segment is the share of its attention inside the mask, divided by the mask's share of the picture:
1 where the attention is spread evenly. A word belongs to the segment of its largest lift, where that is above 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

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
    rows, columns = grid
    picture = Image.fromarray(np.asarray(mask, dtype="float32"))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BOX), dtype="float64")


def lift(attention: np.ndarray, mask: np.ndarray) -> float:
    """The share of the attention inside a mask, divided by the mask's share of the picture; 0 for an empty mask."""
    total, share = float(attention.sum()), float(np.mean(mask))
    if not (total > 0 and share > 0):
        return 0.0
    inside = float((attention * covered(mask, attention.shape)).sum())
    return inside / total / share


def links(words: Sequence[Word], segments: Sequence[Segment]) -> list[Link | None]:
    """For every word the segment that it belongs to; None where it has no attention or no lift is above 1."""
    found: list[Link | None] = []
    for word in words:
        lifts = [] if word.attention is None else [lift(word.attention, segment.mask) for segment in segments]
        best = int(np.argmax(lifts)) if lifts else 0
        found.append(Link(best, lifts[best]) if lifts and lifts[best] > 1 else None)
    return found


def caption_segment(
    captioner: AnyCaptioner, image: np.ndarray, segment: Segment, options: "DecodeOptions | None" = None
) -> Caption:
    """The caption of one segment, by the region captioning of a captioner."""
    return captioner.caption(image, options, region=segment.mask)
