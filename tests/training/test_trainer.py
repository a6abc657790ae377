"""A training that is stopped, killed or starved of disk goes on as if nothing had been; a seed is a model."""

import csv
import errno
import math
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import keras
import numpy as np
import pytest

from captioning.decoder.config import ModelConfig
from captioning.decoder.model import CaptionModel
from captioning.errors import Stopped, StorageError, TrainingError
from captioning.options import TrainOptions
from captioning.runtime import files
from captioning.training import trainer
from captioning.training.batches import Examples, epoch_order
from captioning.training.callbacks import StopRequest
from captioning.training.checkpoint import Progress, load_checkpoint
from captioning.training.optimization import SmoothedCrossEntropy, compile_model, set_precision
from captioning.training.trainer import SCORE, Phase, Trainer

WORDS, REGIONS, DEPTH, UNITS, IMAGES, BATCH = 9, 2, 3, 8, 12, 6
STEPS = IMAGES // BATCH
RECIPE = {"seed": 0, "epochs": 3}


def examples(images: int, seed: int) -> Examples:
    random = np.random.default_rng(seed)
    tokens = random.integers(3, WORDS, (images, 2, 3)).astype("int32")
    tokens[..., 0], tokens[..., -1] = 1, 2
    array = random.normal(size=(images, REGIONS, DEPTH)).astype("float32")
    return Examples(array, np.arange(images)[:, None], list(tokens))


TRAIN, DEV = examples(IMAGES, 1), examples(4, 2)


class Interruption(keras.callbacks.Callback):
    """Acts once, while a step of the whole training, counted from 1, is under way."""

    def __init__(self, step: int, act) -> None:
        super().__init__()
        self.left, self.act = step, act

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.act()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class PlainModel(CaptionModel):
    """Run step by step where that is cheaper than compiling six steps."""

    run_eagerly = property(lambda self: keras.backend.backend() == "tensorflow", lambda self, value: None)


def build(seed: int, kind: type[CaptionModel]) -> CaptionModel:
    keras.utils.set_random_seed(seed)
    model = kind(ModelConfig(WORDS, REGIONS, DEPTH, UNITS, UNITS, UNITS, UNITS, dropout=0.3))
    model.build()
    return model


def run_in(
    folder: Path, *, kind=PlainModel, recipe=RECIPE, callbacks=(), words_frozen_epochs: int = 0, **options
) -> Trainer:
    options = TrainOptions(**{"batch_size": BATCH, "captions_per_image": 2, **options})
    return Trainer(build(options.seed, kind), options, folder, recipe, words_frozen_epochs, callbacks)


def phase(
    run: Trainer,
    epochs: int = 3,
    *,
    name: str = "fit",
    rate: float = 3e-2,
    train: Examples = TRAIN,
    scores=None,
    after=int,
) -> Phase:
    """A phase whose score is scripted, or hangs on the weights as chance does; `after` is called at each end."""
    script = iter(scores or ())

    def validate() -> SimpleNamespace:
        after()
        weight = float(np.abs(keras.ops.convert_to_numpy(run.model.head.kernel)).sum())
        score = next(script) if scores else weight % 1
        return SimpleNamespace(scores={"BLEU-4": 0.0, SCORE: score}, samples=[f"{weight:.9f}"])

    return Phase(name, epochs, rate, train, DEV, validate, lambda: None)


def phases_of(run: Trainer) -> list[Phase]:
    return [phase(run, 2), phase(run, 1, name="fine-tune", rate=1e-2)]


def state(run: Trainer, progress: Progress) -> dict:
    """All that must not depend on where a training was interrupted."""
    variables = [*run.model.variables, *run.model.optimizer.variables]
    return {
        "variables": [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables],
        "best": (progress.best_epoch, progress.best_score, [weight.tobytes() for weight in progress.best_weights]),
        "history": [{name: value for name, value in row.items() if name != "seconds"} for row in progress.history],
        "samples": progress.samples,
        "steps": int(run.model.optimizer.iterations),
    }


def trained(folder: Path) -> dict:
    run = run_in(folder)
    return state(run, run.train(phases_of(run)))


