"""Both engines caption alike: every strategy, every rule, ensembles, attention; and what the graphs refuse."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import captioning
from captioning.data.images import read_image
from captioning.data.scenes.dataset import draw_scene
from captioning.errors import BundleError, CaptioningError, MissingExtra
from captioning.inference import bundle, engine_onnx
from captioning.inference.bundle_files import config_text, read_config
from captioning.inference.confidence import Calibration
from captioning.options import DecodeOptions

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = "CAPTIONING_PHOTOGRAPHS"  # a folder with 200 photographs or more
BEAMS = DecodeOptions(max_length=6, num_beams=3, num_captions=3)
OPTIONS = {
    "beam": {},
    "greedy": {"strategy": "greedy", "num_captions": 1},
    "sample": {"strategy": "sample", "sampling_seed": 5, "top_k": 9, "top_p": 0.9, "temperature": 1.3},
    "forced": {"force": ("dog", "red")},
    "forbidden": {"forbid": ("dog", "a", "man")},
    "mirrored": {"mirrored": True},
    "penalties": {"repetition_penalty": 1.4, "no_repeat_ngram_size": 1, "min_length": 3, "length_penalty": 0.0},
    "repeats": {"no_repeat_ngram_size": 0, "max_length": 9},
}


@pytest.fixture(scope="module")
def onnx(exported):
    return captioning.load(exported)


def assert_alike(found, wanted, tolerance: float = 1e-4) -> None:
    assert found.text == wanted.text
    assert found.score == pytest.approx(wanted.score, abs=tolerance)
    for word, same in zip(found.words, wanted.words, strict=True):
        assert word.probability == pytest.approx(same.probability, abs=tolerance)
        np.testing.assert_allclose(word.attention, same.attention, atol=1e-5)
    for other, same in zip(found.alternatives, wanted.alternatives, strict=True):
        assert_alike(other, same, tolerance)


def test_a_bundle_with_graphs_is_loaded_without_keras(exported):
    script = (
        "import sys, captioning, numpy as np\n"
        f"captioner = captioning.load({str(exported)!r})\n"
        "captioner.caption(np.zeros((32, 32, 3), 'uint8'))\n"
        "print(captioner.engine.name, 'keras' in sys.modules, 'h5py' in sys.modules, 'onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnx", "False", "False", "False"]


@pytest.mark.parametrize("name", OPTIONS)
def test_both_engines_caption_alike(onnx, captioner, pictures, name):
    options = dataclasses.replace(BEAMS, **OPTIONS[name])
    for found, wanted in zip(onnx.caption(pictures, options), captioner.caption(pictures, options), strict=True):
        assert_alike(found, wanted)


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
def test_both_begin_alike_and_attend_within_a_region(onnx, captioner, pictures, strategy):
    options = DecodeOptions(max_length=6, strategy=strategy)
    told = {"begin": "the red", "region": (0.0, 0.0, 0.5, 1.0)}
    for found, wanted in zip(
        onnx.caption(pictures, options, **told), captioner.caption(pictures, options, **told), strict=True
    ):
        assert_alike(found, wanted)
        assert found.text.startswith("the red")


def test_twenty_drawn_scenes_have_the_same_captions(onnx, captioner):
    scenes = [np.asarray(draw_scene(1, number).image) for number in range(20)]
    found, wanted = onnx.caption(scenes, BEAMS), captioner.caption(scenes, BEAMS)
    assert [each.text for each in found] == [each.text for each in wanted]


def test_alternatives_and_features_are_alike(onnx, captioner, pictures):
    caption = captioner.caption(pictures[0], BEAMS)
    region = (0.0, 0.0, 0.5, 1.0)
    pairs = (each.alternatives(pictures[0], caption, BEAMS, count=3, region=region) for each in (onnx, captioner))
    for found, wanted in zip(*pairs, strict=True):
        assert [word for word, _ in found] == [word for word, _ in wanted]
        assert [share for _, share in found] == pytest.approx([share for _, share in wanted], abs=1e-5)
    np.testing.assert_allclose(onnx.features(pictures), captioner.features(pictures), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"mirrored": True}, {"force": ("dog",)}, {"strategy": "sample"}])
def test_an_ensemble_is_alike(exported, parts, pictures, tmp_path, options):
    from captioning.extras.export import into_bundle

    other = tmp_path / "other"
    rng, weights = np.random.default_rng(0), parts.model.get_weights()
    try:
        parts.model.set_weights([each + 0.1 * rng.standard_normal(each.shape).astype("float32") for each in weights])
        bundle.save(other, parts, files={}, about={})
    finally:
        parts.model.set_weights(weights)
    into_bundle(other)
    searched = dataclasses.replace(BEAMS, **options)
    told = [captioning.load(exported, other, engine=engine).caption(pictures, searched) for engine in ("onnx", "keras")]
    for found, wanted in zip(*told, strict=True):
        assert_alike(found, wanted)
    alone = captioning.load(exported).caption(pictures, searched)
    assert [each.text for each in told[0]] != [each.text for each in alone]


def test_the_same_bundle_twice_encodes_once(exported, pictures):
    twice = captioning.load(exported, exported)
    assert twice.features(pictures[:1]).shape[-1] == captioning.load(exported).features(pictures[:1]).shape[-1]
    assert twice.calibration is None


def test_a_confidence_is_alike(onnx, captioner, pictures):
    curve = Calibration(bias=1.0, likelihood=2.0, agreement=0.5)
    pair = [
        type(each)(each.engine, each.tokenizer, image_size=32, options=BEAMS, calibration=curve)
        for each in (onnx, captioner)
    ]
    for found, wanted in zip(*(each.caption(pictures) for each in pair), strict=True):
        assert found.confidence == pytest.approx(wanted.confidence, abs=1e-5)


def test_nothing_of_keras_is_in_such_a_captioner(onnx):
    for name in ("model", "encoder"):
        with pytest.raises(CaptioningError, match='engine="keras"'):
            getattr(onnx, name)


def test_the_engine_is_what_is_asked_for(exported, saved):
    assert captioning.load(exported, engine="keras").engine.name == "keras"
    assert captioning.load(saved).engine.name == "keras"
    assert captioning.load(exported, saved).engine.name == "keras"  # one has no graphs
    with pytest.raises(BundleError, match=r"holds no graphs .*captioning export"):
        captioning.load(saved, engine="onnx")
    with pytest.raises(CaptioningError, match="engine is 'tf'; expected one of auto, onnx, keras"):
        captioning.load(saved, engine="tf")


def test_without_onnxruntime_keras_captions_or_a_sentence_says_what_to_install(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert captioning.load(exported).engine.name == "keras"
    with pytest.raises(MissingExtra, match="pip install onnxruntime"):
        captioning.load(exported, engine="onnx")
    monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install onnxruntime"):
        captioning.load(exported)


@pytest.fixture
def copy(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def rewritten(folder: Path, **changes) -> None:
    """The config with other entries and a checksum that fits."""
    config = read_config(folder)
    for name in engine_onnx.GRAPHS:
        if (folder / name).exists():
            config["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "config.json").write_text(config_text(config | changes))


def test_an_altered_byte_is_refused(copy):
    data = bytearray((copy / "step.onnx").read_bytes())
    data[100] ^= 1
    (copy / "step.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"step\.onnx is not the file of this training"):
        captioning.load(copy)


@pytest.mark.parametrize("listed", [True, False])
def test_a_missing_graph_is_refused(copy, listed):
    (copy / "start.onnx").unlink()
    if not listed:
        config = read_config(copy)
        del config["files"]["start.onnx"]
        rewritten(copy, files=config["files"])
    with pytest.raises(BundleError, match=r"lacks start\.onnx"):
        captioning.load(copy)


def test_graphs_of_other_weights_are_refused(copy):
    rewritten(copy, graphs={"weights": "0" * 64})
    with pytest.raises(BundleError, match="graphs of other weights; write them again with captioning export"):
        captioning.load(copy)
    assert captioning.load(copy, engine="keras")


def test_graphs_of_another_encoder_are_refused(copy):
    encoder = read_config(copy)["encoder"]
    rewritten(copy, encoder=encoder | {"probe": [value + 1 for value in encoder["probe"]]})
    with pytest.raises(BundleError, match="graphs of another encoder"):
        captioning.load(copy)


def test_graphs_in_each_others_place_are_refused(copy):
    (copy / "step.onnx").rename(copy / "other")
    (copy / "start.onnx").rename(copy / "step.onnx")
    (copy / "other").rename(copy / "start.onnx")
    rewritten(copy)
    with pytest.raises(BundleError, match=r"cannot be computed|computes? something else"):
        captioning.load(copy)


def test_a_graph_that_is_none_is_refused(copy):
    (copy / "step.onnx").write_bytes(b"no graph")
    rewritten(copy)
    with pytest.raises(BundleError, match=r"step\.onnx is no graph of a captioner"):
        captioning.load(copy)


def test_the_proof_is_in_the_config(exported):
    proof = json.loads((exported / "config.json").read_text())["graphs"]["proof"]
    assert proof["captions_equal"] == proof["pictures"] >= 20


@pytest.mark.slow
def test_two_hundred_scenes_and_photographs_have_the_same_captions(tmp_path):
    from captioning.extras.export import into_bundle

    folder = Path(shutil.copytree(captioning.in_the_box(), tmp_path / "box"))
    into_bundle(folder)
    pictures = [np.asarray(draw_scene(2, number).image) for number in range(200)]
    if photographs := os.environ.get(PHOTOGRAPHS):
        pictures += [read_image(path, size=224) for path in sorted(Path(photographs).iterdir())[:200]]
    told = [captioning.load(folder, engine=engine).caption(pictures) for engine in ("onnx", "keras")]
    for found, wanted in zip(*told, strict=True):
        assert_alike(found, wanted, 1e-3)
