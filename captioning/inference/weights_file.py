"""Weights in an HDF5 file: brought to half precision when they are written, looked over before they are read.

Knows nothing of Keras or of what the numbers mean.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

MOST = float(np.finfo("float16").max)


def halve(whole: Path, half: Path) -> None:
    """Copies a file of weights, each float32 as float16."""
    with h5py.File(whole) as source, h5py.File(half, "w") as target:

        def copy(name: str, entry: Any) -> None:
            if isinstance(entry, h5py.Group):
                kept = target.create_group(name)
            else:
                data = to_float16(entry[()])
                kept = target.create_dataset(name, data.shape, data.dtype)  # zeros, which take no room
                if data.any():
                    kept[()] = data
            kept.attrs.update(entry.attrs)

        source.visititems(copy)


def to_float16(weight: np.ndarray) -> np.ndarray:
    """The weight as it is kept: float32 becomes float16, nothing infinity, all else stays."""
    return np.clip(weight, -MOST, MOST).astype("float16") if weight.dtype == np.float32 else weight


def validate_hdf5(path: Path, most: int) -> None:
    """Raises ValueError where a file holds more than `most` numbers, or not as they are: packed, or in other files."""
    count = 0

    def look(name: str, entry: Any) -> None:
        nonlocal count
        if isinstance(entry, h5py.Dataset):
            is_plain = entry.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS and not entry.external
            if not is_plain or entry.dtype.kind not in "fiu":
                raise ValueError(f"{name} is not kept as plain numbers")
            count += entry.size or 0

    while h5py.h5pl.size():  # folders from which HDF5 would run code to open a strange file
        h5py.h5pl.remove(0)
    with h5py.File(path) as file:
        file.visititems(look)
    if count > most:
        raise ValueError(f"it holds {count:,} numbers, the network has {most:,}")
