"""The captioners that come along: whole, small, without anything of their data, ready where there is no network."""

import json
import subprocess
from pathlib import Path

import pytest

import captioning
from captioning.data.scenes.dataset import draw_scene
from captioning.evaluation.model_card import OF_THE_DATA
from captioning.inference import bundle
from captioning.inference.confidence import SURE

ROOT = Path(__file__).parents[1]
SIZES = {"flickr8k": 25e6}  # bytes at most


def kept(name: str) -> list[Path]:
    """The files of a bundle that a clone holds."""
    listed = subprocess.run(["git", "ls-files", f"artifacts/{name}"], cwd=ROOT, capture_output=True, text=True)
    return [ROOT / line for line in listed.stdout.splitlines()] or list((ROOT / "artifacts" / name).iterdir())


@pytest.mark.parametrize("name", SIZES)
def test_a_bundle_that_comes_along_is_whole_small_and_without_data(name):
    files = kept(name)
    bundle.check(ROOT / "artifacts" / name)
    assert sum(file.stat().st_size for file in files) <= SIZES[name]
    assert not {file.name for file in files} & set(OF_THE_DATA)
    assert "references" not in json.loads((ROOT / "artifacts" / name / "scores.json").read_text())["dev"]


@pytest.mark.parametrize("name", SIZES)
def test_a_whole_captioner_needs_nothing_from_elsewhere(monkeypatch, name):
    def refuse(*arguments, **others):
        raise AssertionError("it asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    caption = captioning.load(ROOT / "artifacts" / name).caption(draw_scene(0, 0).image)
    assert len(caption.words) >= 3
    assert 0 < caption.confidence < 1
    assert caption.sure is (caption.confidence >= SURE and caption.familiar is not False)
