"""Published captioners are fine-tuned: they learn four captions, and a stopped training goes on exactly."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioning import cli
from captioning.errors import TrainingError
from captioning.extras.hf_captioners import load_published
from captioning.extras.hf_tuning import Tuner, varied
from captioning.options import TrainOptions
from tests.extras import tiny_models

pytestmark = [pytest.mark.hf, pytest.mark.filterwarnings("default")]

CAPTIONS = ("a red dog runs", "a man sleep in grass", "two cats on the grass", "photo of the man")
COLOURS = ((220, 30, 30), (30, 200, 40), (30, 30, 220), (240, 240, 240))
STEPS = {"florence-2": (200, 1e-2), "blip2": (120, 2e-2)}  # steps and learning rate


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    place = tmp_path_factory.mktemp("four")
    rows = ["image,caption,split"]
    for number, (colour, caption) in enumerate(zip(COLOURS, CAPTIONS, strict=True)):
        for split in ("train", "dev"):
            Image.fromarray(np.full((40, 48, 3), colour, "uint8")).save(place / f"{split}{number}.png")
            rows.append(f"{split}{number}.png,{caption},{split}")
    (place / "captions.csv").write_text("\n".join(rows))
    return [(place / f"train{number}.png", caption) for number, caption in enumerate(CAPTIONS)]


def tuner_of(folder, *, steps, **changes):
    options = TrainOptions(**{"learning_rate": 2e-2, "weight_decay": 0.0} | changes)
    return Tuner(load_published(str(folder), offline=True), options, steps=steps)


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_it_learns_four_captions(folders, pairs, kind):
    steps, rate = STEPS.get(kind, (80, 2e-2))
    tuner = tuner_of(folders[kind], steps=steps, learning_rate=rate)
    losses = [tuner.step(number, pairs) for number in range(tuner.steps)]
    assert losses[-1] < losses[0] / 5
    found = tuner.captioner.caption([path for path, _ in pairs], strategy="greedy", max_length=6)
    assert [str(each) for each in found] == list(CAPTIONS)


def test_a_stopped_training_goes_on_exactly(folders, pairs):
    whole = tuner_of(folders["blip"], steps=6)
    for number in range(6):
        whole.step(number, pairs)
    first = tuner_of(folders["blip"], steps=6)
    for number in range(3):
        first.step(number, pairs)
    kept = [np.array(value) for value in first.variables()]
    later = tuner_of(folders["blip"], steps=6)
    later.assign(kept)
    for number in range(3, 6):
        later.step(number, pairs)
    assert all(np.array_equal(*both) for both in zip(whole.variables(), later.variables(), strict=True))


def test_lora_trains_few_weights_and_adds_them_at_the_end(folders, pairs, tmp_path):
    pytest.importorskip("peft")
    tuner = tuner_of(folders["blip"], steps=30, lora_rank=2)
    assert tuner.count < sum(weight.numel() for weight in tuner.captioner.model.parameters()) / 2
    losses = [tuner.step(number, pairs) for number in range(30)]
    assert losses[-1] < losses[0]
    said = [str(each) for each in tuner.captioner.caption([path for path, _ in pairs], max_length=5)]
    tuner.finish()
    tuner.save(tmp_path / "merged")
    again = load_published(str(tmp_path / "merged"), offline=True)
    assert [str(each) for each in again.caption([path for path, _ in pairs], max_length=5)] == said


def train(folders, pairs, artifacts, *more):
    data = str(pairs[0][0].parent)
    command = [
        "train",
        "--captioner",
        str(folders["git"]),
        "--data",
        data,
        "--artifacts",
        str(artifacts),
        "--name",
        "own",
    ]
    return cli.main([*command, "--epochs", "2", "--batch-size", "2", *more])


def test_the_command_writes_a_model_with_its_scores_and_goes_on_after_a_stop(
    folders, pairs, tmp_path, capsys, monkeypatch
):
    steps, real = [], Tuner.step

    def killed(self, number, batch):
        steps.append(number)
        if steps.count(2) == 1 and number == 3:
            raise KeyboardInterrupt
        return real(self, number, batch)

    monkeypatch.setattr(Tuner, "step", killed)
    assert train(folders, pairs, tmp_path) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert train(folders, pairs, tmp_path) == 4
    assert "--resume continues it" in capsys.readouterr().err
    monkeypatch.setattr(Tuner, "step", real)
    assert train(folders, pairs, tmp_path, "--resume") == 0
    told = capsys.readouterr().out
    assert "Before:" in told
    assert "After:" in told
    folder = tmp_path / "own"
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "curves.png", "scores.json", "scores-before.json", "predictions-dev.jsonl"} <= names
    assert not (tmp_path / ".own.training").exists()
    assert cli.main(["caption", str(pairs[0][0]), "--captioner", str(folder), "--max-length", "4"]) == 0
    assert train(folders, pairs, tmp_path) == 4


def test_a_loss_that_is_no_number_ends_the_training(folders, pairs, monkeypatch):
    import torch

    tuner = tuner_of(folders["blip"], steps=2)
    monkeypatch.setattr(tuner, "_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        tuner.step(0, pairs)


def test_captions_that_name_a_side_are_not_mirrored():
    picture = Image.fromarray(np.arange(48, dtype="uint8").reshape(4, 4, 3))
    calm = SimpleNamespace(random=lambda: 0.0, uniform=lambda low, high: 1.0)
    assert np.array_equal(np.asarray(varied(picture, calm, may_mirror=False)), np.asarray(picture))
    assert np.array_equal(np.asarray(varied(picture, calm, may_mirror=True)), np.asarray(picture)[:, ::-1])
