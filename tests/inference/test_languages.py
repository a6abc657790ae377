"""Further languages on ONNX Runtime: the same captions as on Keras, without it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import captioning
from captioning.data.tokenizer import Tokenizer
from captioning.decoder.languages import LanguageModel, from_bytes, shapes_of, to_bytes
from captioning.errors import BundleError
from captioning.inference.bundle_files import config_text, read_config
from captioning.inference.confidence import Calibration
from captioning.inference.languages import Language
from captioning.training.languages import save_with_language
from tests.inference.test_bundle import replace_file
from tests.inference.test_engine_onnx import assert_alike

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]
RANK = 4
SENTENCES = ("Ein roter Hund läuft", "Eine blaue Katze sitzt", "Ein Hund und eine Katze")
SETTINGS = [{}, {"strategy": "greedy"}, {"force": ("hund",)}, {"forbid": ("ein",)}, {"mirrored": True}]


@pytest.fixture(scope="module")
def german(saved, captioner, tmp_path_factory):
    """The bundle with random German captions beside its own, and graphs for both."""
    from captioning.extras.export import into_bundle

    folder = tmp_path_factory.mktemp("german") / "several"
    tokenizer = Tokenizer.fit(SENTENCES, min_count=1).spelt(SENTENCES)
    model, rng = LanguageModel(captioner.model, len(tokenizer), RANK), np.random.default_rng(3)
    shapes = shapes_of(captioner.model, len(tokenizer), RANK)
    numbers = {name: rng.normal(scale=0.5, size=shape).astype("float32") for name, shape in shapes.items()}
    assert numbers.keys() == model.numbers().keys()
    numbers = from_bytes(to_bytes(numbers, shapes), shapes)
    language = Language(tokenizer, numbers, Calibration(bias=0.5, likelihood=0.3, agreement=0.2))
    save_with_language(saved, folder, "de", language, captioner, {})
    into_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def both(german):
    return [captioning.load(german, engine=engine).speaking("de") for engine in ("onnx", "keras")]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_both_engines_caption_alike(both, pictures, settings):
    captions = [captioner.caption(pictures, **settings) for captioner in both]
    for found, wanted in zip(*captions, strict=True):
        assert_alike(found, wanted)
        assert (found.language, found.confidence) == ("de", pytest.approx(wanted.confidence, abs=1e-4))


def test_other_words_and_a_beginning_are_alike(both, pictures):
    found, wanted = (captioner.caption(pictures[0], begin="ein Hund") for captioner in both)
    assert found.text == wanted.text
    assert str(found).startswith("ein Hund")
    choices = [captioner.alternatives(pictures[0], wanted) for captioner in both]
    assert [[word for word, _ in some] for some in choices[0]] == [[word for word, _ in some] for some in choices[1]]


def test_it_needs_no_keras_and_shares_what_was_encoded(german):
    script = (
        "import sys, captioning, numpy as np\n"
        f"captioner = captioning.load({str(german)!r})\n"
        "own, german = (captioner.caption(np.zeros((32, 32, 3), 'uint8'), language=code) for code in ('', 'de'))\n"
        "print(german.language, len(captioner._grids), 'keras' in sys.modules, 'h5py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["de", "1", "False", "False"]


def test_the_own_language_stays_what_it_was(german, exported, pictures):
    for found, wanted in zip(
        captioning.load(german).caption(pictures), captioning.load(exported).caption(pictures), strict=True
    ):
        assert_alike(found, wanted)


def test_without_its_graphs_a_language_is_captioned_by_keras(german, both, pictures, tmp_path):
    folder = shutil.copytree(german, tmp_path / "copy")
    config = read_config(folder)
    del config["files"]["step-de.onnx"]
    (folder / "config.json").write_text(config_text(config))
    captioner = captioning.load(folder)
    assert (captioner.engine.name, captioner.speaking("de").engine.name) == ("onnx", "keras")
    assert captioner.caption(pictures[0], language="de").text == both[1].caption(pictures[0]).text


@pytest.mark.parametrize("name", ["step-de.onnx", "decoder-de.bin", "vocabulary-de.json"])
def test_an_altered_byte_is_refused(german, pictures, tmp_path, name):
    folder = shutil.copytree(german, tmp_path / "copy")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is not the file of this training"):
        captioning.load(folder).caption(pictures[0], language="de")


def test_graphs_of_another_language_are_refused(german, captioner, pictures, tmp_path):
    """Its vocabulary has one word more than its graphs."""
    words = Tokenizer.fit([*SENTENCES, "Vogel"], min_count=1)
    folder = shutil.copytree(german, tmp_path / "copy")
    replace_file(folder, "vocabulary-de.json", words.to_json().encode())
    with pytest.raises(BundleError, match="compute something else"):
        captioning.load(folder).caption(pictures[0], language="de")


def test_numbers_that_are_none_are_refused(german, pictures, tmp_path):
    folder = shutil.copytree(german, tmp_path / "copy")
    data = (folder / "decoder-de.bin").read_bytes()
    replace_file(folder, "decoder-de.bin", b"\xff\x7f" * 8 + data[16:])
    with pytest.raises(BundleError, match="NaN"):
        captioning.load(folder).caption(pictures[0], language="de")


def test_the_proof_of_each_language_is_in_the_config(german):
    proof = read_config(german)["graphs"]["languages"]["de"]
    assert proof["captions_equal"] == proof["pictures"] > 0
