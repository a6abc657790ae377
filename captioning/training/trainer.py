"""Fits the model, epoch by epoch, so that it can be stopped or killed anywhere and go on as if it had not been.

Knows nothing of words: validation is a function it is handed.
"""

import contextlib
import csv
import io
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from captioning.decoder.model import CaptionModel
from captioning.errors import MissingExtra, Stopped, StorageError, TrainingError
from captioning.options import RunOptions, TrainOptions
from captioning.runtime.files import atomic_write, require_space
from captioning.training.batches import Batches, Examples, epoch_order
from captioning.training.checkpoint import KEPT, Progress, has_checkpoint, load_checkpoint, save_checkpoint

ARRAYS = 4  # numbers a checkpoint keeps of every weight: itself, two moments of AdamW, its best value
SCORE = "CIDEr-D"  # the validation score by which the best epoch is chosen


class Validation(Protocol):
    """What validation found after an epoch: scores by name and the captions of the watched images."""

    scores: dict[str, float]
    samples: list[str]


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with its own examples and rate."""

    name: str
    epochs: int
    learning_rate: float
    train: Examples
    dev: Examples
    validate: Callable[[], Validation]
    prepare: Callable[[], Any]  # what is frozen or freed before the phase is compiled
    lesson: Callable[[Any, np.ndarray, np.random.Generator], tuple[Any, float]] | None = None  # see reinforce.py


class SmoothedCrossEntropy(keras.losses.Loss):
    """Weighted cross-entropy of each word, in float32; weights have a mean of 1 where all words count alike."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(reduction="sum_over_batch_size", dtype="float32")
        self.label_smoothing = label_smoothing

    def call(self, targets: Any, logits: Any) -> Any:
        size = logits.shape[-1]
        spread = (
            ops.one_hot(ops.cast(targets, "int32"), size) * (1 - self.label_smoothing) + self.label_smoothing / size
        )
        return ops.categorical_crossentropy(spread, logits, from_logits=True)


class ProgressCallback(keras.callbacks.Callback):
    """Shows the steps of an epoch, stops where told to or at a loss that is no number, takes up interrupted means."""

    def __init__(
        self,
        description: str,
        progress: Progress,
        steps: int,
        stop: "StopRequest",
        names: Callable[[int], Sequence[str]] = lambda index: (),  # of the images of a batch
    ) -> None:
        super().__init__()
        self.progress, self.stop, self.names = progress, stop, names
        self.bar = tqdm(total=steps, initial=progress.step, desc=description, unit="step", leave=False, disable=None)
        self.reward = keras.metrics.Mean(name="reward")

    @property
    def means(self) -> list[Any]:
        """The variables behind the epoch's means."""
        return [*self.model.metrics_variables, *self.reward.variables]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for variable, value in zip(self.means, self.progress.running_means, strict=False):
            variable.assign(value)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.progress.step += 1
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise diverged(f"The loss became {loss}", self.progress, self.names(batch))
        self.bar.update()
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in (logs or {}).items()}, refresh=False)
        if self.stop.signal:
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        self.bar.close()


class StopRequest:
    """Hears the first Ctrl-C or SIGTERM and remembers it; the second one acts at once."""

    def __init__(self) -> None:
        self.signal = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While in this block signals are remembered; elsewhere, and outside the main thread, they act as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)


def diverged(what: str, progress: Progress, names: Sequence[str] = ()) -> TrainingError:
    """The error of a training whose numbers ran away, with the names of the images that were shown last."""
    images = f"; the images of that step: {', '.join(names)}" if names else ""
    return TrainingError(
        f"{what} at step {progress.step} of epoch {progress.epoch + 1}; training stopped, the last checkpoint is kept. "
        f"Lower --learning-rate or --clip-norm, or use --precision float32{images}."
    )


