"""Checks the folder of a published model before anything of it is loaded.

Weights must be whole safetensors files. Pickles and models that bring code of their own are refused.
"""

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

from captioning.errors import BundleError
from captioning.runtime import strict_json

PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
LONGEST_HEADER = 100_000_000  # bytes; more is refused by the safetensors format itself


def check_folder(folder: Path) -> dict[str, Any]:
    """The config.json of a model's folder; refused unless its weights are whole safetensors and it brings no code."""
    config = _config(folder)
    if file := remote_code(folder):
        raise BundleError(
            f"{folder} wants to run code of its own (auto_map in {file}), which is never run; choose another model."
        )
    names = _weight_files(folder)
    if not names:
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise BundleError(
                f"{folder} has its weights in {pickles[0]}, a pickle, which can run code and is not loaded; "
                f"choose a model with {WEIGHTS}."
            )
        raise BundleError(f"{folder} has no {WEIGHTS}: it is not whole; copy or download the model again.")
    for name in names:
        _check_whole(folder / name)
    return config


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise BundleError(f"{folder} is no model: it has no config.json; give a folder that save_pretrained wrote.")
    try:
        config = strict_json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read ({error}); copy or download the model again.") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise BundleError(f"{file} names no model_type; give a folder that save_pretrained of transformers wrote.")
    return config


def remote_code(folder: Path) -> str:
    """The name of a file that asks for code of the model's own; "" where none does."""
    for file in sorted(folder.glob("*config.json")):
        with contextlib.suppress(OSError, ValueError):  # an unreadable one is told when it is read
            if '"auto_map"' in file.read_text(encoding="utf-8"):
                return file.name
    return ""


def _weight_files(folder: Path) -> list[str]:
    index = folder / INDEX
    if not index.is_file():
        return [WEIGHTS] if (folder / WEIGHTS).is_file() else []
    try:
        names = set(strict_json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BundleError(f"{index} cannot be read ({error}); copy or download the model again.") from None
    if not all(isinstance(name, str) and name.endswith(".safetensors") and name == Path(name).name for name in names):
        raise BundleError(f"{index} names files that are no safetensors files; choose another model.")
    return sorted(names)


def _check_whole(file: Path) -> None:
    """Refuses a safetensors file that is shorter or longer than its header says."""
    if not file.is_file():
        raise BundleError(f"{file} is missing: the model is not whole; copy or download it again.")
    size = file.stat().st_size
    with file.open("rb") as data:
        head = data.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        try:
            if not 2 <= length <= min(size - 8, LONGEST_HEADER):
                raise ValueError("its header is cut off")
            entries = json.loads(data.read(length))
            ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
            if size != 8 + length + max(ends, default=0):
                raise ValueError(f"{size:,} bytes where its header announces {8 + length + max(ends, default=0):,}")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise BundleError(f"{file} is not whole ({error}); copy or download the model again.") from None


def weight_bytes(folder: Path) -> int:
    """The size of a model's weights on disk."""
    return sum((folder / name).stat().st_size for name in _weight_files(folder) if (folder / name).is_file())


def size_text(size: float) -> str:
    """A number of bytes as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def class_of(folder: Path) -> str:
    """The class of transformers that a model's config.json names; "" where it names none."""
    named = check_folder(folder).get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
