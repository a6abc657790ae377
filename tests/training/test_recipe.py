"""The whole recipe, from flags to bundle: it trains, it repeats itself, and it refuses in a sentence."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioning
from captioning import cli
from captioning.data.image_index import index_images
from captioning.data.scenes.dataset import draw_scene
from captioning.evaluation.model_card import OF_THE_DATA
from captioning.options import ENCODERS, RECORDS, ModelOptions, RecipeOptions, RunOptions, TrainOptions
from captioning.runtime.files import exclusive_lock

ROOT = Path(captioning.__file__).parents[1]

QUICK = ["--encoder", "tiny", "--smoke", "--image-size", "32", "--caption-length", "4", "--max-length", "4"]
QUICK += ["--captions-per-image", "1", "--strategy", "greedy", "--glove", "none", "--precision", "float32"]


class Place:
    """A folder with everything a training writes, and the trainings begun in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.artifacts = folder, folder / "artifacts"
        self.artifacts.mkdir()
        names = {"--artifacts": "artifacts", "--downloads": "data", "--cache": "cache", "--glove-folder": "glove"}
        self.flags = [text for flag, name in names.items() for text in (flag, str(folder / name))]

    def train(self, *arguments: object) -> int:
        return cli.main(["train", *map(str, arguments), *self.flags])

    def kept(self) -> dict[str, bytes]:
        """The folders and the files' contents; a lock's file is no content."""
        paths = [path for path in self.artifacts.rglob("*") if path.name != ".lock"]
        return {str(path): b"" if path.is_dir() else path.read_bytes() for path in paths}


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The smoke training of the drawn scenes, and what it printed."""
    place = Place(tmp_path_factory.mktemp("smoke"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert place.train("--dataset", "scenes", "--smoke") == 0
    place.printed = printed.getvalue()
    return place


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def uncompiled(monkeypatch):
    """Trainings of a step or two cost less where nothing is compiled."""
    monkeypatch.setattr(
        "captioning.decoder.model.CaptionModel.run_eagerly", property(lambda _: True, lambda *_: None), raising=False
    )


@pytest.fixture
def refused(capsys):
    """Calls a training and returns the sentence with which it refused, having changed nothing."""

    def call(place: Place, *arguments: object, status: int = 2) -> str:
        before = place.kept()
        capsys.readouterr()
        assert place.train(*arguments) == status
        error = capsys.readouterr().err
        assert error.startswith("captioning: ")
        assert error.count("\n") == 1
        assert "Traceback" not in error
        assert place.kept() == before
        return error

    return call


def captioned(folder: Path, images: int = 8) -> Path:
    """A folder of drawn scenes and a captions.csv; returns the folder."""
    folder.mkdir(parents=True)
    lines = ["image,caption"]
    for number in range(images):
        scene = draw_scene(0, number)
        scene.image.save(folder / f"{number}.jpg")
        lines += [f'{number}.jpg,"{caption}"' for caption in scene.captions[:2]]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def vectors(folder: Path) -> dict[str, np.ndarray]:
    import h5py

    found = {}
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_help_is_quick_and_loads_nothing_heavy():
    before = os.times()
    shown = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    assert sum(after[2:4]) - sum(before[2:4]) < 0.3  # its own processor time, however busy the machine is
    assert "--encoder" in shown.stdout
    heavy = (
        "import sys, train; print([name for name in ('keras', 'tensorflow', 'numpy', 'PIL') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_every_option_is_a_flag(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for record in RECORDS:
        for entry in fields(record):
            assert re.search(rf"^  --{entry.name.replace('_', '-')}\b", shown, re.MULTILINE), entry.name


def test_a_bundle_holds_what_is_promised_and_nothing_else(smoke):
    table = (ROOT / "artifacts" / "README.md").read_text().split("|---|---|")[1]
    promised = set(re.findall(r"`([\w.*-]+\.\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert len(promised) == 15
    names = {path.name for path in (smoke.artifacts / "scenes").iterdir()}
    assert {re.sub(r"-(dev|test)\.", "-*.", name) for name in names} == promised
    assert [path.name for path in smoke.artifacts.iterdir()] == ["scenes"]


def test_a_bundle_opens(smoke):
    captioner = captioning.load(smoke.artifacts / "scenes")
    assert isinstance(str(captioner.caption(draw_scene(0, 0).image)), str)


def test_scores_and_what_eight_images_were_called(smoke):
    scores = json.loads((smoke.artifacts / "scenes" / "scores.json").read_text())
    assert {split: card["images"] for split, card in scores.items()} == {"dev": 16, "test": 16}
    learning = json.loads((smoke.artifacts / "scenes" / "learning.json").read_text())
    assert len(learning["images"]) == 8
    assert [len(captions) for captions in learning["captions"]] == [8]


def test_a_finished_bundle_is_replaced_only_on_demand(smoke, refused):
    again = "--dataset", "scenes", "--smoke"
    assert "--overwrite" in refused(smoke, *again, status=4)
    assert "no training to resume" in refused(smoke, *again, "--resume", status=4)


@pytest.mark.whole
def test_begun_again_to_be_given_away_it_is_the_same_captioner_without_the_data(place, uncompiled):
    flags = "--data", captioned(place.folder / "own"), *QUICK, "--batch-size", 2, "--dropout", 0.3
    assert place.train(*flags) == 0
    before = vectors(place.artifacts / "own")
    names = {path.name for path in (place.artifacts / "own").iterdir()}
    assert place.train(*flags, "--overwrite", "--without-data") == 0
    after = vectors(place.artifacts / "own")
    kept = {path.name for path in (place.artifacts / "own").iterdir()}
    assert names - kept == {*OF_THE_DATA}
    assert captioning.load(place.artifacts / "own")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert [path.name for path in place.artifacts.iterdir()] == ["own"]


def test_it_starts_from_a_captioner(place, smoke, uncompiled, capsys):
    old, own = smoke.artifacts / "scenes", captioned(place.folder / "own")
    table = own / "captions.csv"
    table.write_text(table.read_text() + '1.jpg,"a quokka beside a bilby"\n2.jpg,"a quokka again"\n')
    quick = *QUICK[QUICK.index("--caption-length") :], "--smoke", "--epochs", 0, "--batch-size", 2, "--keep-base", 0.99
    learning = "--reinforce-epochs", 1, "--reinforce-rate", 0.01, "--reinforce-anchor", 1
    assert place.train("--data", own, "--bundle", old, *quick, *learning, "--min-count", 2) == 0
    new, words = place.artifacts / "own", json.loads((old / "vocabulary.json").read_text())["words"]
    facts = json.loads((new / "config.json").read_text())["about"]
    assert (facts["base"], facts["calibration"]) == ("scenes", "none")
    assert json.loads((new / "vocabulary.json").read_text())["words"] == [*words, "quokka"]
    told = capsys.readouterr().out
    assert f"{len(words):,} words of {old}, 1 new words (seen 2 or more times)" in told
    assert "2 words left out (" in told  # bilby, again
    assert "than scenes on the test images (CIDEr-D" in told
    assert "Its confidence is unknown: calibration needs 20 dev images" in told
    before, after = (captioning.load(folder, engine="keras") for folder in (old, new))
    assert after.caption(own / "0.jpg").confidence is None
    assert (after.encoder.name, after.image_size) == ("tiny", before.image_size)
    heads = [each.model.head.get_weights()[0][:, 4 : len(words)] for each in (after, before)]
    np.testing.assert_allclose(*heads, atol=2e-3)  # nearly all of the base model mixed back in
    np.testing.assert_allclose(*(each.model.keys.get_weights()[0] for each in (after, before)), atol=2e-3)
    assert vectors(old).keys() == vectors(new).keys()
    for card in json.loads((new / "scores.json").read_text()).values():
        assert card["beside_base"]["name"] == "scenes"
    assert "beside its base model scenes" in (new / "README.md").read_text()


@pytest.mark.parametrize("begun", [True, False])
def test_something_must_be_learnt(place, smoke, refused, begun):
    flags = ["--bundle", smoke.artifacts / "scenes"] if begun else ["--reinforce-epochs", 1]
    error = refused(place, "--dataset", "scenes", "--epochs", 0, *flags)
    assert "--epochs 0 cannot be used: 1 or more, or --bundle and epochs of another kind, was expected" in error


@pytest.mark.parametrize("flag", ["--encoder", "--image-size", "--lstm-units"])
def test_a_network_that_is_gone_on_with_cannot_be_chosen(place, smoke, refused, flag):
    given = {"--encoder": "tiny", "--image-size": 32, "--lstm-units": 8}[flag]
    error = refused(place, "--dataset", "scenes", "--bundle", smoke.artifacts / "scenes", flag, given)
    assert f"{flag} cannot be used with --bundle" in error
    error = refused(place, "--dataset", "scenes", "--bundle", "x", "--engine", "ray")
    assert "--engine ray cannot be used: local with --bundle was expected" in error
    error = refused(place, "--dataset", "scenes", "--keep-base", 0.5)
    assert "--keep-base 0.5 cannot be used: --bundle BUNDLE was expected" in error


def test_two_trainings_in_one_folder(place, refused):
    with exclusive_lock(place.artifacts / "scenes.training"):
        assert f"process {os.getpid()} on " in refused(place, "--dataset", "scenes", "--smoke", status=4)


def test_a_folder_given_by_a_dot_has_its_own_name(place, refused, monkeypatch):
    monkeypatch.chdir(captioned(place.folder / "own", images=1))
    with exclusive_lock(place.artifacts / "own.training"):
        assert "own.training" in refused(place, "--data", ".", "--encoder", "tiny", status=4)


def test_ctrl_c_before_there_is_anything_to_save(place, refused, monkeypatch):
    def leave(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("captioning.training.recipe.load_data", leave)
    assert "Stopped at once" in refused(place, "--dataset", "scenes", status=130)


def test_a_mistake_with_overwrite_costs_no_checkpoint(place, refused):
    (place.artifacts / "mine.training").mkdir()
    (place.artifacts / "mine.training" / "checkpoint.npz").write_bytes(b"a week of work")
    flags = "--data", place.folder / "nowhere", "--name", "mine"
    assert "unfinished training" in refused(place, *flags, status=4)
    assert "does not exist" in refused(place, *flags, "--overwrite")


def test_data_that_is_not_there(place, refused):
    assert "does not exist" in refused(place, "--data", place.folder / "nowhere")


def test_data_without_images(place, refused):
    (place.folder / "own").mkdir()
    assert "holds no images" in refused(place, "--data", place.folder / "own")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("image,width\n0.jpg,192\n", "columns image, width"),
        ("image,caption,split\n0.jpg,a dog,test\n1.jpg,a cat,test\n", "no image to train on, only test"),
    ],
)
def test_data_without_captions_or_without_a_train_split(place, refused, table, said):
    own = captioned(place.folder / "own", images=2)
    (own / "captions.csv").write_text(table)
    assert said in refused(place, "--data", own)


def test_data_without_images_that_open(place, refused):
    own = captioned(place.folder / "own", images=3)
    for image in own.glob("*.jpg"):
        image.write_text("no picture")
    assert "none of the 3 images can be read" in refused(place, "--data", own)


def test_an_encoder_that_learns_sees_the_same_views_as_one_that_does_not(tmp_path):
    from captioning.training import inputs

    rng = np.random.default_rng(0)
    images = [tmp_path / f"{name}.png" for name in ("one", "two", "three")]
    for image in images:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), "uint8")).save(image)
    splits = {"train": {image: ["a dog"] for image in images[:2]}, "dev": {images[2]: ["a cat"]}}
    options = RecipeOptions(
        model=ModelOptions(encoder="tiny", image_size=32),
        training=TrainOptions(views=3),
        run=RunOptions(cache=str(tmp_path / "cache")),
    )
    found = inputs.load_features(inputs.TrainingData("own", tmp_path, splits, index_images(images)), options)
    assert found.grids is None
    pixels = found.pixels
    assert {image: len(rows) for image, rows in pixels.views.items()} == dict.fromkeys(images[:2], 2)
    assert len(pixels.array) == 2 * 3 + 1


def test_words_that_are_all_too_rare(place, refused):
    own = captioned(place.folder / "own", images=3)
    assert "lower --min-count" in refused(place, "--data", own, "--encoder", "tiny", "--min-count", 500)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "empty"), ("a 0.1 0.2 0.3\n", "3 numbers|dimension"), ("a" + " 0.1" * 49 + " x\n", "number")],
    ids=["empty", "of another dimension", "not numbers"],
)
def test_a_glove_file_that_cannot_be_used(place, refused, content, said):
    own, glove = captioned(place.folder / "own", images=3), place.folder / "glove.txt"
    glove.write_text(content)
    error = refused(place, "--data", own, "--encoder", "tiny", "--smoke", "--glove", glove)
    assert re.search(said, error)
    assert str(glove) in error


def test_an_encoder_nobody_knows(place, capsys):
    with pytest.raises(SystemExit) as left:
        place.train("--encoder", "nosuch")
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ENCODERS)
    assert not place.kept()


@pytest.mark.filterwarnings("ignore:Glyph")  # the picture's font has no Chinese
def test_a_folder_with_damage_trains_and_names_it(place, uncompiled, capsys):
    own = captioned(place.folder / "own")
    (own / "1.jpg").write_bytes((own / "1.jpg").read_bytes()[:900])
    (own / "2.jpg").write_text("a letter, not a picture")
    with (own / "captions.csv").open("a", encoding="utf-8") as file:
        file.write(f"3.jpg,{' '.join(['word'] * 5000)}\n5.jpg,\n")
        file.writelines(f"{number}.jpg,一只狗在草地上跑\n" for number in range(3, 8))
    assert place.train("--data", own, *QUICK) == 2
    assert "2 of the 8 images cannot be read, first" in capsys.readouterr().err
    assert place.train("--data", own, "--max-unreadable", "0.25", *QUICK) == 0
    shown = capsys.readouterr().out
    for told in ("1.jpg .*cut short", "2.jpg .*not a picture", "5,000 words", "such scripts: 5", "csv:19 .*no caption"):
        assert re.search(told, shown), told
    bundle = place.artifacts / "own"
    assert {"狗", "跑"} <= set(json.loads((bundle / "vocabulary.json").read_text())["words"])
    assert str(captioning.load(bundle).caption(Image.open(own / "0.jpg")))


@pytest.fixture
def crowded(place):
    """A place whose artifacts lie on a disk of one megabyte."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place.artifacts)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", str(place.artifacts)], check=True)


