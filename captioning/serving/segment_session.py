"""A picture and its segments on the page: found, captioned one by one, the caption's words linked to them."""

import dataclasses

import numpy as np

from captioning.data.images import read_image
from captioning.errors import CaptioningError
from captioning.extras.segment_words import Link, links
from captioning.extras.segments import Segment
from captioning.inference.caption import Caption
from captioning.serving.adjustments import shown
from captioning.serving.pool import CaptionerPool

MOST = 40  # segments that are shown, the best


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentSession:
    """A picture, its segments, its caption, and those of the segments that were asked for."""

    bundle: str
    view: np.ndarray  # uint8 (H, W, 3), as it is shown and segmented
    segments: tuple[Segment, ...]
    caption: Caption
    links: tuple[Link | None, ...]  # of the caption's words
    captions: dict[int, Caption] = dataclasses.field(default_factory=dict)
    chosen: int | None = None  # the segment that was asked for last

    def at(self, across: float, down: float) -> int | None:
        """The smallest segment at a place, shares from the left and the top; None where there is none."""
        height, width = self.view.shape[:2]
        row, column = min(height - 1, int(down * height)), min(width - 1, int(across * width))
        here = [place for place, each in enumerate(self.segments) if each.mask[row, column]]
        return min(here, key=lambda place: self.segments[place].area, default=None)


def find_segments(
    pool: CaptionerPool, segmenter: str, bundle: str, path: str | None, threshold: float
) -> SegmentSession:
    """The segments of the picture of a file, its caption, and which words belong to which segment."""
    if not path:
        raise CaptioningError("There is no picture yet; choose one.")
    view = shown(path)
    segments = pool.segments(segmenter, view, threshold)[:MOST]
    with pool.captioner(bundle) as captioner:
        caption = captioner.caption(_taken(captioner, view))
    return SegmentSession(bundle, view, tuple(segments), caption, tuple(links(caption.words, segments)))


def captioned(pool: CaptionerPool, seen: SegmentSession, place: int) -> SegmentSession:
    """The same with a segment chosen, and its caption."""
    if not 0 <= place < len(seen.segments):
        raise CaptioningError("That segment is no longer shown; choose one of those listed.")
    if place in seen.captions:
        return dataclasses.replace(seen, chosen=place)
    with pool.captioner(seen.bundle) as captioner:
        caption = captioner.caption(_taken(captioner, seen.view), region=seen.segments[place].mask)
    return dataclasses.replace(seen, captions=seen.captions | {place: caption}, chosen=place)


def _taken(captioner: object, view: np.ndarray) -> np.ndarray:
    """The picture as a captioner takes it: squashed to its size, or in its own shape."""
    size = getattr(captioner, "image_size", None)
    return read_image(view, size=size) if size else view
