"""What is done to a picture before it is captioned, and how pictures get into a page.

Pictures are uint8 (H, W, 3).
"""

import base64
import dataclasses
import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from captioning.data.images import read_image
from captioning.data.scenes.dataset import draw_scene
from captioning.serving.regions import WHOLE, Box

LONGEST_SIDE = 640  # pixels of what is shown and kept of a picture
SEED, DRAWN = 2026, (0, 2, 5, 7, 11, 13)  # scenes that are in no training split


@dataclasses.dataclass(frozen=True)
class Adjustments:
    """Quarter turns clockwise, then the part that is kept, then how many times as bright."""

    turns: int = 0
    brightness: float = 1.0
    crop: Box = WHOLE

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The adjusted picture."""
        image = np.rot90(image, -self.turns)
        height, width = image.shape[:2]
        left, top, right, bottom = self.crop
        rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
        columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
        lit = np.rint(image[rows, columns] * float(self.brightness)).clip(0, 255)
        return np.ascontiguousarray(lit.astype("uint8"))

    def cropped(self, box: Box) -> "Adjustments":
        """The same, but for a part of what was kept."""
        left, top, right, bottom = self.crop
        width, height = right - left, bottom - top
        crop = (left + box[0] * width, top + box[1] * height, left + box[2] * width, top + box[3] * height)
        return dataclasses.replace(self, crop=crop)


AS_IT_IS = Adjustments()


def shown(path: str | Path) -> np.ndarray:
    """The picture of a file as it is shown, at most 640 pixels on its longer side."""
    return read_image(path, longest=LONGEST_SIDE)


def data_uri(image: np.ndarray, *, longest: int = LONGEST_SIDE) -> str:
    """The picture within an address, for a page that asks no other machine for it; one with an opacity keeps it."""
    picture, file = Image.fromarray(image), io.BytesIO()
    kind = "WEBP" if picture.mode == "RGBA" else "JPEG"
    picture.thumbnail((longest, longest))
    picture.save(file, kind, quality=88)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode()


@functools.cache
def examples() -> list[tuple[np.ndarray, str]]:
    """A few drawn pictures, each with a caption of it; drawn when first asked for."""
    scenes = [draw_scene(SEED, index) for index in DRAWN]
    return [(np.asarray(scene.image), scene.captions[0]) for scene in scenes]


def example_png(number: int) -> bytes:
    """One of the examples as a file."""
    file = io.BytesIO()
    Image.fromarray(examples()[number][0]).save(file, "PNG")
    return file.getvalue()
