"""Writes a bundle: into a new folder, which then takes the place of an older bundle."""

import contextlib
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.encoders.registry import earlier_weights, image_size_of, probe
from captioning.inference.bundle_files import CONFIG, FORMAT, VOCABULARY, WEIGHTS, config_text, read_config
from captioning.inference.confidence import Calibration
from captioning.inference.familiarity import Familiarity
from captioning.runtime.files import atomic_write, explain_disk_errors, sync_folder

if TYPE_CHECKING:
    import keras

    from captioning.inference.bundle import Parts


def assign(weights: Sequence[Any], values: Sequence[Any]) -> None:
    """Gives weights these values."""
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def save(folder: Path, parts: "Parts", *, files: Mapping[str, bytes | str], about: dict[str, Any]) -> None:
    """Writes a bundle into a new folder, then renames that to `folder`, in the place of an older bundle."""
    files = {
        "tokenizer.pkl": parts.tokenizer.to_pickle(),
        VOCABULARY: parts.tokenizer.to_json(),
        WEIGHTS: weights_bytes(parts.model, without=[] if parts.whole else earlier_weights(parts.model.encoder)),
        **files,
    }
    write(folder, files, _config(parts, about))


def write(folder: Path, files: Mapping[str, bytes | str], config: dict[str, Any]) -> None:
    """Writes a bundle's files and its config.json, which lists them, into a new folder; then renames that."""
    sums = {
        name: hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
        for name, data in files.items()
    }
    fresh = folder.with_name(f".{folder.name}.new")
    with explain_disk_errors(folder):
        shutil.rmtree(fresh, ignore_errors=True)
        for name, data in files.items():
            atomic_write(fresh / name, data)
        atomic_write(fresh / CONFIG, config_text(config | {"files": sums}))
        _swap(fresh, folder)


def _swap(fresh: Path, folder: Path) -> None:
    old = aside(folder)
    if folder.exists():  # else a save was killed during its swap, and the older bundle is the one aside
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    sync_folder(folder.parent)  # the checkpoints are deleted next
    shutil.rmtree(old, ignore_errors=True)


def aside(folder: Path) -> Path:
    """The name of the older bundle between the two renames of a swap."""
    return folder.with_name(f".{folder.name}.old")


def _config(parts: "Parts", about: dict[str, Any]) -> dict[str, Any]:
    encoder = parts.encoder or parts.model.encoder
    return {
        "format": FORMAT,
        "model": asdict(parts.model.config),
        "encoder": {
            "name": parts.model_options.encoder,
            "image_size": image_size_of(parts.model_options.encoder, parts.model_options.image_size),
            "trained": parts.encoder is None,
            "whole": parts.whole,
            "probe": probe(encoder),
        },
        "decoding": asdict(parts.decoding),
        **_calibrated(parts.calibration, parts.familiarity),
        "about": about,
        "made_with": made_with(),
    }


def _calibrated(calibration: Calibration | None, known: Familiarity | None) -> dict[str, Any]:
    curve = asdict(calibration) if calibration else None
    return {"calibration": curve, "familiarity": known.record() if known else None}


def calibrate(folder: Path, calibration: Calibration | None, known: Familiarity | None, *, data: str) -> None:
    """Replaces what a bundle holds of its confidence and of familiar images, measured on data of this name."""
    config = read_config(folder)
    about = {**config.get("about", {}), "calibration": "dev", "calibrated_on": data}
    config |= _calibrated(calibration, known) | {"about": about}
    with explain_disk_errors(folder):
        atomic_write(folder / CONFIG, config_text(config))


def write_labels(folder: Path, record: dict[str, Any]) -> None:
    """Replaces what a bundle holds for labels; see labels.py."""
    config = read_config(folder) | {"labels": record}
    with explain_disk_errors(folder):
        atomic_write(folder / CONFIG, config_text(config))


def made_with() -> dict[str, str]:
    """The versions of the libraries, and the commit of this code where it runs from a git checkout."""
    import keras

    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__}
    versions[backend] = sys.modules[backend].__version__
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
            versions["commit"] = found.stdout.strip()
    return versions


def weights_bytes(model: "keras.Model", *, without: Sequence[Any] = ()) -> bytes:
    """A model's weights as a Keras file in half precision, with zeros for those in `without`.

    They are written in memory or a temporary folder first, because HDF5 crashes on a full disk.
    """
    from captioning.inference.weights_file import halve

    memory, needed = Path("/dev/shm"), 12 * model.count_params()  # bytes, twice what both files take
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > needed
    with tempfile.TemporaryDirectory(dir=memory if has_room else None) as scratch:
        whole, half = Path(scratch) / WEIGHTS, Path(scratch) / "half.h5"
        with _emptied(without):
            model.save_weights(whole)
        halve(whole, half)
        return half.read_bytes()


@contextlib.contextmanager
def _emptied(weights: Sequence[Any]) -> Iterator[None]:
    import keras

    kept = [keras.ops.copy(weight) for weight in weights]
    try:
        assign(weights, [keras.ops.zeros_like(weight) for weight in weights])
        yield
    finally:
        assign(weights, kept)
