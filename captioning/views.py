"""Other looks at a picture, so that a frozen encoder too shows a captioner more than one grid of it.

Knows nothing of files or captions. Which look it is follows from the image and the view's number alone.
"""

import numpy as np
from PIL import Image

SMALLEST = 0.75  # side of a crop, as a share of the picture's


def view(pixels: np.ndarray, digest: str, number: int) -> np.ndarray:
    """The picture (H, W, 3) as it is (0), mirrored (1), or a crop of it at its full size, odd ones mirrored."""
    mirrored = pixels[:, ::-1] if number % 2 else pixels
    if number < 2:
        return mirrored
    chance = np.random.default_rng([int(digest[:12], 16), number])
    share = chance.uniform(SMALLEST, 1)
    left, top = chance.uniform(0, 1 - share, 2)
    height, width = pixels.shape[:2]
    box = (left * width, top * height, (left + share) * width, (top + share) * height)
    picture = Image.fromarray(np.ascontiguousarray(mirrored))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))
