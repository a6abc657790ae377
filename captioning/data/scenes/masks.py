"""The masks of the objects in drawn scenes, from the shapes that were painted, as a COCO instances file."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from captioning.data.coco_masks import box_of, encode_rle
from captioning.data.scenes.dataset import SIDE, SUPERSAMPLING, set_scene
from captioning.data.scenes.staging import Placed
from captioning.data.scenes.stories import KINDS
from captioning.errors import DataError
from captioning.runtime.files import atomic_write

CATEGORIES = tuple(KINDS)
INSTANCES = "instances.json"


def scene_masks(seed: int, index: int) -> list[tuple[str, np.ndarray]]:
    """The noun and the visible pixels (192, 192) of every object of a scene, from back to front.

    A pixel belongs to what covers most of it. Shadows, strings and the foam of water are no part of an object.
    """
    side = SIDE * SUPERSAMPLING
    placed = set_scene(seed, index).placed
    owners = np.zeros((side, side), np.uint8)
    for number, figure in enumerate(placed, 1):
        owners[_painted(figure, side)] = number
    cells = owners.reshape(SIDE, SUPERSAMPLING, SIDE, SUPERSAMPLING)
    cover = np.stack([(cells == number).sum(axis=(1, 3)) for number in range(len(placed) + 1)])
    most = len(placed) - cover[::-1].argmax(axis=0)  # of equal shares, that of the object in front
    return [(figure.actor.noun, most == number) for number, figure in enumerate(placed, 1)]


def _painted(placed: Placed, side: int) -> np.ndarray:
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    across = placed.scale * side * (-1 if placed.flip else 1)
    left, ground = placed.origin[0] * side, placed.origin[1] * side
    for points, _ in placed.figure.shapes:
        draw.polygon([(left + x * across, ground - y * placed.scale * side) for x, y in points], fill=1)
    painted = np.array(canvas, bool)
    if placed.depth:
        painted[round(placed.box[3] * side) :] = False  # under water
    return painted


def write_masks(folder: Path) -> Path:
    """Writes instances.json, in COCO's format, into a folder of drawn scenes. Returns its path."""
    recipe = folder / "scenes.json"
    if not recipe.is_file():
        raise DataError(f"{recipe} is missing, so {folder} is not a drawn data set; create it with write_scenes first.")
    drawn = json.loads(recipe.read_text(encoding="utf-8"))
    names = [f"Images/{split}_{number:05d}.jpg" for split, size in drawn["sizes"].items() for number in range(size)]
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for index, name in enumerate(tqdm(names, desc="Drawing masks", unit="scene", leave=False, disable=None)):
        images.append({"id": index + 1, "file_name": name, "height": SIDE, "width": SIDE})
        for noun, mask in scene_masks(drawn["seed"], index):
            if mask.any():  # else wholly behind another
                annotations.append(_annotation(len(annotations) + 1, index + 1, noun, mask))
    categories = [{"id": number, "name": noun} for number, noun in enumerate(CATEGORIES, 1)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    atomic_write(folder / INSTANCES, json.dumps(content))
    return folder / INSTANCES


def _annotation(number: int, image: int, noun: str, mask: np.ndarray) -> dict[str, object]:
    return {
        "id": number,
        "image_id": image,
        "category_id": CATEGORIES.index(noun) + 1,
        "bbox": box_of(mask),
        "area": int(mask.sum()),
        "segmentation": encode_rle(mask),
        "iscrowd": 0,
    }
