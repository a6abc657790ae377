"""What happens while an epoch runs: the progress bar, a stop at a signal or at NaN, TensorBoard logs."""

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import keras
from tqdm import tqdm

from captioning.errors import MissingExtra, TrainingError
from captioning.training.checkpoint import Progress


class StopRequest:
    """Notes the first Ctrl-C or SIGTERM; the second one acts at once."""

    def __init__(self) -> None:
        self.signal = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals while in this block; after it, and outside the main thread, they act as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)


class ProgressCallback(keras.callbacks.Callback):
    """Shows the steps of an epoch, stops on request or at a loss of NaN, and restores the means of a stopped epoch."""

    def __init__(
        self,
        description: str,
        progress: Progress,
        steps: int,
        stop: StopRequest,
        names: Callable[[int], Sequence[str]] = lambda index: (),  # of the images of a batch
    ) -> None:
        super().__init__()
        self.progress, self.stop, self.names = progress, stop, names
        self.bar = tqdm(total=steps, initial=progress.step, desc=description, unit="step", leave=False, disable=None)
        self.reward = keras.metrics.Mean(name="reward")

    @property
    def means(self) -> list[keras.Variable]:
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


def diverged(what: str, progress: Progress, names: Sequence[str] = ()) -> TrainingError:
    """Return the error of a training whose loss or weights are NaN or infinite, with the images of the last step."""
    images = f"; the images of that step: {', '.join(names)}" if names else ""
    return TrainingError(
        f"{what} at step {progress.step} of epoch {progress.epoch + 1}; training stopped, the last checkpoint is kept. "
        f"Lower --learning-rate or --clip-norm, or use --precision float32{images}."
    )


def tensorboard_report(folder: Path) -> Callable[[dict[str, float]], None]:
    """Return what writes each epoch's figures as TensorBoard logs."""
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
