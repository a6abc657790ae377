"""A captioner learns what people corrected, keeps what it knew, and what cannot be learnt is told in a sentence."""

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioning
from captioning import cli
from captioning.data.dataset import read_dataset
from captioning.data.feedback import FeedbackStore
from captioning.data.image_index import index_images
from captioning.data.scenes.dataset import draw_scene
from captioning.data.tokenizer import Tokenizer
from captioning.decoder.model import CaptionModel
from captioning.errors import CaptioningError, DataError
from captioning.options import DecodeOptions, ModelOptions, RunOptions
from captioning.training import from_feedback
from captioning.training.batches import Examples

ROOT = Path(captioning.__file__).parents[1]

KINDS = {
    "a red ball under a tree": (220, 40, 40),
    "a blue car": (40, 60, 230),
    "a dog sits in the box": (30, 190, 60),
    "a big cat in bed": (240, 240, 240),
}
YELLOW, CORRECTION = (230, 210, 30), "a man jumps on the car"


def picture(colour: tuple[int, int, int], number: int) -> np.ndarray:
    """A picture of one colour, its brightness mottled as no other's."""
    shades = np.random.default_rng(number).integers(-25, 26, (6, 6, 1))
    return np.kron(np.clip(shades + colour, 0, 255).astype("uint8"), np.ones((8, 8, 1), "uint8"))