def stop_at(step: int, folder: Path, *, done: int = 0) -> None:
    """Goes on from what is on the disk, where `done` steps are done, and is stopped after a step."""
    run = run_in(folder, callbacks=[Interruption(step - done, interrupt)])
    with pytest.raises(Stopped, match="--resume") as stopped:
        run.train(phases_of(run))
    assert stopped.value.exit_status == 130
    assert f"after {step // STEPS} epochs and {step % STEPS} steps" in str(stopped.value)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A training that nothing disturbed: the run, its progress, its state."""
    run = run_in(tmp_path_factory.mktemp("usual"))
    progress = run.train(phases_of(run))
    return run, progress, state(run, progress)


def test_the_loss_falls_and_every_epoch_has_a_row(usual):
    run, progress, _ = usual
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]
    assert [row["epoch"] for row in progress.history] == [1, 2, 3]
    assert all({"loss", "dev_loss", "BLEU-4", SCORE, "seconds"} <= row.keys() for row in progress.history)
    assert len(progress.samples) == 3
    with open(run.folder / "history.csv") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [row["loss"] for row in progress.history]


def test_the_best_epochs_weights_end_in_the_model(usual):
    run, progress, _ = usual
    scores = [row[SCORE] for row in progress.history]
    assert progress.best_epoch == np.argmax(scores)
    head = np.abs(keras.ops.convert_to_numpy(run.model.head.kernel)).sum()
    assert f"{head:.9f}" == progress.samples[progress.best_epoch][0]


def test_a_phase_is_made_with_the_best_weights_of_those_before(tmp_path):
    run, found = run_in(tmp_path), []

    def phases():
        yield phase(run, 2, scores=[0.9, 0.1])
        found.extend(weight.copy() for weight in run.model.get_weights())
        yield phase(run, 1, scores=[0.2])

    progress = run.train(phases())
    assert (progress.epoch, progress.best_epoch) == (3, 0)
    for weights in (found, run.model.get_weights()):
        assert all(map(np.array_equal, weights, progress.best_weights))


def test_the_same_seed_is_the_same_model(usual, tmp_path):
    assert trained(tmp_path) == usual[2]


def test_another_seed_is_another_model(usual, tmp_path):
    run = run_in(tmp_path, seed=1)
    assert state(run, run.train(phases_of(run)))["variables"] != usual[2]["variables"]


def test_stopped_after_every_step_and_resumed_each_time(usual, tmp_path):
    for step in range(1, 3 * STEPS + 1):
        stop_at(step, tmp_path, done=step - 1)
    assert trained(tmp_path) == usual[2]


def test_a_finished_training_can_be_resumed(usual):
    run, _, wanted = usual
    assert trained(run.folder) == wanted


@pytest.fixture(scope="module")
def forks():
    """Processes that begin with Keras imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras", "captioning.training.trainer", "pytest"])
    return context


def train_until(folder: Path, kind: str, moment: int) -> None:
    """What such a process does: it trains until that "step", or until just before so manieth a file takes its name."""
    if kind == "save":
        countdown, rename = iter(range(moment)), os.replace
        files.os.replace = lambda *paths: rename(*paths) if next(countdown, 0) + 1 < moment else kill()
    run = run_in(folder, callbacks=[Interruption(moment, kill)] if kind == "step" else [])
    run.train(phases_of(run))


@pytest.mark.parametrize("moment", [("step", 4), pytest.param(("save", 4), marks=pytest.mark.whole)])
def test_killed_and_resumed(usual, forks, tmp_path, moment):
    process = forks.Process(target=train_until, args=(tmp_path, *moment))
    process.start()
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    _, values = load_checkpoint(tmp_path / "checkpoint.npz", RECIPE)
    assert all(np.isfinite(value).all() for value in values)
    assert trained(tmp_path) == usual[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_remembered_and_the_second_acts(number):
    usual = signal.getsignal(number)
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), number)
        assert stop.signal == number
        assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                interrupt()
    assert signal.getsignal(number) == usual


def test_signals_act_as_usual_while_a_phase_is_made(tmp_path):
    run, acting = run_in(tmp_path), []
    run.train(acting.append(signal.getsignal(signal.SIGINT)) or each for each in phases_of(run))
    assert acting == [signal.getsignal(signal.SIGINT)] * 2


def test_training_outside_the_main_thread(tmp_path):
    run = run_in(tmp_path)
    with ThreadPoolExecutor() as pool:
        progress = pool.submit(run.train, [phase(run, 1)]).result()
    assert len(progress.history) == 1


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path):
    run, names = run_in(tmp_path), [f"{number}.jpg" for number in range(IMAGES)]
    poisoned = replace(examples(IMAGES, 1), names=names)
    with pytest.raises(TrainingError, match=r"loss became nan at step 1 of epoch 2.*--learning-rate") as raised:
        run.train([phase(run, train=poisoned, after=lambda: poisoned.array.fill(np.nan))])
    assert raised.value.exit_status == 3
    shown = epoch_order(0, 1).permutation(names)[:BATCH]
    assert str(raised.value).endswith(f"the images of that step: {', '.join(shown)}.")
    progress, values = load_checkpoint(tmp_path / "checkpoint.npz", RECIPE)
    assert (progress.epoch, progress.step) == (1, 0)
    assert all(np.isfinite(value).all() for value in values)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    run = run_in(tmp_path, batch_size=IMAGES)
    with pytest.raises(TrainingError, match="weights became NaN or infinite"):
        run.train([phase(run, rate=math.inf)])
    assert not list(tmp_path.iterdir())


