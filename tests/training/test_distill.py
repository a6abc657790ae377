"""A student learns what its teacher saw, the same from the same seed however often it is stopped; nothing is lost."""

import hashlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import captioning
from captioning import cli
from captioning.data.images import read_image
from captioning.data.load import load_dataset
from captioning.data.scenes.dataset import write_scenes
from captioning.decoder.model import CaptionModel, config_for
from captioning.encoders import networks
from captioning.encoders.registry import build_encoder
from captioning.encoders.views import view
from captioning.errors import DataError, Stopped, StorageError
from captioning.inference.captioner import Captioner
from captioning.options import DataOptions, DecodeOptions, DistillOptions, ModelOptions
from captioning.training import distill

SIZES = {"train": 6, "dev": 2, "test": 1}
SIZE, DEPTH, TEACHER_DEPTH = 32, 5, 7  # the student's pictures; grids of 2 x 2 regions
VIEWS, BATCH, EPOCHS = 3, 4, 3
STEPS = SIZES["train"] * VIEWS // BATCH


def small(name: str, weights: str = "imagenet", image_size: int = 0) -> keras.Model:
    """Of both kinds the smallest: a student of two convolutions, a teacher that sees coarse colours."""
    images = keras.Input((image_size, image_size, 3), name="images")
    coarse = layers.AveragePooling2D(8 if name == "pocket" else 16)(layers.Rescaling(1 / 255)(images))
    if name == "pocket":
        grid = layers.Conv2D(16, 2, strides=2, name="first")(coarse)
        grid = layers.ReLU()(layers.BatchNormalization(momentum=0.5, name="norm")(grid))
        grid = layers.Conv2D(DEPTH, 1, name="second")(grid)
    else:
        start = keras.initializers.RandomNormal(seed=1)
        grid = layers.Conv2D(TEACHER_DEPTH, 2, strides=2, kernel_initializer=start)(coarse)
    encoder = keras.Model(images, layers.Reshape((-1, grid.shape[-1]))(grid), name=name)
    encoder.jit_compile = keras.backend.backend() == "jax"
    return encoder


def real_student(name: str, weights: str = "imagenet", image_size: int = 0) -> keras.Model:
    return (build_encoder if name == "pocket" else small)(name, weights, image_size)


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "build_encoder", small)
        patch.setattr(networks, "POCKET", (4, 6, 8, 12))
        patch.setattr(networks, "POCKET_DEPTH", DEPTH)
        patch.setattr(networks, "POCKET_BLOCKS", 1)
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("drawn") / "scenes", sizes=SIZES)


