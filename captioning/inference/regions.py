"""A box or a mask over an image as regions of the encoder's grid."""

import math

import numpy as np
from PIL import Image

from captioning.errors import CaptioningError

FINE = 256  # lines of the mask that a box becomes


Region = tuple[float, float, float, float] | np.ndarray  # left, top, right, bottom as shares of the image, or a mask


def regions_within(region: Region, side: int) -> np.ndarray:
    """The regions, (side, side), of which a box or a mask over the image covers the most, or half as much as that."""
    if isinstance(region, np.ndarray):
        mask = Image.fromarray((region > 0).astype("float32"))
    else:
        left, top, right, bottom = region
        across, down = _covered(left, right), _covered(top, bottom)
        mask = Image.fromarray(np.outer(down, across).astype("float32"))
    covered = np.asarray(mask.resize((side, side), Image.Resampling.BOX))
    if not covered.max() > 0:
        raise CaptioningError("The region is empty or outside the image; mark some part of the image.")
    return covered >= covered.max() / 2


def bounds(region: Region, size: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and the columns of the smallest box of whole pixels around a region of an image of (height, width)."""
    if isinstance(region, np.ndarray):
        down, across = (np.flatnonzero((region > 0).any(axis=axis)) for axis in (1, 0))
        if not len(down):
            raise CaptioningError("The region is empty; mark some part of the image.")
        shares = [
            (line.min() / length, (line.max() + 1) / length)
            for line, length in zip((down, across), region.shape, strict=True)
        ]
    else:
        left, top, right, bottom = region
        shares = [(top, bottom), (left, right)]
    ends = [
        (max(0, int(low * length)), min(length, math.ceil(high * length)))
        for (low, high), length in zip(shares, size, strict=True)
    ]
    if any(low >= high for low, high in ends):
        raise CaptioningError("The region is empty or outside the image; mark some part of the image.")
    (top, bottom), (left, right) = ends
    return slice(top, bottom), slice(left, right)


def _covered(low: float, high: float) -> np.ndarray:
    lines = np.arange(FINE)
    return np.clip(np.minimum(lines + 1, high * FINE) - np.maximum(lines, low * FINE), 0, 1)