def compile_model(model: CaptionModel, options: TrainOptions, phase: Phase) -> None:
    """AdamW with a warm-up and a cosine, clipped.

    XLA compiles it where that is the backend's way, and on TensorFlow where grids are shown, not images, which saves a
    third of the time there.
    """
    steps = phase.epochs * math.ceil(len(phase.train) / options.batch_size)
    warmup = max(1, round(options.warmup * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        phase.learning_rate / 100,
        max(1, steps - warmup),
        alpha=0.0,
        warmup_target=phase.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=options.weight_decay, global_clipnorm=options.clip_norm)
    optimizer.exclude_from_weight_decay(var_names=["bias", "embeddings", "gamma", "beta"])
    loss = SmoothedCrossEntropy(0.0 if phase.lesson else options.label_smoothing)
    backend, shows_grids = keras.backend.backend(), phase.train.array.ndim == 3
    model.compile(optimizer, loss, jit_compile=backend == "jax" or (backend == "tensorflow" and shows_grids))
    model.optimizer.build(model.trainable_variables)


@dataclass
class Trainer:
    """One training: what is fitted, how, where its checkpoint lies, and for how long the words wait."""

    model: CaptionModel
    options: TrainOptions
    folder: Path
    recipe: dict[str, Any]
    words_frozen_epochs: int = 0
    callbacks: Sequence[keras.callbacks.Callback] = ()
    reports: Sequence[Callable[[dict[str, float]], None]] = ()  # told of every epoch, besides the terminal

    def train(self, phases: Iterable[Phase]) -> Progress:
        """Runs the phases from where the checkpoint stands; ends with the best epoch's weights in the model.

        A phase is taken from `phases` when the one before is over, with the weights of the best epoch so far.
        """
        kept = sum(file.stat().st_size for file in self.folder.glob("checkpoint*.npz"))
        needed = (KEPT + 1) * ARRAYS * 4 * self.model.count_params()  # a new one is written beside those kept
        require_space(self.folder, needed - kept, flag="--artifacts")
        progress = self._resume()
        stop = StopRequest()
        for number, phase in enumerate(phases):  # to make one may take minutes, in which a signal acts at once
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
        while progress.epoch < progress.first + phase.epochs and self._is_patient(progress):
            self._run_epoch(phase, progress, stop)

    def _is_patient(self, progress: Progress) -> bool:
        waited = progress.epoch - max(progress.best_epoch + 1, progress.first)
        return not self.options.patience or waited < self.options.patience

    def _run_epoch(self, phase: Phase, progress: Progress, stop: StopRequest) -> None:
        started = time.monotonic()
        self.model.train_words(progress.epoch >= self.words_frozen_epochs)
        batches = self._batches(phase.train, epoch_order(self.options.seed, progress.epoch), progress.step)
        steps = batches.first + len(batches)
        watch = ProgressCallback(f"epoch {progress.epoch + 1} ({phase.name})", progress, steps, stop, batches.names)
        logs = self._follow(phase.lesson, batches, watch) if phase.lesson else self._fit(batches, watch, progress)
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise diverged("The weights became infinite or no numbers", progress)
        if stop.signal and progress.step < steps:
            progress.running_means = [float(np.asarray(variable)) for variable in watch.means]
            self._save(progress)
            self._leave(progress)
        self._finish_epoch(phase, progress, logs, started)
        if stop.signal:
            self._leave(progress)

    def _fit(self, batches: Batches, watch: ProgressCallback, progress: Progress) -> dict[str, float]:
        callbacks = [watch, *self.callbacks]
        how: dict[str, Any] = {"initial_epoch": progress.epoch, "epochs": progress.epoch + 1, "verbose": 0}
        history = self.model.fit(batches, shuffle=False, callbacks=callbacks, **how).history
        return {"loss": history["loss"][-1]}

    def _follow(self, lesson: Callable[..., Any], batches: Batches, watch: ProgressCallback) -> dict[str, float]:
        """An epoch whose every batch is made of what the model, as it then is, says of the images."""
        watch.set_model(self.model)
        self.model.reset_metrics()
        self.model.stop_training = False
        watch.on_epoch_begin(watch.progress.epoch)
        for index in range(len(batches)):
            rng = np.random.default_rng([self.options.seed, watch.progress.epoch, watch.progress.step])
            (inputs, targets, weights), reward = lesson(batches[index], batches.shown(index), rng)
            logs = self.model.train_on_batch(inputs, targets, sample_weight=weights, return_dict=True)
            watch.reward.update_state(reward)
            watch.on_train_batch_end(index, logs | {"reward": float(watch.reward.result())})
            if self.model.stop_training:
                break
        watch.on_train_end()
        return {"reward": float(watch.reward.result())}

    def _finish_epoch(self, phase: Phase, progress: Progress, logs: dict[str, float], started: float) -> None:
        if not phase.lesson:  # the loss of a lesson says nothing
            batches = self._batches(phase.dev, None, 0)
            logs = logs | {"dev_loss": self.model.evaluate(batches, verbose=0, return_dict=True)["loss"]}
        found = phase.validate()
        row = {"epoch": progress.epoch + 1, **logs, **found.scores}
        row["seconds"] = round(time.monotonic() - started, 1)
        progress.history.append(row)
        progress.samples.append(found.samples)
        if found.scores[SCORE] > progress.best_score:
            progress.best_score, progress.best_epoch = found.scores[SCORE], progress.epoch
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
            "the same command with --resume goes on."
        )


def history_csv(history: Sequence[dict[str, float]]) -> str:
    """The history as CSV, one line an epoch."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in history for name in row)
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def tensorboard_report(folder: Path) -> Callable[[dict[str, float]], None]:
    """A report that writes each epoch's figures as TensorBoard logs."""
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise MissingExtra("--tensorboard needs TensorBoard: pip install '.[tensorboard]'.") from None
    writer = Writer(str(folder))

    def report(row: dict[str, float]) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, step=int(row["epoch"]))
        writer.flush()

    return report


def set_precision(choice: str) -> str:
    """Sets the arithmetic of the layers built from now on and returns its name; "auto" asks the hardware."""
    policy = _suited() if choice == "auto" else choice
    keras.config.set_dtype_policy(policy)
    return policy


def _suited() -> str:
    if re.search("gpu|cuda", str(ops.zeros(1).device).lower()):  # where this backend puts a tensor by itself
        return "mixed_float16"
    flags = Path("/proc/cpuinfo")
    has_bfloat16 = flags.is_file() and re.search(r"\b(avx512_bf16|amx_bf16)\b", flags.read_text()) is not None
    return "mixed_bfloat16" if has_bfloat16 and keras.backend.backend() == "tensorflow" else "float32"


def check_overwrite(folder: Path, checkpoint_folder: Path, options: RunOptions) -> None:
    """Refuses a training that would replace a finished bundle or an unfinished training without being told to."""
    unfinished = has_checkpoint(checkpoint_folder / "checkpoint.npz")
    if options.resume and not unfinished:
        raise StorageError(f"{checkpoint_folder} holds no training to resume; leave --resume out to begin one.")
    if options.resume or options.overwrite:
        return
    if unfinished:
        raise StorageError(
            f"{checkpoint_folder} holds an unfinished training: --resume goes on with it, --overwrite begins again."
        )
    if (folder / "config.json").exists():
        raise StorageError(f"{folder} holds a finished bundle: choose another --name, or replace it with --overwrite.")


def clear_checkpoints(checkpoint_folder: Path) -> None:
    """Removes what a training kept for going on, once it is over or is to begin again."""
    for path in checkpoint_folder.iterdir():
        if path.name != ".lock":
            path.unlink()
