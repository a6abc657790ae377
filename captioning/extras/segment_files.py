"""Segments as COCO has them: boxes, areas, masks as uncompressed run lengths, categories."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioning.errors import CaptioningError
from captioning.extras.segment_words import Link
from captioning.extras.segments import Segment
from captioning.inference.caption import Caption


@dataclass(frozen=True, eq=False)
class Found:
    """The segments of one picture; with captions, that of the picture, that of each segment, and the words' links."""

    image: str
    size: tuple[int, int]  # height and width of the masks
    segments: tuple[Segment, ...]
    caption: Caption | None = None
    captions: tuple[Caption, ...] = ()
    links: tuple[Link | None, ...] = ()

    def words(self, place: int) -> list[str]:
        """The words of the caption that belong to the segment at a place."""
        words = self.caption.words if self.caption else ()
        return [word.text for word, link in zip(words, self.links, strict=True) if link and link.place == place]


def run_lengths(mask: np.ndarray) -> list[int]:
    """The lengths of the runs of a mask, column by column, the first outside it: the uncompressed RLE of COCO."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *changes.tolist(), flat.size]).tolist() if flat.size else []
    return [0, *runs] if flat.size and flat[0] else runs


def mask_of(counts: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """The mask of run lengths, at this height and width."""
    height, width = size
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise CaptioningError(f"The runs have {sum(counts)} pixels; {height * width} were expected.")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def coco(found: Iterable[Found]) -> dict[str, Any]:
    """The record of some pictures: images, categories, annotations; numbers begin with 1."""
    pictures = list(found)
    labels = sorted({segment.label for each in pictures for segment in each.segments})
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(pictures, start=1):
        first = len(annotations) + 1
        annotations += [
            {"id": first + place, "image_id": number, "category_id": numbers[segment.label]}
            | _annotation(segment)
            | (_captioned(each.captions[place]) if each.captions else {})
            for place, segment in enumerate(each.segments)
        ]
        height, width = each.size
        image: dict[str, Any] = {"id": number, "file_name": each.image, "width": width, "height": height}
        images.append(image | (_worded(each, first) if each.caption else {}))
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    return {"images": images, "categories": categories, "annotations": annotations}


def _annotation(segment: Segment) -> dict[str, Any]:
    return {
        "label": segment.label,
        "score": round(segment.score, 4),
        "bbox": list(segment.box),
        "area": segment.area,
        "iscrowd": 0,
        "segmentation": {"size": list(segment.mask.shape), "counts": run_lengths(segment.mask)},
    }


def _captioned(caption: Caption) -> dict[str, Any]:
    confidence = None if caption.confidence is None else round(caption.confidence, 4)
    return {"caption": str(caption), "confidence": confidence, "verdict": caption.verdict}


def _worded(found: Found, first: int) -> dict[str, Any]:
    """The picture's caption; its words name the annotation that they belong to."""
    assert found.caption
    words = [
        {"text": word.text, "annotation_id": first + link.place if link else None}
        | ({"lift": round(link.lift, 3)} if link else {})
        for word, link in zip(found.caption.words, found.links, strict=True)
    ]
    return _captioned(found.caption) | {"words": words}
