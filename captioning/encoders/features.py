"""Images to grids of feature vectors, and the cache that keeps them.

Knows nothing of captions. A grid is (L, D): L regions, row by row from the top left, of depth D.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from captioning.encoders.views import view
from captioning.errors import StorageError
from captioning.runtime.files import explain_disk_errors, require_space

if TYPE_CHECKING:
    import keras

BATCH = 32


class Rows:
    """Arrays of one shape in one growing file, memory-mapped, each under its image's content hash.

    A row counts only once its name stands in the index; what a killed process left beyond that is cut off.
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
    """What the network is shown: `array[rows[image]]` for every image; `views` has the rows of its other looks."""

    array: np.ndarray
    rows: dict[Path, int]
    views: dict[Path, list[int]] = field(default_factory=dict)


Look = tuple[str, int]  # content hash of an image, number of the view
Seen = Iterator[tuple[list[Look], np.ndarray]]  # looks and their rows, (N, L, D) or (N, H, W, 3), in any order


def read_features(
    images: dict[Path, str],
    folder: Path,
    *,
    image_size: int,
    encoder: "keras.Model | None" = None,
    views: Mapping[Path, Sequence[int]] | None = None,
    elsewhere: Callable[[dict[Look, Path]], Seen] | None = None,
) -> Features:
    """The grids of images {file: content hash}, computed where the cache lacks them; without encoder, pixels.

    The images that `views` names are looked at in those other ways too; `elsewhere` does it, if not this process.
    """
    views = views or {}
    shape = encoder.output_shape[1:] if encoder else (image_size, image_size, 3)
    cache = Rows(folder, shape, "float16" if encoder else "uint8")
    wanted = {(digest, 0): image for image, digest in images.items()}
    wanted |= {(images[image], number): image for image, numbers in views.items() for number in numbers}
    missing = {look: image for look, image in wanted.items() if _name(look) not in cache.index}
    require_space(folder, len(missing) * cache.row_bytes)
    for looks, seen in elsewhere(missing) if elsewhere else look_at(missing, image_size, encoder):
        cache.add(list(map(_name, looks)), seen)
    rows = {image: cache.index[digest] for image, digest in images.items()}
    others = {
        image: [cache.index[_name((images[image], number))] for number in numbers] for image, numbers in views.items()
    }
    return Features(cache.open(), rows, others)


def _name(look: Look) -> str:
    return f"{look[0]}.{look[1]}" if look[1] else look[0]


def look_at(missing: dict[Look, Path], image_size: int, encoder: "keras.Model | None") -> Seen:
    """The grids of these looks, batch by batch, as the cache keeps them; without encoder, their pixels."""
    for looks, pixels in _decoded(missing, image_size):
        yield looks, _encoded(encoder, pixels) if encoder else pixels


def _decoded(missing: dict[Look, Path], image_size: int) -> Seen:
    """Batches of decoded images; the next batches are decoded while the caller works on this one."""
    looks = list(missing)
    batches = [looks[first : first + BATCH] for first in range(0, len(looks), BATCH)]
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(looks), desc="features", unit="image", disable=None if looks else True) as bar,
    ):
        begin = lambda batch: [pool.submit(view, missing[which], image_size, *which) for which in batch]  # noqa: E731
        waiting = [begin(batch) for batch in batches[:2]]
        for number, batch in enumerate(batches):
            if number + 2 < len(batches):
                waiting.append(begin(batches[number + 2]))
            yield batch, np.stack([future.result() for future in waiting.pop(0)])
            bar.update(len(batch))


def _encoded(encoder: "keras.Model", pixels: np.ndarray) -> np.ndarray:
    padded = np.concatenate([pixels, np.repeat(pixels[-1:], BATCH - len(pixels), axis=0)])  # one shape, compiled once
    grids = np.asarray(encoder.predict_on_batch(padded), dtype="float32")[: len(pixels)]
    if not np.isfinite(grids).all():
        raise StorageError("The encoder gave features that are not numbers; check --encoder-weights.")
    return np.clip(grids, -65504, 65504).astype("float16")
