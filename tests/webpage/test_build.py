"""The page's build: weights of few bits, every file of the page, and what it refuses."""

import dataclasses
import gzip
import json
import re

import numpy as np
import pytest

from captioning.errors import CaptioningError
from captioning.extras.graphs import Graph
from captioning.inference.captioner import Captioner
from captioning.inference.engine_onnx import OnnxEngine, OnnxModel
from web import build


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """Files of the names of ONNX Runtime Web's."""
    for name in (build.SCRIPT, build.WASM):
        (tmp_path / name).write_text(f"not {name}")
    monkeypatch.setattr(build, "RUNTIME", tmp_path)


def stored(array, bits, order=()):
    """A weight as a graph with FewBits computes it."""
    from onnx.reference import ReferenceEvaluator

    graph = Graph(build.FewBits(bits))
    graph.give(graph.weight(array, order), "weight")
    return ReferenceEvaluator(graph.finish("weight", {}, {"weight": array.shape})).run(None, {})[0]


def test_a_weight_keeps_its_bits():
    array = np.random.default_rng(0).standard_normal((64, 48)).astype("float32")
    for bits, error in ((8, 0.02), (6, 0.08)):
        found = stored(array, bits)
        assert np.abs(found - array).max() <= error
        assert max(len(np.unique(found[:, column])) for column in range(48)) <= 2**bits
    assert np.abs(stored(array, 8, (1, 0)) - array.T).max() <= 0.02
    few = array[:3]
    np.testing.assert_array_equal(stored(few, 8), few.astype("float16"))


def test_the_graphs_caption_as_keras_does(captioner, pictures):
    graphs = {f"{name}.onnx": whole for name, whole in build.graphs(captioner).items()}
    model = OnnxModel(graphs, captioner.model.config, {}, is_ours=True)
    engine = OnnxEngine(model, [model])
    same = Captioner(engine, captioner.tokenizer, image_size=captioner.image_size, options=captioner.options)
    np.testing.assert_allclose(same.features(pictures), captioner.features(pictures), atol=0.05)
    first, other = (one.caption(pictures[0]) for one in (captioner, same))
    assert other.words[0].probability == pytest.approx(first.words[0].probability, abs=0.1)


def test_every_file_of_the_page_is_kept_for_offline(captioner, runtime, tmp_path):
    folder = tmp_path / "dist"
    total = build.build(captioner, folder)
    names = {path.name for path in folder.iterdir()}
    worker = (folder / "service-worker.js").read_text()
    listed = re.search(r"PAGE = (\[.*?\]), LARGE = (\[.*?\]);", worker)
    kept = {name for part in listed.groups() for name in json.loads(part)}
    assert kept == names - {"service-worker.js", "NOTICE.txt"} | {"./"}
    settings = json.loads((folder / "captioner.json").read_text())
    assert [one["name"].split("-")[0] for one in settings["files"]] == ["ort", "encoder", "start", "step"]
    assert all(one["bytes"] == (folder / one["name"]).stat().st_size for one in settings["files"])
    assert gzip.decompress((folder / settings["files"][0]["name"]).read_bytes()).decode() == f"not {build.WASM}"
    assert total < sum(path.stat().st_size for path in folder.iterdir())
    assert settings["words"] == list(captioner.tokenizer.words)

    (folder / "old.js").write_text("")
    assert build.build(captioner, folder) == total
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "service-worker.js").read_text() == worker


def test_files_of_the_page_name_only_files_of_the_page():
    page = "".join((build.HERE / name).read_text() for name in build.PAGE)
    local = set(re.findall(r"""(?:src=|href=|from |URL\()["'](?:\./)?([\w.-]+\.\w+)["']""", page))
    assert local <= {*build.PAGE, build.SCRIPT, "NOTICE.txt"}
    assert {"app.js", "captioner.js", "search.js", "style.css"} <= local
    assert not re.findall(r"https?://(?!www\.w3\.org)", page)


def test_options_that_the_page_lacks_are_refused(captioner):
    options = dataclasses.replace(captioner.options, force=("dog",))
    other = Captioner(captioner.engine, captioner.tokenizer, image_size=32, options=options)
    with pytest.raises(CaptioningError, match="forces no words"):
        build.settings(other, {})
    greedy = dataclasses.replace(captioner.options, strategy="greedy", forbid=("the dog", "zebra"))
    other = Captioner(captioner.engine, captioner.tokenizer, image_size=32, options=greedy)
    found = build.settings(other, {})
    assert found["decoding"]["num_beams"] == 1
    assert found["forbidden"] == [captioner.tokenizer.id("the"), captioner.tokenizer.id("dog"), 3]


def test_a_missing_npm_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "RUNTIME", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CaptioningError, match="npm was not found"):
        build.install_runtime()
