"""Weights in an HDF5 file: converted to half precision when written, validated before they are read.

Nothing here needs Keras.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MOST = float(np.finfo("float16").max)
DEEPEST, MOST_ENTRIES = 20, 10_000  # groups within groups, and entries of a file; a ResNet has 8 and 2,000


def halve(whole: Path, half: Path) -> None:
    """Copies a file of weights, each float32 as float16."""
    with h5py.File(whole) as source, h5py.File(half, "w") as target:

        def copy(name: str, entry: Any) -> None:
            if isinstance(entry, h5py.Group):
                kept = target.create_group(name)
            else:
                data = to_float16(entry[()])
                kept = target.create_dataset(name, data.shape, data.dtype)  # zeros, which take no space
                if data.any():
                    kept[()] = data
            kept.attrs.update(entry.attrs)

        source.visititems(copy)


def to_float16(weight: np.ndarray) -> np.ndarray:
    """The weight as it is saved: float32 becomes float16, clipped to its range; other types stay."""
    return np.clip(weight, -MOST, MOST).astype("float16") if weight.dtype == np.float32 else weight


def validate_hdf5(path: Path, most: int) -> None:
    """Raises ValueError where a file is not plain arrays in a few nested groups, or holds more than `most` numbers."""
    while h5py.h5pl.size():  # folders from which HDF5 would run code to open a strange file
        h5py.h5pl.remove(0)
    count = 0
    with h5py.File(path) as file:
        for entry in _entries(file):
            if isinstance(entry, h5py.Dataset):
                count += _plain_size(entry)
    if count > most:
        raise ValueError(f"it holds {count:,} numbers, the network has {most:,}")


def _entries(file: h5py.File) -> Iterator[Any]:
    """The groups and datasets of a file, level by level; an own walk, since HDF5's takes minutes for deep nests."""
    level, count = [file], 0
    for _ in range(DEEPEST):
        following = []
        for group in level:
            count += len(group)
            if count > MOST_ENTRIES:
                raise ValueError(f"it has more than {MOST_ENTRIES:,} entries")
            following += [_own_entry(group, name) for name in group]
        yield from following
        level = [entry for entry in following if isinstance(entry, h5py.Group)]
    if level:
        raise ValueError(f"its groups are nested more than {DEEPEST} deep")


def _own_entry(group: h5py.Group, name: str) -> Any:
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link")
    return group[name]


def _plain_size(dataset: h5py.Dataset) -> int:
    is_plain = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS and not dataset.external
    if not is_plain or dataset.dtype.kind not in "fiu":
        raise ValueError(f"{dataset.name} is not stored as plain numbers")
    return dataset.size or 0
