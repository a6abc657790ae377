"""The state of a training in one file: weights, optimizer, random state, epoch, history, best weights.

One file renamed into place is the commit point, so a kill at any moment leaves the state before or the state after.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from captioning.errors import StorageError
from captioning.storage import replacing


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
    with replacing(path) as file:
        np.savez(file, record=np.frombuffer(record.encode(), "uint8"), **arrays)


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> tuple[Progress, list[np.ndarray]]:
    """The progress and the variables' values of a checkpoint of the same recipe; another recipe's is refused."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            record = json.loads(arrays["record"].tobytes())
            _compare(record["recipe"], recipe, path)
            values = [arrays[f"variable_{number}"] for number in range(record["counts"]["variables"])]
            best = [arrays[f"best_{number}"] for number in range(record["counts"]["best"])]
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:  # all that a flip does
        raise StorageError(
            f"{path} is not a checkpoint that can be read ({error}); start again with --overwrite."
        ) from error
    return Progress(**record["progress"], best_weights=best), values


def _compare(saved: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    wanted = json.loads(json.dumps(wanted))  # as it would have been saved: tuples are lists
    differing = [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
    if differing:
        changes = ", ".join(f"{name} was {saved.get(name)}, is {wanted.get(name)}" for name in differing[:3])
        raise StorageError(
            f"{path} belongs to another training ({changes}); repeat its command, or start again with --overwrite."
        )
