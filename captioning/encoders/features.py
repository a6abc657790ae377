"""Images to grids of feature vectors, and the cache that keeps them on disk.

A grid is (L, D): L regions, row by row from the top left, of depth D.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from captioning.encoders.views import view
from captioning.errors import StorageError
from captioning.runtime.files import explain_disk_errors, one_at_a_time, require_space
from captioning.runtime.read_ahead import map_ahead

if TYPE_CHECKING:
    import keras

BATCH = 32


class Rows:
    """Arrays of one shape in one growing file, memory-mapped, each under its image's content hash.

    A row counts only once its name stands in the index; what a killed process left beyond that is cut off. One program
    at a time may have one.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.row_bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._data, self._index = folder / "rows.bin", folder / "index.txt"
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._data.touch()
            self._index.touch()
            self._repair()

    def _repair(self) -> None:
        names = [line for line in self._index.read_text().splitlines(keepends=True) if line.endswith("\n")]
        names = names[: self._data.stat().st_size // self.row_bytes]
        os.truncate(self._index, sum(map(len, names)))
        os.truncate(self._data, len(names) * self.row_bytes)
        self.index = {name.strip(): row for row, name in enumerate(names)}

    def add(self, names: Sequence[str], rows: np.ndarray) -> None:
        """Appends rows; the data reach the file before their names do."""
        assert rows.shape[1:] == self.shape, f"{rows.shape[1:]} is not {self.shape}"
        with explain_disk_errors(self._data):
            with open(self._data, "ab") as file:
                file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
            with open(self._index, "a") as file:
                file.write("".join(f"{name}\n" for name in names))
        self.index.update({name: len(self.index) + offset for offset, name in enumerate(names)})

    def open(self) -> np.ndarray:
        """All rows, (N, *shape), read from the disk as they are used."""
        if not self.index:
            return np.zeros((0, *self.shape), self.dtype)
        return np.memmap(self._data, self.dtype, "r", shape=(len(self.index), *self.shape))


@dataclass(frozen=True)
class Features:
    """The input of the network: `array[rows[image]]` for every image; `views` has the rows of its other views."""

    array: np.ndarray
    rows: dict[Path, int]
    views: dict[Path, list[int]] = field(default_factory=dict)


View = tuple[str, int]  # content hash of an image, number of the view
Batches = Iterator[tuple[list[View], np.ndarray]]  # views and their rows, (N, L, D) or (N, H, W, 3), in any order
Compute = Callable[[dict[View, Path]], Batches]


def read_features(
    images: Mapping[Path, str],
    folder: Path,
    *,
    image_size: int,
    encoder: "keras.Model | None" = None,
    views: Mapping[Path, Sequence[int]] | None = None,
    compute: Compute | None = None,
) -> Features:
    """The grids of images {file: content hash}, computed where the cache lacks them; without encoder, pixels.

    `views` adds numbered views of some images. `compute` replaces this process where others compute the features.
    """
    views = views or {}
    shape = encoder.output_shape[1:] if encoder else (image_size, image_size, 3)
    wanted = {(digest, 0): image for image, digest in images.items()}
    wanted |= {(images[image], number): image for image, numbers in views.items() for number in numbers}
    with one_at_a_time(folder):
        cache = Rows(folder, shape, "float16" if encoder else "uint8")
        missing = {each: image for each, image in wanted.items() if _name(each) not in cache.index}
        require_space(folder, len(missing) * cache.row_bytes)
        for batch, rows in compute(missing) if compute else compute_features(missing, image_size, encoder):
            cache.add(list(map(_name, batch)), rows)
    first = {image: cache.index[digest] for image, digest in images.items()}
    others = {
        image: [cache.index[_name((images[image], number))] for number in numbers] for image, numbers in views.items()
    }
    return Features(cache.open(), first, others)


def _name(each: View) -> str:
    return f"{each[0]}.{each[1]}" if each[1] else each[0]


def compute_features(missing: dict[View, Path], image_size: int, encoder: "keras.Model | None") -> Batches:
    """The grids of these views, batch by batch, as the cache keeps them; without encoder, their pixels.

    The next two batches are decoded while the caller works on one.
    """
    decoded = map_ahead(lambda each: view(missing[each], image_size, *each), missing, 2 * BATCH)
    with tqdm(total=len(missing), desc="features", unit="image", disable=None if missing else True) as bar:
        while batch := list(islice(decoded, BATCH)):
            pixels = np.stack([image for _, image in batch])
            yield [each for each, _ in batch], _encode(encoder, pixels) if encoder else pixels
            bar.update(len(batch))


def _encode(encoder: "keras.Model", pixels: np.ndarray) -> np.ndarray:
    padded = np.concatenate([pixels, np.repeat(pixels[-1:], BATCH - len(pixels), axis=0)])  # one shape, compiled once
    grids = np.asarray(encoder.predict_on_batch(padded), dtype="float32")[: len(pixels)]
    if not np.isfinite(grids).all():
        raise StorageError("The encoder produced NaN or infinite features; check the file of --encoder-weights.")
    return np.clip(grids, -65504, 65504).astype("float16")
