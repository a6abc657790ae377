"""Other looks at a picture, so that an encoder shows a captioner, or a student, more than one grid of it.

Knows nothing of captions. Which look it is follows from the image and the look's number alone.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from captioning.data.images import read_image

SMALLEST = 0.75  # side of a crop, as a share of the picture's, of which what was said of the picture still holds
CLOSEST = 0.5  # side of a closer look


def view(image: Path, size: int, digest: str, number: int) -> np.ndarray:
    """The picture (size, size, 3) as it is (0), mirrored (1), a crop (2, 3, ...), a closer look (-1, -2, ...).

    Odd ones are mirrored. A closer look is as sharp as any other.
    """
    smallest, finer = (CLOSEST, round(1 / CLOSEST)) if number < 0 else (SMALLEST, 1)
    pixels = read_image(image, size=finer * size)
    mirrored = pixels[:, ::-1] if number % 2 else pixels
    if number in (0, 1):
        return mirrored
    rng = np.random.default_rng([int(digest[:12], 16), number % 2**32])
    share = rng.uniform(smallest, 1)
    left, top = rng.uniform(0, 1 - share, 2) * len(pixels)
    box = (left, top, left + share * len(pixels), top + share * len(pixels))
    picture = Image.fromarray(np.ascontiguousarray(mirrored))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))
