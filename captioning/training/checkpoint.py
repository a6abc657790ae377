"""The state of a training in one file: weights, optimizer, random state, epoch, history, best weights.

One file renamed into place is the commit point, so a kill at any moment leaves the state before or the state after.
The one before stays beside it, for the day when the newest cannot be read.
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
from captioning.runtime.files import atomic_file, explain_disk_errors

KEPT = 2  # the newest and the one before
DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass
class Progress:
    """How far a training has come."""

    epoch: int = 0
    step: int = 0  # steps done of this epoch
    phase: int = 0
    first: int = 0  # the epoch with which this phase began
    history: list[dict[str, float]] = field(default_factory=list)
    samples: list[list[str]] = field(default_factory=list)  # captions of the watched images, epoch by epoch
    best_score: float = -1.0
    best_epoch: int = -1
    best_weights: list[np.ndarray] = field(default_factory=list)
    running_means: list[float] = field(default_factory=list)  # of the epoch's metrics, where it was interrupted


def save_checkpoint(path: Path, recipe: dict[str, Any], progress: Progress, variables: Sequence[Any]) -> None:
    """Writes all that is needed; `recipe` says what training it is, `variables` are the network's and optimizer's."""
    plain = {name: value for name, value in vars(progress).items() if name != "best_weights"}
    counts = {"variables": len(variables), "best": len(progress.best_weights)}
    record = json.dumps({"format": 1, "recipe": recipe, "progress": plain, "counts": counts})
    arrays: dict[str, Any] = {f"variable_{number}": np.asarray(value) for number, value in enumerate(variables)}
    arrays |= {f"best_{number}": value for number, value in enumerate(progress.best_weights)}
    with atomic_file(path, earlier=_earlier(path)) as file:
        np.savez(file, record=np.frombuffer(record.encode(), "uint8"), **arrays)


def has_checkpoint(path: Path) -> bool:
    """Whether a training left something to go on from."""
    return path.exists() or _earlier(path).exists()


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> tuple[Progress, list[np.ndarray]]:
    """The progress and the variables' values of a checkpoint of the same recipe; another recipe's is refused.

    Where the newest cannot be read, the one before takes its place, and standard error says so.
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
            os.replace(source, path)  # or the next save would keep the damaged one and drop this
        after = f"after {progress.epoch} epochs and {progress.step} steps"
        print(f"{path} cannot be read; going on from the checkpoint before it, {after}.", file=sys.stderr)
    return progress, values


def _earlier(path: Path) -> Path:
    return path.with_name(f"{path.stem}.earlier{path.suffix}")


def _read(path: Path) -> tuple[dict[str, Any], Progress, list[np.ndarray]]:
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as parts:
            if damaged := parts.testzip():  # before numpy looks at headers that may say anything
                raise ValueError(f"{damaged} was altered")
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
            record = json.loads(arrays["record"].tobytes())
            values = [arrays[f"variable_{number}"] for number in range(record["counts"]["variables"])]
            best = [arrays[f"best_{number}"] for number in range(record["counts"]["best"])]
            return record["recipe"], Progress(**record["progress"], best_weights=best), values
    except DAMAGE as error:
        raise StorageError(
            f"{path} is not a checkpoint that can be read ({error}); start again with --overwrite."
        ) from error


def _compare(saved: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    wanted = json.loads(json.dumps(wanted))  # as it would have been saved: tuples are lists
    differing = [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
    if differing:
        changes = ", ".join(f"{name} was {saved.get(name)}, is {wanted.get(name)}" for name in differing[:3])
        raise StorageError(
            f"{path} belongs to another training ({changes}); repeat its command, or start again with --overwrite."
        )
