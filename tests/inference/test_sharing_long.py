"""How many photographs of different scenes share a caption, and how many of a burst do."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from captioning.data.image_index import SceneIndex
from captioning.data.images import read_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("CAPTIONING_PHOTOGRAPHS" not in os.environ, reason="CAPTIONING_PHOTOGRAPHS names no folder"),
]
SIZE = 224
MOVES = {
    "steady": (0.005, 0.3, 0.005, 0.02),
    "by hand": (0.015, 0.7, 0.01, 0.05),
}  # share of a side, degrees, zoom, light


def photographs() -> list[Path]:
    return sorted(Path(os.environ["CAPTIONING_PHOTOGRAPHS"]).glob("*.jpg"))


def test_photographs_of_different_scenes_share_nothing(record_property):
    index, firsts, shared = SceneIndex(), {}, []
    for path in photographs():
        pixels = read_image(path, size=SIZE)
        number, is_new = index.number_of(pixels)
        if is_new:
            firsts[number] = path
        elif not (read_image(firsts[number], size=SIZE) == pixels).all():
            shared.append((path.name, firsts[number].name))
    record_property("photographs", len(photographs()))
    record_property("pairs of them", len(photographs()) * (len(photographs()) - 1) // 2)
    record_property("the same picture twice", len(photographs()) - len(firsts) - len(shared))
    record_property("shared wrongly", len(shared))
    assert not shared


@pytest.mark.parametrize("kind", MOVES)
def test_a_camera_that_moves_a_little_shows_the_same_scene(kind, record_property):
    rng, found, paths = np.random.default_rng(0), 0, photographs()
    chosen = [paths[number] for number in rng.choice(len(paths), 300, replace=False)]
    for path in chosen:
        index, picture = SceneIndex(), Image.open(path).convert("RGB")
        index.number_of(read_image(taken(picture, rng, 0, 0, 0, 0), size=SIZE))
        found += not index.number_of(read_image(taken(picture, rng, *MOVES[kind]), size=SIZE))[1]
    record_property("pairs", len(chosen))
    record_property("that share a caption", found)
    assert found > 0.8 * len(chosen)


def taken(picture: Image.Image, rng: np.random.Generator, aside: float, turn: float, zoom: float, light: float):
    """The picture as a camera takes it that is moved, turned, zoomed and exposed a little otherwise; as a JPEG."""
    side = np.array(picture.size)
    half = side * 0.44 * (1 + rng.uniform(-zoom, zoom))
    middle = side / 2 + side * rng.uniform(-aside, aside, 2)
    turned = picture.rotate(rng.uniform(-turn, turn), Image.Resampling.BICUBIC)
    cut = turned.crop(tuple(np.rint([*(middle - half), *(middle + half)]).astype(int)))
    target = io.BytesIO()
    ImageEnhance.Brightness(cut).enhance(1 + rng.uniform(-light, light)).save(target, "JPEG", quality=80)
    return Image.open(target)