@pytest.mark.parametrize(("foreseen", "told"), [(True, "has 1 MB free"), (False, "the disk is full")])
def test_a_full_disk(crowded, uncompiled, refused, monkeypatch, foreseen, told):
    from captioning.training import trainer

    if not foreseen:
        monkeypatch.setattr(trainer, "require_space", lambda *_, **__: None)
    own = captioned(crowded.folder / "own", images=3)
    assert told in refused(crowded, "--data", own, *QUICK, status=4)


def test_the_images_are_indexed_once(place, uncompiled, monkeypatch):
    from captioning.data import check
    from captioning.training import inputs

    indexed = []
    monkeypatch.setattr(check, "index_images", None)
    monkeypatch.setattr(inputs, "index_images", lambda *given: indexed.append(given) or index_images(*given))
    assert place.train("--data", captioned(place.folder / "own", images=3), *QUICK) == 0
    assert len(indexed) == 1


def test_the_next_two_commands_are_shown_and_can_be_given(smoke):
    shown = re.findall("^  python -m captioning (.*)$", smoke.printed, re.MULTILINE)
    assert [line.split()[0] for line in shown] == ["caption", "app"]
    for line in shown:
        flags = cli.build_parser().parse_args(shlex.split(line))
        assert [str(folder) for folder in flags.bundle] == [str(smoke.artifacts / "scenes")]
