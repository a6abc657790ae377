"""Kills, signals and damage at any moment of a training: it goes on to the very same weights."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import keras
import pytest

from captioning.errors import Stopped
from captioning.training.checkpoint import load_checkpoint
from captioning.training.trainer import Trainer
from tests.faults import Killed
from tests.training.test_trainer import (
    RECIPE,
    STEPS,
    Interruption,
    compiled_once,  # noqa: F401
    forks,  # noqa: F401
    kill,
    phase,
    phases_of,
    run_in,
    state,
    stop_at,
    trained,
    usual,  # noqa: F401
)

KILLS, SIGNALS, DAMAGES = 100, 50, 8
CURVE = [0.1, 0.5, 0.2, 0.3, 0.4, 0.2]  # patience 2 ends the first phase after four epochs
pytestmark = pytest.mark.slow


def train_until(folder: Path, seconds: float) -> None:
    """What a process does that is killed so many seconds after its training began."""
    run = run_in(folder, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: time.sleep(0.1))])
    run.reports = [lambda row: (folder / f"told {row['epoch']}").touch()]
    threading.Timer(seconds, kill).start()
    run.train(phases_of(run))
    os._exit(0)  # before it is killed


def test_killed_at_any_moment(usual, forks, tmp_path, record_property):  # noqa: F811
    rng, kills, trainings, lost = random.Random(0), 0, 0, 0
    while kills < KILLS:
        folder = tmp_path / str(trainings)
        folder.mkdir()
        for _ in range(rng.randint(1, 4)):
            process = forks.Process(target=train_until, args=(folder, rng.uniform(0, 4)))
            process.start()
            process.join(timeout=300)
            assert process.exitcode in (0, -signal.SIGKILL)
            kills += process.exitcode != 0
            told = len(list(folder.glob("told *")))
            lost += told > 0 and load_checkpoint(folder / "checkpoint.npz", RECIPE)[0].epoch < told
        assert trained(folder) == usual[2]
        trainings += 1
    assert lost == 0
    record_property("kills", kills)
    record_property("trainings", trainings)
    record_property("epochs lost", lost)


def signalled(run: Trainer, number: int, after: float) -> float:
    """The seconds from a signal to the end of the training that it stops; 0 where it came too late."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    timer = threading.Timer(after, send)
    timer.start()
    try:
        run.train(phases_of(run))
    except Stopped:
        return time.monotonic() - sent[0]
    finally:
        timer.cancel()
        timer.join()
    return 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signalled_at_any_moment(usual, tmp_path, record_property, number):  # noqa: F811
    rng, seconds, trainings = random.Random(number), [], 0
    former = signal.signal(number, lambda *_: None)  # for one that comes after the end
    try:
        while len(seconds) < SIGNALS // 2:
            folder = tmp_path / str(trainings)
            while waited := signalled(run_in(folder), number, rng.uniform(0, 2)):
                seconds.append(waited)
            trainings += 1
            assert trained(folder) == usual[2]
    finally:
        signal.signal(number, former)
    record_property("signals", len(seconds))
    record_property("trainings", trainings)
    record_property("seconds to the slowest end", round(max(seconds), 1))


def test_stopped_once(usual, tmp_path, record_property):  # noqa: F811
    for step in range(1, 3 * STEPS + 1):
        stop_at(step, tmp_path / str(step))
        assert trained(tmp_path / str(step)) == usual[2]
    record_property("stops", 3 * STEPS)


def test_a_damaged_checkpoint_costs_an_epoch_at_most(usual, tmp_path, record_property, capsys):  # noqa: F811
    for number in range(DAMAGES):
        folder = tmp_path / str(number)
        stop_at(STEPS + 1 + number % (2 * STEPS - 1), folder)
        newest = folder / "checkpoint.npz"
        data, half = newest.read_bytes(), len(newest.read_bytes()) // 2
        newest.write_bytes((b"", data[:half], data[:half] + bytes(len(data) - half), data[::-1])[number % 4])
        assert trained(folder) == usual[2]
        assert "resuming from the previous checkpoint" in capsys.readouterr().err
    record_property("damaged", DAMAGES)


def patient(folder: Path, kill_at: int = 0) -> dict:
    """A training by the scripted curve, killed while a step of the whole training is under way."""

    def die() -> None:
        raise Killed

    newest = folder / "checkpoint.npz"
    done = load_checkpoint(newest, RECIPE)[0].epoch if newest.exists() else 0
    run = run_in(folder, patience=2, callbacks=[Interruption(kill_at, die)])
    curve = iter(CURVE[done:])
    return state(run, run.train([phase(run, 5, scores=curve), phase(run, 3, scores=curve)]))


def test_the_best_epoch_and_the_patience_survive_a_kill(tmp_path, record_property):
    wanted = patient(tmp_path / "usual")
    assert wanted["best"][:2] == (1, 0.5)
    assert len(wanted["history"]) == len(CURVE)
    steps = range(2, len(CURVE) * STEPS, 3)
    for step in steps:
        with pytest.raises(Killed):
            patient(tmp_path / str(step), kill_at=step)
        assert patient(tmp_path / str(step)) == wanted
    record_property("kills", len(steps))