def test_patience_ends_a_phase_and_not_the_training(tmp_path):
    run = run_in(tmp_path, patience=2)
    progress = run.train([phase(run, 5, scores=[0.1, 0.5, 0.2, 0.3]), phase(run, 3, scores=[0.4, 0.2])])
    assert [row[SCORE] for row in progress.history] == [0.1, 0.5, 0.2, 0.3, 0.4, 0.2]
    assert (progress.best_epoch, progress.best_score) == (1, 0.5)


def test_words_wait_until_they_are_freed(tmp_path):
    run, vectors = run_in(tmp_path, words_frozen_epochs=2), []
    note = lambda: vectors.append(keras.ops.convert_to_numpy(run.model.embedding.embeddings).tobytes())  # noqa: E731
    note()
    run.train([phase(run, after=note)])
    assert vectors[0] == vectors[1] == vectors[2] != vectors[3]


def test_a_checkpoint_of_another_recipe_is_refused(usual):
    run = run_in(usual[0].folder, recipe=RECIPE | {"epochs": 4})
    before = keras.ops.convert_to_numpy(run.model.head.kernel)
    with pytest.raises(StorageError, match="epochs was 3, is 4"):
        run.train(phases_of(run))
    np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(run.model.head.kernel))


def test_a_full_disk_keeps_the_older_checkpoint(usual, tmp_path, monkeypatch):
    refuse = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    run = run_in(tmp_path, callbacks=[Interruption(3, lambda: monkeypatch.setattr(files.os, "fsync", refuse))])
    with pytest.raises(StorageError, match="the disk is full") as raised:
        run.train(phases_of(run))
    monkeypatch.undo()
    assert raised.value.exit_status == 4
    assert load_checkpoint(tmp_path / "checkpoint.npz", RECIPE)[0].epoch == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.npz", "history.csv"]
    assert trained(tmp_path) == usual[2]


def test_space_is_asked_for_a_third_checkpoint_beside_the_two_kept(usual, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(trainer, "require_space", lambda folder, needed, flag: asked.append(needed))
    for folder in (tmp_path, usual[0].folder):
        run = run_in(folder)
        run.train([])
    one = 4 * trainer.ARRAYS * run.model.count_params()
    kept = sum(file.stat().st_size for file in run.folder.glob("*.npz"))
    assert kept > 0
    assert asked == [3 * one, 3 * one - kept]


def test_a_disk_too_small_for_checkpoints_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_free", lambda path: 1000)
    run = run_in(tmp_path)
    with pytest.raises(StorageError, match="--artifacts FOLDER"):
        run.train(phases_of(run))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def policy():
    before = keras.config.dtype_policy().name
    yield
    keras.config.set_dtype_policy(before)


def test_auto_precision_is_one_that_keras_knows(policy):
    name = set_precision("auto")
    assert keras.config.dtype_policy().name == name
    assert name in ("float32", "mixed_float16", "mixed_bfloat16")


def test_mixed_precision_keeps_float32_weights(policy, tmp_path):
    assert set_precision("mixed_bfloat16") == "mixed_bfloat16"
    run = run_in(tmp_path)
    assert run.model.head.compute_dtype == "bfloat16"
    progress = run.train([phase(run, 1)])
    assert {weight.dtype for weight in run.model.weights} == {"float32"}
    assert all(math.isfinite(progress.history[0][name]) for name in ("loss", "dev_loss"))


def test_an_overflow_in_float16_leaves_the_weights_alone(policy, tmp_path):
    set_precision("mixed_float16")
    run = run_in(tmp_path)
    lessons = phase(run)
    compile_model(run.model, run.options, lessons)
    before, scale = run.model.get_weights(), float(run.model.optimizer.dynamic_scale)
    inputs, targets, weights = run._batches(lessons.train, None, 0)[0]
    run.model.train_on_batch(inputs, targets, sample_weight=np.full_like(weights, np.inf))
    assert all(map(np.array_equal, before, run.model.get_weights()))
    assert float(run.model.optimizer.dynamic_scale) == scale / 2


def test_the_loss_is_smoothed_cross_entropy():
    logits = np.log(np.array([[[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]]], "float32"))  # (1, 1, 2, 3)
    targets, weights = np.array([[[0, 2]]]), np.ones((1, 1, 2), "float32")
    smoothing = 0.3
    first = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    second = -(0.8 * math.log(0.8) + 0.1 * math.log(0.1) + 0.1 * math.log(0.1))
    loss = SmoothedCrossEntropy(smoothing)
    assert float(loss(targets, logits, weights)) == pytest.approx((first + second) / 2, rel=1e-5)
    weights[...] = [2, 0]
    assert float(loss(targets, logits, weights)) == pytest.approx(first, rel=1e-5)
