"""The training loop. A training that is stopped or killed at any moment can be resumed exactly."""

import csv
import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from captioning.decoder.model import CaptionModel
from captioning.errors import Stopped
from captioning.evaluation.scoring import Validation
from captioning.options import TrainOptions
from captioning.runtime.files import atomic_write, require_space
from captioning.training.batches import Batch, Batches, Examples, epoch_order
from captioning.training.callbacks import ProgressCallback, StopRequest, diverged
from captioning.training.checkpoint import KEPT, Progress, has_checkpoint, load_checkpoint, save_checkpoint
from captioning.training.optimization import compile_model

ARRAYS = 4  # numbers a checkpoint stores for each weight: its value, two moments of AdamW, its best value
SCORE = "CIDEr-D"  # the validation score by which the best epoch is chosen

# (a batch, the numbers of its images, a random generator) -> the batch to train on, the mean reward of its captions
MakeBatch = Callable[[Batch, np.ndarray, np.random.Generator], tuple[Batch, float]]


@dataclass(frozen=True)
class Phase:
    """Epochs with their own examples and learning rate."""

    name: str
    epochs: int
    learning_rate: float
    train: Examples
    dev: Examples
    validate: Callable[[], Validation]
    prepare: Callable[[], object]  # freezes or unfreezes the encoder before the phase is compiled
    make_batch: MakeBatch | None = None  # self-critical training


