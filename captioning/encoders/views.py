"""Views of an image for training: the image itself, its mirror image, crops.

A view is a function of the image and the view's number.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from captioning.data.images import read_image

SMALLEST = 0.75  # least side of a crop, as a share of the image's; captions of the image still fit it


def view(image: Path, size: int, digest: str, number: int) -> np.ndarray:
    """The image (size, size, 3) unchanged (0), mirrored (1) or cropped (2, 3, ...). Odd numbers are mirrored."""
    pixels = read_image(image, size=size)
    mirrored = pixels[:, ::-1] if number % 2 else pixels
    if number in (0, 1):
        return mirrored
    rng = np.random.default_rng([int(digest[:12], 16), number])
    share = rng.uniform(SMALLEST, 1)
    left, top = rng.uniform(0, 1 - share, 2)
    return cropped(mirrored, left, top, share, size)


def cropped(pixels: np.ndarray, left: float, top: float, share: float, size: int) -> np.ndarray:
    """A square part of a square picture (H, H, 3), resized to (size, size, 3); corner and side are fractions of H."""
    side = len(pixels)
    box = (left * side, top * side, (left + share) * side, (top + share) * side)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))
