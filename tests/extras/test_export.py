"""Exports are proven before they are written: into the bundle, or as files of their own; else nothing is written."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import captioning
from captioning import cli
from captioning.errors import CaptioningError, MissingExtra, StorageError
from captioning.extras import export, graph_weights, graphs, proof
from captioning.inference import bundle
from captioning.inference.engine_onnx import GRAPHS, OnnxEngine, OnnxModel
from captioning.options import DecodeOptions

pytest.importorskip("onnx")
FAILED = proof.Proof(24, 3, 0.4, 0.5, 1.0)
SCORED = {"bundle": {"BLEU-4": 0.2, "CIDEr-D": 0.5}, "export": {"BLEU-4": 0.2, "CIDEr-D": 0.49}}


@pytest.fixture
def copy(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_graphs_hold_no_copy_of_the_weights(exported):
    weights = (exported / "model.weights.h5").stat().st_size
    assert sum((exported / name).stat().st_size for name in GRAPHS) < weights / 2


def test_an_export_written_again_is_the_same(copy, captioner):
    before = contents(copy)
    told = export.into_bundle(copy, captioner)
    assert contents(copy) == before
    assert "24 of 24 captions equal" in told


def test_what_does_not_pass_is_not_written(copy, captioner, monkeypatch, tmp_path):
    monkeypatch.setattr(proof, "prove", lambda *_: FAILED)
    before = contents(copy)
    with pytest.raises(CaptioningError, match=r"does not caption as the bundle does \(3 of 24 .* nothing was written"):
        export.into_bundle(copy, captioner)
    monkeypatch.setattr(bundle, "load", lambda *_, **__: captioner)
    with pytest.raises(CaptioningError, match="nothing was written"):
        export.to_folder(copy, tmp_path / "out")
    assert contents(copy) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
def test_a_full_disk_leaves_a_bundle_that_loads(copy, captioner, monkeypatch, writes):
    done, write = [], export.atomic_write

    def full(path, data):
        if len(done) == writes:
            raise StorageError("the disk is full")
        done.append(path)
        write(path, data)

    monkeypatch.setattr(export, "atomic_write", full)
    monkeypatch.setattr(graphs, "IR_VERSION", 8)  # other files than before
    with pytest.raises(StorageError):
        export.into_bundle(copy, captioner)
    bundle.check(copy)
    assert bundle.runs_on_onnx([copy]) is (writes == 0)


def test_a_training_goes_on_without_graphs(saved, captioner, monkeypatch, tmp_path):
    frozen = Path(shutil.copytree(saved, tmp_path / "frozen"))
    config = json.loads((frozen / "config.json").read_text())
    config["encoder"]["whole"] = False
    del config["sum"]
    (frozen / "config.json").write_text(json.dumps(config))
    assert "captions with Keras only: " in export.after_training(frozen, captioner)
    with pytest.raises(CaptioningError, match="does not hold its whole encoder"):
        export.into_bundle(frozen)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match="pip install onnx onnxruntime"):
        export.into_bundle(saved, captioner)


def test_a_weight_that_is_not_in_the_file_is_refused(saved):
    graph = graphs.Graph(graph_weights.InFile(saved / "model.weights.h5"))
    with pytest.raises(CaptioningError, match=r"A weight of shape \(100, 3\) is not in model\.weights\.h5"):
        graph.weight(np.full((100, 3), 0.123, "float32"))


def test_an_unknown_layer_is_named():
    import keras

    images = keras.Input((8, 8, 3))
    network = keras.Model(images, keras.layers.GaussianNoise(0.1, name="noise")(images))
    with pytest.raises(CaptioningError, match=r"The layer noise \(GaussianNoise\) has no ONNX form"):
        graphs.encoder_graph(network, graph_weights.inside)


@pytest.mark.parametrize("name", [pytest.param("resnet50", marks=pytest.mark.slow), "mobilenetv2", "efficientnetv2b0"])
def test_the_encoders_compute_the_same_in_onnx(name):
    import onnxruntime

    from captioning.encoders.registry import build_encoder

    encoder = build_encoder(name, "none", 64)
    rng = np.random.default_rng(0)
    values = [np.abs(each) + 0.1 * rng.random(each.shape) if each.ndim == 1 else each for each in encoder.get_weights()]
    encoder.set_weights(values)
    graph = graphs.encoder_graph(encoder, graph_weights.inside).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype("float32")
    wanted = np.asarray(encoder.predict_on_batch(images))
    (found,) = session.run(None, {"images": images})
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("int8", [False, True])
def test_files_of_their_own_caption_too(copy, captioner, tmp_path, monkeypatch, pictures, int8):
    monkeypatch.setattr(bundle, "load", lambda *_, **__: captioner)
    monkeypatch.setattr(proof, "ALIKE", 0.0)  # an untrained network has no captions worth keeping
    told = export.to_folder(copy, tmp_path / "out", int8=int8, score=lambda _: {"BLEU-4": 0.1, "CIDEr-D": 0.3})
    assert "BLEU-4 0.100 -> 0.100" in told
    files = contents(tmp_path / "out")
    about = json.loads(files.pop("captioner.json"))
    assert set(files) == set(about["files"]) == set(GRAPHS)
    assert about["words"][-1] == captioner.tokenizer.words[-1]
    model = OnnxModel(files, captioner.model.config, {}, is_ours=True)
    found = OnnxEngine(model, [model]).encode(np.stack([np.resize(each, (32, 32, 3)) for each in pictures]))
    assert found.shape == (7, 9, 128)


def test_a_proof_passes_by_what_it_counted():
    assert proof.Proof(24, 24, 1.0, 1e-5, 1e-5).is_equal
    assert not proof.Proof(24, 23, 1.0, 1e-5, 1e-5).is_equal
    assert not proof.Proof(24, 24, 1.0, 1e-2, 1e-5).is_equal
    alike = proof.Proof(24, 20, 0.9, 0.3, 1.0, SCORED)
    assert alike.is_alike
    assert not replace(alike, words_alike=0.7).is_alike
    assert not replace(alike, scores=SCORED | {"export": {"BLEU-4": 0.2, "CIDEr-D": 0.4}}).is_alike
    assert "CIDEr-D 0.500 -> 0.490" in alike.text()


def test_other_captions_are_found_out(captioner, exported):
    model = captioning.load(exported)
    options = DecodeOptions(max_length=2)
    other = type(model)(model.engine, model.tokenizer, image_size=32, options=options)
    assert proof.prove(model, model).captions_equal == proof.prove(captioner, model).pictures
    assert proof.prove(replace_options(captioner, options), other).is_equal


def replace_options(captioner, options):
    return type(captioner)(captioner.engine, captioner.tokenizer, image_size=32, options=options)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--int8"], "belong to --format"),
        (["--output", "x"], "belong to --format"),
        (["--format", "onnx"], "needs --output DIR"),
    ],
)
def test_the_flags_belong_together(exported, capsys, flags, why):
    assert cli.main(["export", str(exported), *flags]) == 2
    assert why in capsys.readouterr().err