@dataclass
class Trainer:
    """One training of a model. Checkpoints are saved in `folder`."""

    model: CaptionModel
    options: TrainOptions
    folder: Path
    recipe: dict[str, Any]  # must be equal for a checkpoint to be resumed
    words_frozen_epochs: int = 0  # first epochs, in which the word vectors are frozen
    callbacks: Sequence[keras.callbacks.Callback] = ()
    reports: Sequence[Callable[[dict[str, float]], None]] = ()  # called with the metrics of every epoch
    keep_last: bool = False  # keep the last epoch, not the best one: dev is too small to tell

    def train(self, phases: Iterable[Phase]) -> Progress:
        """Run the phases, from the checkpoint on if there is one. At the end the model has the best epoch's weights.

        Each phase is taken from `phases` after the previous one has ended. It starts from the best weights so far.
        """
        kept = sum(file.stat().st_size for file in self.folder.glob("checkpoint*.npz"))
        needed = (KEPT + 1) * ARRAYS * 4 * self.model.count_params()  # a new checkpoint is written beside those kept
        require_space(self.folder, needed - kept, flag="--artifacts")
        progress = self._resume()
        stop = StopRequest()
        for number, phase in enumerate(phases):  # building a phase may take minutes; until then a signal acts at once
            if number < progress.phase:
                continue
            with stop.listening():
                self._run_phase(phase, progress, stop)
            progress.phase, progress.first = progress.phase + 1, progress.epoch
            self.model.set_weights(progress.best_weights)
        return progress

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.npz"

    def _resume(self) -> Progress:
        self._optimizer_values: list[np.ndarray] = []
        if not has_checkpoint(self._checkpoint):
            return Progress()
        progress, values = load_checkpoint(self._checkpoint, self.recipe)
        own = self.model.variables
        for variable, value in zip(own, values, strict=False):
            variable.assign(value)
        self._optimizer_values = values[len(own) :]
        return progress

    def _run_phase(self, phase: Phase, progress: Progress, stop: StopRequest) -> None:
        phase.prepare()
        compile_model(self.model, self.options, phase)
        if progress.epoch > progress.first or progress.step:
            for variable, value in zip(self.model.optimizer.variables, self._optimizer_values, strict=True):
                variable.assign(value)
        while progress.epoch < progress.first + phase.epochs and self._within_patience(progress):
            self._run_epoch(phase, progress, stop)

    def _within_patience(self, progress: Progress) -> bool:
        epochs_without_gain = progress.epoch - max(progress.best_epoch + 1, progress.first)
        return not self.options.patience or epochs_without_gain < self.options.patience

    def _run_epoch(self, phase: Phase, progress: Progress, stop: StopRequest) -> None:
        started = time.monotonic()
        self.model.train_words(progress.epoch >= self.words_frozen_epochs)
        batches = self._batches(phase.train, epoch_order(self.options.seed, progress.epoch), progress.step)
        steps = batches.first + len(batches)
        watch = ProgressCallback(f"epoch {progress.epoch + 1} ({phase.name})", progress, steps, stop, batches.names)
        logs = (
            self._fit_self_critical(phase.make_batch, batches, watch)
            if phase.make_batch
            else self._fit(batches, watch, progress)
        )
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise diverged("The weights became NaN or infinite", progress)
        if stop.signal and progress.step < steps:
            progress.running_means = [float(np.asarray(variable)) for variable in watch.means]
            self._save(progress)
            self._leave(progress)
        self._finish_epoch(phase, progress, logs, started)
        if stop.signal:
            self._leave(progress)

    def _fit(self, batches: Batches, watch: ProgressCallback, progress: Progress) -> dict[str, float]:
        callbacks = [watch, *self.callbacks]
        epochs = {"initial_epoch": progress.epoch, "epochs": progress.epoch + 1}
        history = self.model.fit(batches, shuffle=False, callbacks=callbacks, verbose=0, **epochs).history
        return {"loss": history["loss"][-1]}

    def _fit_self_critical(self, make_batch: MakeBatch, batches: Batches, watch: ProgressCallback) -> dict[str, float]:
        """Train for an epoch on captions sampled from the model, batch by batch."""
        watch.set_model(self.model)
        self.model.reset_metrics()
        self.model.stop_training = False
        watch.on_epoch_begin(watch.progress.epoch)
        for index in range(len(batches)):
            rng = np.random.default_rng([self.options.seed, watch.progress.epoch, watch.progress.step])
            (inputs, targets, weights), reward = make_batch(batches[index], batches.numbers(index), rng)
            logs = self.model.train_on_batch(inputs, targets, sample_weight=weights, return_dict=True)
            watch.reward.update_state(reward)
            watch.on_train_batch_end(index, logs | {"reward": float(watch.reward.result())})
            if self.model.stop_training:
                break
        watch.on_train_end()
        return {"reward": float(watch.reward.result())}

    def _finish_epoch(self, phase: Phase, progress: Progress, logs: dict[str, float], started: float) -> None:
        if not phase.make_batch:  # a self-critical loss does not measure the captions
            batches = self._batches(phase.dev, None, 0)
            logs = logs | {"dev_loss": self.model.evaluate(batches, verbose=0, return_dict=True)["loss"]}
        validation = phase.validate()
        row = {"epoch": progress.epoch + 1, **logs, **validation.scores}
        row["seconds"] = round(time.monotonic() - started, 1)
        progress.history.append(row)
        progress.samples.append(validation.samples)
        if self.keep_last or validation.scores[SCORE] > progress.best_score:
            progress.best_score, progress.best_epoch = validation.scores[SCORE], progress.epoch
            progress.best_weights = self.model.get_weights()
        progress.epoch, progress.step, progress.running_means = progress.epoch + 1, 0, []
        self._save(progress)
        tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        for report in self.reports:
            report(row)

    def _batches(self, examples: Examples, order: np.random.Generator | None, first: int) -> Batches:
        options = self.options
        return Batches(
            examples,
            batch_size=options.batch_size,
            captions_per_image=options.captions_per_image,
            order=order,
            first=first,
        )

    def _save(self, progress: Progress) -> None:
        variables = [*self.model.variables, *self.model.optimizer.variables]
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        save_checkpoint(self._checkpoint, self.recipe, progress, values)
        if progress.history:
            atomic_write(self.folder / "history.csv", history_csv(progress.history))

    def _leave(self, progress: Progress) -> None:
        raise Stopped(
            f"Stopped and saved after {progress.epoch} epochs and {progress.step} steps; "
            "the same command with --resume continues."
        )


def history_csv(history: Sequence[dict[str, float]]) -> str:
    """The history as CSV, one line per epoch."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in history for name in row)
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
