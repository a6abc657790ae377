"""Several devices learn what one learns, wherever the training is taken up; what they cannot share is refused.

How many devices JAX finds is fixed when it starts, so each of these trainings runs in a Python of its own: a function
of this file, named on its command line, whose answer it prints as its last line.
"""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

import captioning
from captioning import cli
from captioning.decoder.compiled_search import CaptionSearch
from captioning.decoder.config import ModelConfig
from captioning.decoder.model import CaptionModel
from captioning.decoder.search import SearchRules
from captioning.encoders.registry import build_encoder
from captioning.errors import Stopped
from captioning.inference.captioner import Caption
from captioning.options import DecodeOptions, TrainOptions
from captioning.runtime.devices import data_parallel
from captioning.training.batches import Examples
from captioning.training.trainer import SCORE, Phase, Trainer
from tests.training.test_recipe import QUICK, Place, captioned

ROOT = Path(captioning.__file__).parents[1]
WORDS, REGIONS, UNITS, IMAGES, BATCH, EPOCHS = 8, 2, 8, 6, 4, 3
TWO = "--xla_force_host_platform_device_count=2"
QUICKLY = (  # compiled, that is
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)
TOLERANCE = 1e-5
in_test_jax = pytest.mark.skipif(os.environ.get("KERAS_BACKEND") != "jax", reason="make test-jax runs it")


