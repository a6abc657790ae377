"""Pictures with masks, as a segmentation network learns from them: small pictures, maps of objects, targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from captioning.data.coco_instances import Instances, Picture
from captioning.data.images import read_image
from captioning.errors import DataError
from captioning.extras.own_segmenter import STRIDE, SegmenterConfig

SIGMA = 0.04  # of the bell around a centre, as a share of the side
SHIFT = 4  # cells by which a training picture is moved at most
MOST = 255  # objects of a picture

Targets = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Example:
    """A picture (S, S, 3) of uint8, the number of the object (G, G) in each cell, and each object's category from 1."""

    pixels: np.ndarray
    objects: np.ndarray
    labels: np.ndarray


def read_examples(pictures: Sequence[Picture], config: SegmenterConfig) -> list[Example]:
    """The pictures at the size of the network. All are kept in memory."""
    numbers = {name: number for number, name in enumerate(config.categories, 1)}
    steps = tqdm(pictures, desc="Reading pictures", unit="picture", leave=False, disable=None)
    return [_example(picture, config, numbers) for picture in steps]


def _example(picture: Picture, config: SegmenterConfig, numbers: dict[str, int]) -> Example:
    grid = config.grid
    masks = [instance.mask for instance in picture.instances[:MOST]]
    check_size(picture, read_image(picture.path).shape)
    pixels = read_image(picture.path, size=config.image_size)
    order = sorted(range(len(masks)), key=lambda number: -int(masks[number].sum()))  # small ones lie in front
    cover = np.zeros((len(masks) + 1, grid, grid), np.float32)
    for number in order:
        cells = Image.fromarray(masks[number].astype(np.float32)).resize((grid, grid), Image.Resampling.BOX)
        cover[number + 1] = np.asarray(cells)
        for earlier in order[: order.index(number)]:
            cover[earlier + 1] = np.minimum(cover[earlier + 1], 1 - cover[number + 1])
    cover[0] = 1 - cover[1:].sum(axis=0)
    labels = np.array([numbers[instance.label] for instance in picture.instances[:MOST]], np.int32)
    return Example(pixels, cover.argmax(axis=0).astype(np.uint8), labels)


def check_size(picture: Picture, shape: Sequence[int]) -> None:
    """Raises DataError where a picture has another size than its annotations say."""
    if tuple(shape[:2]) != (picture.height, picture.width):
        raise DataError(
            f"{picture.path} has {shape[1]} x {shape[0]} pixels, its annotations are for {picture.width} x "
            f"{picture.height}; give the pictures that were annotated."
        )


def targets_of(example: Example) -> Targets:
    """Category (G, G), centre map (G, G, 1), and offsets with a mark for the cells of objects (G, G, 3)."""
    grid = len(example.objects)
    category = np.concatenate([[0], example.labels])[example.objects].astype(np.int32)
    centres = np.zeros((grid, grid, 1), np.float32)
    offsets = np.zeros((grid, grid, 3), np.float32)
    rows, columns = np.arange(grid)[:, None], np.arange(grid)[None]
    for number in np.unique(example.objects[example.objects > 0]):
        inside = np.nonzero(example.objects == number)
        row, column = inside[0].mean(), inside[1].mean()
        bell = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * (SIGMA * grid) ** 2))
        centres[..., 0] = np.maximum(centres[..., 0], bell)
        offsets[inside] = np.stack(
            [(row - inside[0]) / grid, (column - inside[1]) / grid, np.ones(len(inside[0]))], axis=-1
        )
    return category, centres, offsets


def varied(example: Example, rng: np.random.Generator) -> Example:
    """The picture moved by some cells, and mirrored half of the time. Its edges are repeated."""
    down, right = rng.integers(-SHIFT, SHIFT + 1, 2)
    pixels, objects = _moved(example.pixels, down * STRIDE, right * STRIDE), _moved(example.objects, down, right)
    if rng.random() < 0.5:
        pixels, objects = pixels[:, ::-1], objects[:, ::-1]
    return Example(pixels, objects, example.labels)


def _moved(values: np.ndarray, down: int, right: int) -> np.ndarray:
    rows = np.clip(np.arange(values.shape[0]) - down, 0, values.shape[0] - 1)
    columns = np.clip(np.arange(values.shape[1]) - right, 0, values.shape[1] - 1)
    return values[rows[:, None], columns[None]]


def batch_of(examples: Sequence[Example]) -> tuple[np.ndarray, Targets]:
    """Pictures (N, S, S, 3) of float32 and their targets."""
    category, centres, offsets = zip(*map(targets_of, examples), strict=True)
    pixels = np.stack([example.pixels for example in examples]).astype(np.float32)
    return pixels, (np.stack(category), np.stack(centres), np.stack(offsets))


def split_pictures(data: Instances, share: float, seed: int) -> tuple[list[Picture], list[Picture]]:
    """The pictures to train on and those held out, by chance."""
    order = np.random.default_rng(seed).permutation(len(data.pictures))
    count = max(1, round(share * len(order)))
    if count >= len(order):
        raise DataError(
            f"{len(order)} pictures are too few to hold {count} out; give more, or a smaller --held-out share."
        )
    chosen = [data.pictures[number] for number in order]
    return chosen[count:], chosen[:count]
