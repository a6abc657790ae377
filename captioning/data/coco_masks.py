"""The masks of COCO: run lengths, plain or as text, and polygons."""

from collections.abc import Sequence
from typing import Any

import numpy as np

OUTSIDE = 1.0  # pixels by which a polygon may leave the picture; COCO's own do by fractions
MOST_CORNERS = 100_000


def encode_rle(mask: np.ndarray) -> dict[str, list[int]]:
    """A mask as COCO's uncompressed run lengths: columns first, zeros first."""
    flat = mask.T.ravel().astype(bool)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": counts}


def check_mask(segmentation: object, height: int, width: int) -> None:
    """Raises ValueError, which says what is wrong, where a segmentation is no mask of such a picture."""
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width]:
            raise ValueError(f"its run lengths are for {segmentation.get('size')}, the picture has {[height, width]}")
        _counts(segmentation.get("counts"), height * width)
    elif isinstance(segmentation, list) and segmentation:
        for corners in segmentation:
            _check_polygon(corners, height, width)
    else:
        raise ValueError("its segmentation is neither run lengths nor polygons")


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask (height, width) of bool of a segmentation. Raises ValueError where there is none."""
    check_mask(segmentation, height, width)
    if isinstance(segmentation, dict):
        counts = _counts(segmentation["counts"], height * width)
        values = np.arange(len(counts)) % 2 == 1
        return np.repeat(values, counts).reshape(width, height).T
    return np.any([_fill(np.array(corners, float).reshape(-1, 2), height, width) for corners in segmentation], axis=0)


def _fill(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose middle is inside a polygon: left of it are an odd number of its edges."""
    edges = np.zeros((height, width + 1), np.int32)
    middles = np.arange(height) + 0.5
    for (x, y), (end_x, end_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        rows = np.flatnonzero((middles >= min(y, end_y)) & (middles < max(y, end_y)))
        if len(rows):
            crossed = x + (middles[rows] - y) * (end_x - x) / (end_y - y)
            edges[rows, np.clip(np.ceil(crossed - 0.5), 0, width).astype(int)] += 1
    return edges[:, :width].cumsum(axis=1) % 2 == 1


def _check_polygon(corners: object, height: int, width: int) -> None:
    if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2 or len(corners) > MOST_CORNERS:
        raise ValueError("a polygon of it is not a list of at least three corners x, y")
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in corners):
        raise ValueError("a polygon of it has a corner that is not a number")
    xs, ys = corners[::2], corners[1::2]
    inside = min(xs) >= -OUTSIDE and min(ys) >= -OUTSIDE and max(xs) <= width + OUTSIDE and max(ys) <= height + OUTSIDE
    if not inside:
        raise ValueError(f"its polygon leaves the picture, which has {width} x {height} pixels")


def _counts(counts: object, pixels: int) -> Sequence[int]:
    if isinstance(counts, str):
        counts = _from_text(counts)
    if not isinstance(counts, list) or not all(type(each) is int and each >= 0 for each in counts):
        raise ValueError("its run lengths are not whole numbers from 0")
    if sum(counts) != pixels:
        raise ValueError(f"its run lengths are for {sum(counts):,} pixels, the picture has {pixels:,}")
    return counts


def _from_text(text: str) -> list[int]:
    """The run lengths of COCO's compressed text: five bits a character; from the third on, differences."""
    numbers, value, shift = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 40:
            raise ValueError("its run lengths are not COCO's text")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            numbers.append(value - (1 << shift) if code & 16 else value)
            value, shift = 0, 0
    if shift:
        raise ValueError("its run lengths end too early")
    for place in range(3, len(numbers)):
        numbers[place] += numbers[place - 2]
    return numbers


def box_of(mask: np.ndarray) -> list[int]:
    """Left, top, width and height of a mask in pixels."""
    spans = []
    for axis in (0, 1):
        held = np.flatnonzero(mask.any(axis=axis))
        spans.append((int(held[0]), int(held[-1]) + 1 - int(held[0])) if held.size else (0, 0))
    (left, width), (top, height) = spans
    return [left, top, width, height]