def coloured(folder: Path) -> Path:
    """A folder of 36 captioned pictures, four of them in dev and eight in test."""
    folder.mkdir()
    lines = ["image,caption,split"]
    for number in range(36):
        caption, colour = list(KINDS.items())[number % 4]
        Image.fromarray(picture(colour, number)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{caption},{'dev' if number < 4 else 'test' if number < 12 else 'train'}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


class Place:
    """A folder with some data, a captioner that never saw them, and feedback about it."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle = folder, bundle
        self.feedback, self.result = folder / "feedback.db", folder / "artifacts" / "small-feedback"
        self.flags = ["--artifacts", folder / "artifacts", "--cache", folder / "cache", "--data", folder / "data"]
        self.flags += ["--caption-length", 8, "--captions-per-image", 1, "--batch-size", 8, "--label-smoothing", 0]
        self.flags += ["--from-feedback", self.feedback, "--bundle", bundle, "--epochs", 16, "--learning-rate", 0.02]

    def retrain(self, *arguments: object) -> int:
        return cli.main(["train", *map(str, (*self.flags, *arguments))])

    def contents(self, folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.fixture(scope="module")
def untaught(tmp_path_factory, tokenizer):
    """The folder of a captioner that knows words but never saw a picture."""
    import keras

    from captioning.decoder.config import config_for
    from captioning.decoder.model import CaptionModel
    from captioning.encoders.registry import build_encoder
    from captioning.inference import bundle

    keras.utils.set_random_seed(0)
    widths = {name: 32 for name in ("feature_units", "attention_units", "lstm_units", "embedding_units")}
    model_options, encoder = (
        ModelOptions(encoder="tiny", image_size=32, dropout=0.0, **widths),
        build_encoder("tiny", "none", 32),
    )
    model = CaptionModel(config_for(model_options, len(tokenizer), encoder.output_shape), encoder)
    model.build()
    folder, decoding = tmp_path_factory.mktemp("artifacts") / "small", DecodeOptions(strategy="greedy", max_length=8)
    bundle.save(folder, bundle.Parts(model, tokenizer, None, model_options, decoding), files={}, about={})
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory, untaught):
    """Feedback: yellow pictures corrected, one with a word nobody knows, one with none that is known."""
    place = Place(tmp_path_factory.mktemp("place"), untaught)
    coloured(place.folder / "data")
    store = FeedbackStore(place.feedback)
    said = {"bundle": "small", "caption": "a blue car", "options": {}, "rating": 1}
    for number in range(100, 104):
        store.add(picture(YELLOW, number), **said, correction=CORRECTION)
    store.add(picture(YELLOW, 104), **said, correction="a man jumps on the zebra")
    store.add(picture(YELLOW, 105), **said, correction="quagga meets zebra")
    store.add(picture(YELLOW, 106), **said, comment="wrong")
    return place


@pytest.fixture(scope="module")
def told(place):
    """What a retraining printed, of a hundred steps, for which XLA would take longer than they do."""
    compile_ = CaptionModel.compile
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as text:
        patch.setattr(CaptionModel, "compile", lambda *given, **how: compile_(*given, **how | {"jit_compile": False}))
        assert place.retrain() == 0
    return text.getvalue()


def scores(place: Place) -> dict[str, dict[str, float]]:
    cards = json.loads((place.result / "scores.json").read_text())
    return {name: {metric: score["value"] for metric, score in card["scores"].items()} for name, card in cards.items()}


def test_corrections_are_learnt_and_the_rest_is_kept(place, told):
    found = scores(place)
    assert set(found) == {"test", "dev", "corrected", "test before", "dev before", "corrected before"}
    print(told)
    assert found["corrected"]["ROUGE-L"] > found["corrected before"]["ROUGE-L"] + 0.4
    assert found["test"]["ROUGE-L"] > found["test before"]["ROUGE-L"] + 0.4, "what is replayed is learnt too"
    captioner = captioning.load(place.result)
    assert str(captioner.caption(picture(YELLOW, 200))) == CORRECTION, "another picture of the same kind"


def test_the_result_is_a_whole_bundle_and_the_old_one_is_as_it_was(place, told):
    table = (ROOT / "artifacts" / "README.md").read_text().split("|---|---|")[1]
    promised = set(re.findall(r"`([\w.*-]+\.\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert {re.sub(r"-(dev|test)\.", "-*.", path.name) for path in place.result.iterdir()} == promised
    assert [path.name for path in (place.folder / "artifacts").iterdir()] == ["small-feedback"]
    assert str(captioning.load(place.bundle).caption(picture(YELLOW, 200))) != CORRECTION
    config = json.loads((place.result / "config.json").read_text())
    assert (config["about"]["base"], config["about"]["corrected"], config["about"]["replayed"]) == ("small", 5, 24)


def test_the_words_and_the_eye_are_those_it_had(place, told):
    old, new = (captioning.load(folder, engine="keras") for folder in (place.bundle, place.result))
    assert new.tokenizer.words == old.tokenizer.words
    eyes = zip(old.encoder.get_weights(), new.encoder.get_weights(), strict=True)
    assert all(np.array_equal(*pair) for pair in eyes)
    assert new.options == old.options


def test_the_card_tells_both_scores(place, told):
    card = (place.result / "README.md").read_text()
    found = scores(place)
    row = re.search(r"\| ROUGE-L \|(.*)\|", card)
    order = ["test before", "test", "dev before", "dev", "corrected before", "corrected"]
    assert [float(cell) for cell in row[1].split("|")] == [round(found[name]["ROUGE-L"], 3) for name in order]
    assert "fine-tuned on 5 corrected images and, each epoch, 24 of its own data" in card
    assert card in told or row[0] in told


def test_what_people_wrote_stays_in_their_database(place, told):
    for name, content in place.contents(place.result).items():
        assert b"zebra" not in content, name
        assert not any(copy.stem.encode() in content for copy in FeedbackStore(place.feedback).corrections()), name


def test_what_cannot_be_learnt_is_named_and_counted(told):
    assert "6 corrected captions of 6 images" in told
    assert re.search(r"which become <unk>: 1\n  a man jumps on the zebra  \(zebra\)\n", told)
    assert re.search(r"left out: .* a third .*: 1\n  quagga meets zebra  \(quagga, meets, zebra\)\n", told)
    assert f"corrected  {CORRECTION}\nafter      {CORRECTION}" in told


@pytest.fixture
def refused(place, capsys):
    """Calls a retraining and returns the sentence with which it refused, having written nothing."""

    def call(*arguments: object, status: int = 2) -> str:
        before = sorted(place.folder.glob("artifacts/**/*"))
        assert place.retrain(*arguments) == status
        assert sorted(place.folder.glob("artifacts/**/*")) == before
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return call


def test_a_finished_one_is_replaced_only_on_demand(told, refused):
    assert "--overwrite" in refused(status=4)


def test_feedback_that_is_not_there(place, refused):
    assert "no feedback database" in refused("--from-feedback", place.folder / "nowhere.db", "--name", "other")
    assert not (place.folder / "nowhere.db").exists()


def test_feedback_without_corrections(place, refused):
    path = place.folder / "praise.db"
    FeedbackStore(path).add(picture(YELLOW, 1), bundle="small", caption="a cat", options={}, rating=5)
    assert "no corrected caption" in refused("--from-feedback", path, "--name", "other")


def test_feedback_whose_images_are_gone(place, refused, tmp_path):
    (tmp_path / "feedback.db").write_bytes(place.feedback.read_bytes())
    assert "No corrected image can be read" in refused("--from-feedback", tmp_path / "feedback.db", "--name", "other")


def test_a_bundle_that_is_none(place, refused):
    assert "is not a bundle" in refused("--bundle", place.folder / "data", "--name", "other")


def test_data_of_other_words(place, refused, tmp_path):
    data = coloured(tmp_path / "other")
    (data / "captions.csv").write_text((data / "captions.csv").read_text().replace("a ", "ein schoenes "))
    assert "is not what" in refused("--data", data, "--name", "other")


def test_a_feedback_database_needs_its_bundle():
    with pytest.raises(CaptioningError, match=r"--from-feedback x\.db cannot be used: --bundle FOLDER was expected"):
        RunOptions(from_feedback="x.db")


def test_the_data_must_be_named(capsys):
    assert cli.main(["train", "--from-feedback", "x.db", "--bundle", "artifacts/scenes"]) == 2
    assert "--data" in capsys.readouterr().err


def test_rays_workers_do_not_learn_from_feedback(capsys):
    feedback = "--from-feedback", "x.db", "--bundle", "artifacts/scenes", "--dataset", "scenes"
    assert cli.main(["train", *feedback, "--engine", "ray"]) == 2
    assert "--engine ray cannot be used: local with --bundle" in capsys.readouterr().err


def test_corrections_by_how_many_words_are_known(capsys):
    tokenizer = Tokenizer.fit(["a dog sits on the box"], min_count=1)
    one, two, three = Path("1"), Path("2"), Path("3")
    corrections = {
        one: ["a dog", "a zebra sits", "a zebra quagga sits"],
        two: ["zebra"],
        three: ["the zebra on a box"],
    }
    assert from_feedback.usable(corrections, tokenizer) == {
        one: ["a dog", "a zebra sits"],
        three: ["the zebra on a box"],
    }
    assert "5 corrected captions of 3 images" in capsys.readouterr().out
    with pytest.raises(DataError, match="No correction can be used"):
        from_feedback.usable({two: ["zebra"]}, tokenizer)


def rows(count: int, captions: int) -> Examples:
    tokens = [np.full((captions, 4), row) for row in range(count)]
    return Examples(np.zeros((200, 1, 1)), np.arange(count)[:, None], tokens)


@pytest.mark.parametrize(
    ("corrected", "replayed", "repeats"), [(5, 90, 6), (40, 90, 1), (1, 120, 20), (1, 3, 1), (2, 1, 1)]
)
def test_a_quarter_of_what_is_shown_was_corrected(corrected, replayed, repeats):
    mixed = from_feedback.mixed(rows(corrected, 1), rows(replayed, 5), 3)
    assert len(mixed) == corrected * repeats + replayed
    assert mixed.rows[:, 0].tolist() == [*range(corrected)] * repeats + [*range(replayed)]
    shown = mixed.tokens[0]
    assert shown.shape == (3, 4), "its one caption weighs as much as three"
    assert (shown == 0).all()
    assert mixed.tokens[corrected * repeats :][-1].shape == (5, 4)


def test_an_image_with_many_corrections_keeps_them_all():
    tokens = [np.arange(16).reshape(4, 4)]
    mixed = from_feedback.mixed(Examples(np.zeros((1, 1, 1)), np.array([[0]]), tokens), rows(3, 1), 3)
    assert np.array_equal(mixed.tokens[0], tokens[0])


def test_a_sample_is_the_seeds():
    split = {Path(str(number)): ["a"] for number in range(50)}
    chosen = from_feedback.sample(split, 10, seed=3)
    assert len(chosen) == 10
    assert list(chosen) == [image for image in split if image in chosen]
    assert chosen == from_feedback.sample(split, 10, seed=3) != from_feedback.sample(split, 10, seed=4)
    assert from_feedback.sample(split, 100, seed=3) == split


def without_copies(held, corrections):
    images = [*corrections, *(image for split in held.values() for image in split)]
    return from_feedback.without_copies(held, corrections, index_images(images))


def test_images_of_the_test_that_people_corrected_are_no_longer_tested(place, tmp_path, capsys):
    held = {split: read_dataset(place.folder / "data").splits[split] for split in ("dev", "test")}
    tested = next(iter(held["test"]))
    large = np.asarray(Image.open(tested).resize((1500, 1500), Image.Resampling.BICUBIC))
    store = FeedbackStore(tmp_path / "feedback.db")
    store.add(large, bundle="small", caption="a cat", options={}, correction="a dog")
    kept = without_copies(held, store.corrections())
    assert kept["dev"] == held["dev"]
    assert kept["test"] == {image: own for image, own in held["test"].items() if image != tested}
    assert "people corrected copies of them: 1 images" in capsys.readouterr().out


def test_a_drawn_scene_is_told_from_others_like_it(tmp_path):
    scenes = {}
    for number in range(12):
        scenes[tmp_path / f"{number}.png"] = ["a scene"]
        draw_scene(5, number).image.save(tmp_path / f"{number}.png")
    store = FeedbackStore(tmp_path / "feedback.db")
    store.add(np.asarray(draw_scene(5, 7).image), bundle="small", caption="a cat", options={}, correction="a dog")
    kept = without_copies({"test": scenes}, store.corrections())
    assert scenes.keys() - kept["test"].keys() == {tmp_path / "7.png"}


def test_a_damaged_copy_is_left_out(tmp_path, capsys):
    store = FeedbackStore(tmp_path / "feedback.db")
    for number in (300, 301):
        store.add(picture(YELLOW, number), bundle="small", caption="a cat", options={}, correction="a dog")
    damaged, sound = store.corrections()
    damaged.write_bytes(damaged.read_bytes()[:300])
    index = index_images(list(store.corrections()))
    assert list(from_feedback.readable(store.corrections(), index)) == [sound]
    assert damaged.name in capsys.readouterr().out
