"""Images for benchmarks: drawn scenes as JPEG files of the size of a photograph, all different."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from captioning.data.scenes.dataset import draw_scene

SIZE = 500, 375  # the size of most photographs in Flickr8k
SCENES = 8
GRAIN = 12  # amplitude of the noise, which makes the files about as large as photographs


def draw_photographs(folder: Path, count: int, *, size: tuple[int, int] = SIZE) -> list[Path]:
    """Writes `count` JPEG files: a few scenes with different noise."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [np.asarray(draw_scene(0, index).image.resize(size), "int16") for index in range(min(count, SCENES))]
    return [_write(folder / f"photograph_{number:05d}.jpg", scenes, number) for number in range(count)]


def _write(path: Path, scenes: Sequence[np.ndarray], number: int) -> Path:
    scene = scenes[number % len(scenes)]
    grain = np.random.default_rng(number).integers(-GRAIN, GRAIN + 1, scene.shape, "int16")
    Image.fromarray(np.clip(scene + grain, 0, 255).astype("uint8")).save(path, quality=90)
    return path