def answer_of(function, folder: Path) -> Any:
    """What a function of this file answers where there are two devices."""
    kept = {"JAX_COMPILATION_CACHE_DIR": str(folder / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | kept | {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"{TWO} {QUICKLY}"}
    command = [sys.executable, "-m", "tests.runtime.test_devices", function.__name__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def examples(images: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    array = rng.normal(size=(images, REGIONS, UNITS)).astype("float32")
    return Examples(array, np.arange(images)[:, None], list(rng.integers(3, WORDS, (images, 1, 3)).astype("int32")))


def learn(count: int, folder: Path, *, stopped_after: int = 0) -> dict[str, Any]:
    """A training on so many devices: its losses, its weights, and how many images each device saw of a batch."""
    shares: list[int] = []
    steps = itertools.count(1)

    class Witness(CaptionModel):
        def make_train_function(self, force=False):
            super().make_train_function(force)
            step = self.train_function

            def seen(state, batches):
                batch = next(batches)
                features = keras.ops.convert_to_tensor(batch[0]["features"])
                shares[:] = [len(part.data) for part in features.addressable_shards]
                return step(state, iter([batch]))

            self.train_function = seen

    def interrupt(*_, logs):
        if next(steps) == stopped_after:
            os.kill(os.getpid(), signal.SIGINT)

    keras.utils.set_random_seed(0)
    found = SimpleNamespace(scores={SCORE: 1.0}, samples=[])
    with data_parallel(count):
        model = Witness(ModelConfig(WORDS, REGIONS, UNITS, UNITS, UNITS, UNITS, UNITS, dropout=0.3))
        model.build()
        options = TrainOptions(batch_size=BATCH, captions_per_image=1)
        phase = Phase("fit", EPOCHS, 3e-2, examples(IMAGES, 1), examples(3, 2), lambda: found, int)
        callback = keras.callbacks.LambdaCallback(on_train_batch_begin=interrupt)
        run = Trainer(model, options, folder, {"seed": 0}, callbacks=[callback])
        history = run.train([phase]).history
    losses = [row[name] for row in history for name in ("loss", "dev_loss")]
    return {"losses": losses, "weights": [weight.ravel().tolist() for weight in model.get_weights()], "shares": shares}


def alike(folder: Path) -> list[dict[str, Any]]:
    return [learn(count, folder / str(count)) for count in (1, 2)]


def assert_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert len(one["losses"]) == 2 * EPOCHS
    assert one["losses"] == pytest.approx(other["losses"], rel=TOLERANCE)
    for weights, others in zip(one["weights"], other["weights"], strict=True):
        assert weights == pytest.approx(others, abs=TOLERANCE)


@pytest.mark.whole
def test_two_devices_learn_what_one_learns_each_from_half_of_every_batch(tmp_path):
    one, two = answer_of(alike, tmp_path)
    assert one["losses"][-2] < one["losses"][0]
    assert one["shares"] == [BATCH]
    assert two["shares"] == [BATCH // 2] * 2
    assert_alike(one, two)


def continued(folder: Path) -> list[dict[str, Any]]:
    trainings = [learn(2, folder / "whole")]
    for begun, ended in ((1, 2), (2, 1)):
        try:
            learn(begun, folder / str(begun), stopped_after=3)
        except Stopped:
            trainings.append(learn(ended, folder / str(begun)))
    return trainings


@in_test_jax
def test_begun_on_one_device_and_continued_on_two_or_the_other_way_round(tmp_path):
    whole, grown, shrunk = answer_of(continued, tmp_path)
    assert [len(training["shares"]) for training in (grown, shrunk)] == [2, 1]
    assert_alike(whole, grown)
    assert_alike(whole, shrunk)


def several_phases(folder: Path) -> list[Any]:
    """What an encoder and a search find on two devices while all weights are trainable, and when the encoder is not."""
    pictures, found = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype("float32"), []
    with data_parallel(2):
        encoder = build_encoder("tiny", image_size=32)
        model = CaptionModel(ModelConfig(WORDS, *encoder.output_shape[1:], UNITS, UNITS, UNITS, UNITS), encoder)
        model.build()
        decoder = CaptionSearch(model, SearchRules(DecodeOptions(max_length=3)))
        for trainable in (True, False):
            encoder.trainable = trainable
            grids, captions = encoder.predict_on_batch(pictures), decoder.search(pictures)
            found.append([grids.ravel().tolist(), captions.tokens.tolist()])
    return found


@in_test_jax
def test_what_was_compiled_in_one_phase_serves_in_the_next(tmp_path):
    (grids, captions), (grids_then, captions_then) = answer_of(several_phases, tmp_path)
    assert grids == pytest.approx(grids_then, rel=TOLERANCE)
    assert captions == captions_then


def recipe(folder: Path, *flags: str) -> list[list[float]]:
    """The losses and rewards of a training on one device, and on two."""
    place, own = Place(folder), captioned(folder / "own")
    flags = *QUICK, "--dropout", "0.3", "--batch-size", "4", "--reinforce-epochs", "1", *flags
    histories = []
    for count in (1, 2):
        assert place.train("--data", own, *flags, "--devices", count, "--name", str(count)) == 0
        with open(place.artifacts / str(count) / "history.csv") as file:
            rows = list(csv.DictReader(file))
        histories.append([float(row[name]) for row in rows for name in ("loss", "dev_loss", "reward") if row[name]])
    return histories


def fine_tuned(folder: Path) -> list[list[float]]:
    return recipe(folder, "--encoder", "mobilenetv2", "--encoder-weights", "none", "--fine-tune-epochs", "1")


@in_test_jax
@pytest.mark.slow
@pytest.mark.parametrize(("function", "figures"), [(recipe, 3), (fine_tuned, 5)], ids=["tiny", "mobilenetv2"])
def test_the_whole_recipe(tmp_path, function, figures):
    one, two = answer_of(function, tmp_path)
    assert len(one) == figures
    assert one == pytest.approx(two, rel=TOLERANCE)
    for name in ("1", "2"):
        captioner = captioning.load(tmp_path / "artifacts" / name)
        assert isinstance(captioner.caption(tmp_path / "own" / "0.jpg"), Caption)


@pytest.fixture
def refused(tmp_path, capsys):
    """Calls a training of data that are not there, which is not what it says, and returns what it says."""

    def call(*flags: str) -> str:
        assert cli.main(["train", "--data", str(tmp_path / "nowhere"), "--artifacts", str(tmp_path), *flags]) == 2
        assert not list(tmp_path.iterdir())
        return capsys.readouterr().err

    return call


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="there it can be done")
def test_other_backends_say_what_to_do_instead(refused):
    said = refused("--devices", "2")
    assert re.fullmatch(r"captioning: --devices 2 needs JAX, .* '\.\[jax\]' .*KERAS_BACKEND=jax.*\.\n", said)


def test_more_devices_than_there_are(refused, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    assert "--devices 4 is too many: JAX finds 2 (gpu:0, gpu:1)" in refused("--devices", "4")


def test_a_batch_that_cannot_be_shared_equally(refused):
    said = refused("--devices", "3", "--batch-size", "32")
    assert said == "captioning: --batch-size 32 cannot be used: a multiple of --devices 3 was expected.\n"


def test_one_device_is_as_none_was_asked_for():
    with data_parallel(1):
        assert keras.distribution.distribution() is None


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