@pytest.fixture(scope="module")
def dataset(drawn):
    return load_dataset(DataOptions(data=str(drawn)), Path("nowhere"))[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def options(folder: Path, cache: Path, **others) -> DistillOptions:
    usual = {"image_size": SIZE, "views": VIEWS, "blends": 2, "epochs": EPOCHS, "batch_size": BATCH}
    places = {"output": str(folder / "small.weights.h5"), "cache": str(cache), "teacher_weights": "none"}
    return DistillOptions(**usual | places | {"precision": "float32"} | others)


@pytest.fixture
def teach(dataset, cache, tmp_path):
    """Distils into the test's own folder."""

    def call(folder: Path = tmp_path, **others) -> dict:
        distill.distill(dataset, options(folder, cache, **others))
        return weights_in(folder)

    return call


def weights_in(folder: Path) -> dict[str, np.ndarray]:
    import h5py

    found = {}
    with h5py.File(folder / "small.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def told_in(folder: Path) -> dict:
    return json.loads((folder / "small.json").read_text())


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def usual(small_networks, dataset, cache, tmp_path_factory):
    """The folder of a distillation that nothing disturbed."""
    folder = tmp_path_factory.mktemp("usual")
    distill.distill(dataset, options(folder, cache))
    return folder


# What is taught


def test_both_look_at_the_same_and_their_regions_are_the_same(dataset, cache, tmp_path):
    how = options(tmp_path, cache, closer_views=1)
    base, held, *_ = distill.prepare(dataset, how, None)
    teacher = small("mobilenetv2", "none", 2 * SIZE)
    saved = np.load(next(cache.glob(f"mobilenetv2-{2 * SIZE}-none-{DEPTH}-*")) / "projection.npz")
    number = 0
    for image in dataset.splits["train"]:
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        for look in (0, 1, 2, -1):
            pixels, grids = base[number : number + 1]
            np.testing.assert_array_equal(pixels[0], view(image, SIZE, digest, look))
            larger = view(image, 2 * SIZE, digest, look)
            seen = np.asarray(teacher(larger[None].astype("float32")))[0] @ saved["kernel"] + saved["bias"]
            np.testing.assert_allclose(grids[0], seen, rtol=2e-3, atol=5e-3)
            number += 1
    assert number == len(base)
    assert len(held) == SIZES["dev"]
    student = build_encoder("pocket", "none", SIZE)
    assert student.output_shape[1:] == base[:1][1].shape[1:] == (4, DEPTH)


def test_the_teacher_looks_once(teach, cache, monkeypatch):
    teach(epochs=1)
    monkeypatch.setattr("captioning.encoders.features._encode", lambda *_: pytest.fail("the teacher looked again"))
    teach(epochs=1, overwrite=True)


@pytest.fixture
def whole(tokenizer, monkeypatch):
    """A captioner with a teacher's encoder that learnt along; every bundle turns out to be it."""
    encoder = small("mobilenetv2", "none", 2 * SIZE)
    encoder.set_weights([3 * weight for weight in encoder.get_weights()])
    model_options = ModelOptions(feature_units=9, attention_units=4, lstm_units=4, embedding_units=4)
    model = CaptionModel(config_for(model_options, len(tokenizer), encoder.output_shape), encoder)
    model.build()
    captioner = Captioner(model, tokenizer, encoder=None, image_size=2 * SIZE, options=DecodeOptions(max_length=4))
    monkeypatch.setattr(distill, "load", lambda folder, **given: captioner)
    return captioner


def taken_up(captioner: Captioner, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(captioner.model.feature_projection(captioner.encoder(pixels.astype("float32"))))


def test_a_captioner_teaches_what_it_takes_up(dataset, whole, cache, tmp_path):
    base, *_, facts = distill.prepare(dataset, options(tmp_path, cache, captioner="artifacts/mine"), whole)
    assert (facts["teacher"], facts["captioner"]) == ("mobilenetv2", "mine")
    saved = np.load(next(cache.glob(f"mobilenetv2-{2 * SIZE}-{facts['teacher_key']}-{DEPTH}-*")) / "projection.npz")
    larger = read_image(next(iter(dataset.splits["train"])), size=2 * SIZE)
    wanted = taken_up(whole, larger[None])[0] @ saved["kernel"] + saved["bias"]
    np.testing.assert_allclose(base[:1][1][0], wanted, rtol=2e-3, atol=5e-3)


def test_through_a_student_that_sees_all_of_it_its_heir_says_the_same(whole, monkeypatch):
    projection = layers.Dense(9, name="projection")
    images = keras.Input((2 * SIZE, 2 * SIZE, 3))
    student = keras.Model(images, projection(whole.model.feature_projection(whole.encoder(images))))
    projection.set_weights([np.random.default_rng(0).normal(size=(9, 9)), np.arange(9.0)])
    parts = distill.heir(whole, student)
    distill.read_back(parts.model, projection)
    pixels = np.random.default_rng(1).integers(0, 255, (2, 2 * SIZE, 2 * SIZE, 3)).astype("float32")
    words = np.arange(12).reshape(2, 1, 6)
    told = [
        np.asarray(model({"features": encoder(pixels), "tokens": words}))
        for model, encoder in ((parts.model, student), (whole.model, whole.encoder))
    ]
    np.testing.assert_allclose(*told, rtol=1e-3, atol=1e-4)


def test_a_captioner_leaves_its_words_to_a_pocket_one(teach, whole, tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(distill, "build_encoder", real_student)
    teach(captioner="artifacts/mine", epochs=1, captioner_size=3 * SIZE)
    heir = captioning.load(tmp_path / "small")
    assert (heir.image_size, heir.model.config.num_regions) == (3 * SIZE, 36)
    assert (heir.encoder.name, heir.tokenizer.words) == ("pocket", whole.tokenizer.words)
    assert told_in(tmp_path)["captioner"] == "mine"
    assert str(heir.caption(next(drawn.rglob("*.jpg"))))
    assert str(tmp_path) not in (tmp_path / "small" / "config.json").read_text()


@pytest.mark.whole
@pytest.mark.parametrize("words", ["teacher", "student"])
def test_a_pocket_captioner_goes_on_learning_to_see(teach, whole, tmp_path, monkeypatch, words):
    monkeypatch.setattr(distill, "build_encoder", real_student)
    teach(captioner="artifacts/mine", epochs=1)
    first = captioning.load(tmp_path / "small")
    head = first.model.head.kernel
    head.assign(2 * head)
    bundles = {"artifacts/mine": whole, "artifacts/first": first}
    monkeypatch.setattr(distill, "load", lambda folder, **given: bundles[folder])
    given = {"captioner": "artifacts/mine", "student": "artifacts/first", "words": words}
    teach(tmp_path / "more", **given, learning_rate=1e-9, epochs=1, image_size=2 * SIZE)
    heir, speaker = captioning.load(tmp_path / "more" / "small").model, {"teacher": whole, "student": first}[words]
    np.testing.assert_allclose(*(np.asarray(each.head.kernel) for each in (heir, speaker.model)), rtol=1e-3)
    is_own = np.allclose(*(np.asarray(each.feature_projection.kernel) for each in (heir, first.model)), rtol=1e-3)
    assert is_own == (words == "student"), "a student's own words read what it sees as they did"
    (more := real_student("pocket", "none", 2 * SIZE)).load_weights(tmp_path / "more" / "small.weights.h5")
    for before, after in zip(first.encoder.trainable_weights, more.trainable_weights, strict=True):
        np.testing.assert_allclose(np.asarray(after), np.asarray(before), atol=1e-6)
    assert told_in(tmp_path / "more")["student"] == "first"


def test_a_captioner_with_another_encoder_cannot_go_on_learning(teach, saved, tmp_path):
    refused(teach, tmp_path, "looks through tiny; give a captioner that looks through pocket", DataError, student=saved)


def test_a_captioner_with_other_regions_cannot_teach(dataset, saved, cache, tmp_path):
    with pytest.raises(DataError, match=r"small looks through tiny, whose regions are others .* mobilenetv2"):
        distill.distill(dataset, options(tmp_path, cache, captioner=str(saved)))


# Learning


def test_the_student_learns(teach, tmp_path):
    teach(epochs=20, learning_rate=1e-2)
    assert told_in(tmp_path)["dev_explained"] > 0.3


def test_the_student_is_written_with_how_it_was_made(usual, dataset):
    told, names = told_in(usual), {path.name for path in usual.iterdir()}
    assert names == {"small.weights.h5", "small.json"}
    assert told["sha256"] == hashlib.sha256((usual / "small.weights.h5").read_bytes()).hexdigest()
    wanted = {"teacher": "mobilenetv2", "teacher_weights": "none", "teacher_key": "none", "data": dataset.name}
    assert told == told | wanted | {"images": 6, "views": VIEWS, "epochs": EPOCHS, "image_size": SIZE, "seed": 0}
    assert 0.5 < told["teacher_kept"] <= 1
    assert told["dev_explained"] < 1
    assert not any("/" in str(value) for value in told.values())


def test_the_same_seed_is_the_same_student(teach, usual):
    assert same(teach(), weights_in(usual))


@pytest.mark.parametrize("other", [{"seed": 1}, {"blends": 0}])
def test_another_seed_or_other_looks_make_another_student(teach, usual, other):
    assert not same(teach(**other), weights_in(usual))


def act_at(monkeypatch, step: int, act) -> None:
    """Acts once, while a step of the whole training, counted from 1, is under way."""
    lit, calls = distill.jitter_colours, Counter()

    def call(*arguments):
        calls["steps"] += 1
        if calls["steps"] == step:
            act()
        return lit(*arguments)

    monkeypatch.setattr(distill, "jitter_colours", call)


def kill() -> None:
    raise MemoryError


@pytest.mark.parametrize("step", [2, STEPS, EPOCHS * STEPS])
def test_stopped_and_resumed(teach, usual, tmp_path, monkeypatch, step):
    act_at(monkeypatch, step, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match=f"after {step // STEPS} epochs and {step % STEPS} steps; .*--resume"):
        teach()
    assert not (tmp_path / "small.weights.h5").exists()
    assert same(teach(resume=True), weights_in(usual))
    assert told_in(tmp_path)["dev_explained"] == told_in(usual)["dev_explained"]
    assert not (tmp_path / "small.training").exists()


def test_killed_and_resumed(teach, usual, monkeypatch):
    act_at(monkeypatch, STEPS + 3, kill)
    with pytest.raises(MemoryError):
        teach()
    assert same(teach(resume=True), weights_in(usual))


def test_a_disk_that_fills_up_at_the_end_keeps_what_was_there(teach, usual, tmp_path, monkeypatch):
    (tmp_path / "small.weights.h5").write_bytes(b"a week of work")
    monkeypatch.setattr(distill, "atomic_write", lambda path, _: kill())
    with pytest.raises(MemoryError):
        teach(overwrite=True)
    monkeypatch.undo()
    assert (tmp_path / "small.weights.h5").read_bytes() == b"a week of work"
    assert same(teach(resume=True), weights_in(usual))


# Refusals


def refused(teach, tmp_path: Path, message: str, error=StorageError, **others) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(error, match=message):
        teach(**others)
    assert before == {path: path.read_bytes() for path in before}


def test_finished_weights_are_replaced_only_on_demand(teach, tmp_path):
    (tmp_path / "small.weights.h5").write_bytes(b"a week of work")
    refused(teach, tmp_path, r"small\.weights\.h5 is a finished encoder: .*--overwrite")
    refused(teach, tmp_path, "no training to resume", resume=True)


def test_a_bundle_beside_the_weights_is_not_replaced(teach, tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text("a week of work")
    refused(teach, tmp_path, "small is there, .*another --output", captioner="artifacts/mine")


def test_an_unfinished_training_is_begun_again_only_on_demand(teach, tmp_path, monkeypatch):
    act_at(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        teach()
    refused(teach, tmp_path, "unfinished training: --resume")
    refused(teach, tmp_path, "seed was 0, is 1", resume=True, seed=1)
    refused(teach, tmp_path, "learning_rate was 0.002, is 0.1", resume=True, learning_rate=0.1)


def test_data_without_training_images(drawn, cache, tmp_path):
    dataset = load_dataset(DataOptions(data=str(drawn)), Path("nowhere"))[0]
    del dataset.splits["train"]
    with pytest.raises(DataError, match="no image to learn from"):
        distill.distill(dataset, options(tmp_path, cache))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image-size", "100"], "--image-size 100 cannot be used: a multiple of 16"),
        (["--output", "pocket.h5"], "--output pocket.h5 cannot be used: a name that ends in .weights.h5"),
        (["--views", "0"], "--views 0 cannot be used: 1 or more"),
        (["--words", "student"], "--words student cannot be used: --student BUNDLE"),
        (["--blends", "-1"], "--blends -1 cannot be used: 0 or more"),
        (["--closer-views", "-1"], "--closer-views -1 cannot be used: 0 or more"),
        (["--captioner-size", "100"], "--captioner-size 100 cannot be used: 0, or a multiple of 16"),
    ],
)
def test_flags_that_make_no_sense(capsys, drawn, arguments, said):
    assert cli.main(["distill", str(drawn), *arguments]) == 2
    assert said in capsys.readouterr().err


# From a teacher to a captioner


QUICK = ["--encoder", "pocket", "--image-size", SIZE, "--smoke", "--views", 2, "--caption-length", 4, "--max-length", 4]
QUICK += ["--captions-per-image", 1, "--strategy", "greedy", "--glove", "none", "--precision", "float32"]


@pytest.mark.whole
@pytest.mark.parametrize("fine_tune_epochs", [0, 1])
def test_a_captioner_brings_its_pocket_encoder_along(drawn, cache, tmp_path, capsys, monkeypatch, fine_tune_epochs):
    monkeypatch.setattr(distill, "build_encoder", real_student)
    uncompiled = property(lambda _: True, lambda *_: None)
    monkeypatch.setattr("captioning.decoder.model.CaptionModel.run_eagerly", uncompiled, raising=False)
    output = tmp_path / "pocket.weights.h5"
    flags = ["--teacher-weights", "none", "--image-size", SIZE, "--views", 2, "--epochs", 2, "--batch-size", BATCH]
    flags += ["--cache", cache, "--output", output, "--precision", "float32"]
    assert cli.main([str(part) for part in ("distill", drawn, *flags)]) == 0
    assert f"--encoder pocket --encoder-weights {output}" in capsys.readouterr().out

    places = ["--artifacts", tmp_path, "--cache", tmp_path / "cache", "--name", "small", "--encoder-weights", output]
    given = ["--data", drawn, *QUICK, "--batch-size", 2, "--fine-tune-rate", 1e-2]
    for phase in ("--fine-tune-epochs", "--reinforce-epochs"):
        given += [phase, fine_tune_epochs]
    assert cli.main(["train", *(str(part) for part in (*given, *places))]) == 0
    looks = list((tmp_path / "cache").glob(f"pocket-{SIZE}-*"))
    assert len(looks) == 1 + fine_tune_epochs, "fine-tuned, it looked at all images once more"
    output.unlink()
    loaded = captioning.load(tmp_path / "small")
    told = [json.loads(line) for line in (tmp_path / "small" / "predictions-dev.jsonl").read_text().splitlines()]
    assert [str(caption) for caption in loaded.caption([drawn / line["image"] for line in told])] == [
        line["caption"] for line in told
    ]
    assert str(tmp_path) not in (tmp_path / "small" / "config.json").read_text()
