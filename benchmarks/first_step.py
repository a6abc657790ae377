"""Seconds to the first and the second training step on each backend, and whether a later epoch compiles again.

python -m benchmarks.first_step          alternates fresh processes, with the network of the default recipe
"""

import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import steps
from benchmarks.measure import BACKENDS, Contender, Row, Tables, Worker, is_installed, run_script, shown

EPOCHS = 3
SIZE = steps.Size(depth=2048)  # the grids of ResNet50


def prepare(task: dict[str, Any]) -> tuple[dict[str, Any], Contender]:
    """Trains for some epochs of two steps. Facts: the seconds of each part; how often `call` ran in Python."""
    size, started = steps.Size(**task["size"]), float(os.environ["CAPTIONING_STARTED"])
    from captioning.runtime.keras_import import import_keras

    import_keras()
    import keras

    from captioning.decoder.model import CaptionModel
    from captioning.options import TrainOptions
    from captioning.training.batches import Examples
    from captioning.training.trainer import SCORE, Phase, Trainer

    imported = time.time()
    calls, done, by_epoch = [], [], []

    class Counted(CaptionModel):
        """Records when `call` runs in Python, which is at tracing if it is compiled."""

        def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
            calls.append(time.time())
            return super().call(inputs, training=training)

    class Clock(keras.callbacks.Callback):
        """Records when each step has ended."""

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            done.append(time.time())

    def validate() -> Any:
        by_epoch.append(len(calls))
        return SimpleNamespace(scores={SCORE: 0.0}, samples=[])

    model = Counted(steps.config_of(size))
    model.build()
    built = time.time()
    one = steps.draw_examples(size)
    two = Examples(one.array, np.concatenate([one.rows, one.rows]), one.tokens * 2)
    phase = Phase("fit", EPOCHS, 1e-3, two, one, validate, lambda: None)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, TrainOptions(batch_size=size.images), Path(folder), {}, callbacks=[Clock()]).train([phase])
    moments = [started, imported, built, *done[:2]]
    return {"seconds": np.diff(moments).tolist(), "calls": np.diff([0, *by_epoch]).tolist()}, lambda: 0.0


def measure(quick: bool) -> Tables:
    """One table, a row per backend."""
    size, rounds = (steps.QUICK, 1) if quick else (SIZE, 2)
    backends = [backend for backend in BACKENDS if is_installed(backend)]
    found: dict[str, list[dict[str, Any]]] = {backend: [] for backend in backends}
    for _ in range(rounds):
        for backend in backends:
            worker = Worker("first_step", {"size": vars(size)}, backend=backend)
            found[backend].append(worker.facts)
            worker.close()
    return {"To the first step and the second": [_row(backend, facts) for backend, facts in found.items()]}


def _row(backend: str, facts: list[dict[str, Any]]) -> Row:
    imports, building, first, second = np.median([fact["seconds"] for fact in facts], axis=0).tolist()
    names = "imports, s", "network built, s", "then first step, s", "then second step, s"
    row: Row = {"": backend, **dict(zip(names, (imports, building, first, second), strict=True))}
    row["first over second"] = shown(first / second)
    calls = facts[0]["calls"]
    row["traced in epochs 1, 2, 3"] = "each step runs in Python" if backend == "torch" else ", ".join(map(str, calls))
    return row


if __name__ == "__main__":
    run_script(__doc__, measure, worker=prepare)
