"""The scripts in examples/ run, and are short enough to be read at a glance."""

import csv
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(captioner, monkeypatch, capsys):
    """Runs an example with these arguments and an untrained captioner, and returns what it prints."""
    monkeypatch.setattr("captioning.load", lambda: captioner)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def photos(tmp_path, pictures):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(pictures[:3]):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_a_picture_is_captioned(run, photos, captioner):
    text = captioner.caption(photos / "0.png").text
    assert run("caption_a_picture.py", photos / "0.png").splitlines()[0] == text


def test_a_folder_is_captioned_without_its_broken_picture(run, photos, tmp_path):
    run("caption_a_folder.py", photos, tmp_path / "captions.csv")
    rows = list(csv.DictReader((tmp_path / "captions.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["picture"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert all(row["caption"] for row in rows)


def test_the_attention_of_each_word_is_drawn(run, photos, tmp_path):
    run("attention_of_each_word.py", photos / "0.png", tmp_path / "attention.png")
    with Image.open(tmp_path / "attention.png") as drawn:
        assert drawn.width > drawn.height


def test_examples_are_short():
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 4
    assert all(len(script.read_text(encoding="utf-8").splitlines()) <= 30 for script in scripts)
