"""The state of a training in one file: weights, optimizer, random state, epoch, history, best weights.

A checkpoint is written to a temporary file and renamed. So a kill leaves either the old or the new state. The previous
checkpoint is kept as well, in case the newest cannot be read.
"""

import json
import os
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from captioning.errors import StorageError
from captioning.options import RunOptions
from captioning.runtime.files import atomic_file, explain_disk_errors

KEPT = 2  # the newest and the previous one
DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass
class Progress:
    """The progress of a training."""

    epoch: int = 0
    step: int = 0  # steps of this epoch that are done
    phase: int = 0
    first: int = 0  # the epoch in which this phase started
    history: list[dict[str, float]] = field(default_factory=list)
    samples: list[list[str]] = field(default_factory=list)  # captions of the watched images after each epoch
    best_score: float = -1.0
    best_epoch: int = -1
    best_weights: list[np.ndarray] = field(default_factory=list)
    running_means: list[float] = field(default_factory=list)  # of the metrics of an interrupted epoch


def save_checkpoint(path: Path, recipe: dict[str, Any], progress: Progress, variables: Sequence[np.ndarray]) -> None:
    """Write a checkpoint. `recipe` identifies the training. `variables` are those of the model and the optimizer."""
    plain = {name: value for name, value in vars(progress).items() if name != "best_weights"}
    counts = {"variables": len(variables), "best": len(progress.best_weights)}
    record = json.dumps({"format": 1, "recipe": recipe, "progress": plain, "counts": counts})
    arrays: dict[str, Any] = {f"variable_{number}": np.asarray(value) for number, value in enumerate(variables)}
    arrays |= {f"best_{number}": value for number, value in enumerate(progress.best_weights)}
    with atomic_file(path, earlier=_earlier(path)) as file:
        np.savez(file, record=np.frombuffer(record.encode(), "uint8"), **arrays)


def has_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return path.exists() or _earlier(path).exists()


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> tuple[Progress, list[np.ndarray]]:
    """Return the progress and the variables' values of a checkpoint. Raise StorageError if its recipe differs.

    If the newest checkpoint cannot be read, the previous one is used, with a line on standard error.
    """
    source = path
    try:
        saved, progress, values = _read(path)
    except StorageError:
        source = _earlier(path)
        if not source.exists():
            raise
        saved, progress, values = _read(source)
    _compare(saved, recipe, source)
    if source != path:
        with explain_disk_errors(path):
            os.replace(source, path)  # else the next save would keep the damaged one and drop this
        after = f"after {progress.epoch} epochs and {progress.step} steps"
        print(f"{path} cannot be read; resuming from the previous checkpoint, {after}.", file=sys.stderr)
    return progress, values


def _earlier(path: Path) -> Path:
    return path.with_name(f"{path.stem}.earlier{path.suffix}")


def _read(path: Path) -> tuple[dict[str, Any], Progress, list[np.ndarray]]:
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as parts:
            if damaged := parts.testzip():  # before NumPy reads headers, which may claim any size
                raise ValueError(f"{damaged} was altered")
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
            record = json.loads(arrays["record"].tobytes())
            values = [arrays[f"variable_{number}"] for number in range(record["counts"]["variables"])]
            best = [arrays[f"best_{number}"] for number in range(record["counts"]["best"])]
            return record["recipe"], Progress(**record["progress"], best_weights=best), values
    except DAMAGE as error:
        raise StorageError(f"{path} cannot be read as a checkpoint ({error}); start again with --overwrite.") from error


def _compare(saved: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    wanted = json.loads(json.dumps(wanted))  # as it would have been saved: tuples are lists
    differing = [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
    if differing:
        changes = ", ".join(f"{name} was {saved.get(name)}, is {wanted.get(name)}" for name in differing[:3])
        raise StorageError(
            f"{path} belongs to another training ({changes}); repeat its command, or start again with --overwrite."
        )


def check_overwrite(folder: Path, checkpoint_folder: Path, options: RunOptions) -> None:
    """Raise StorageError if a finished bundle or an unfinished training would be replaced without --overwrite."""
    unfinished = has_checkpoint(checkpoint_folder / "checkpoint.npz")
    if options.resume and not unfinished:
        raise StorageError(f"{checkpoint_folder} holds no training to resume; leave --resume out to start one.")
    if options.resume or options.overwrite:
        return
    if unfinished:
        raise StorageError(
            f"{checkpoint_folder} holds an unfinished training: --resume continues it, --overwrite starts again."
        )
    if (folder / "config.json").exists():
        raise StorageError(f"{folder} holds a finished bundle: choose another --name, or replace it with --overwrite.")


def clear_checkpoints(checkpoint_folder: Path) -> None:
    """Remove the checkpoints of a training that has finished or is restarted."""
    for path in checkpoint_folder.iterdir():
        if path.name != ".lock" and not path.is_dir():  # a folder is a person's, such as .ipynb_checkpoints
            path.unlink()
