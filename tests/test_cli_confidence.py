"""captioning caption tells how sure captions are: marks, columns, a summary; alt text below the line is left out."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from captioning.inference.caption import Caption
from captioning.inference.confidence import Calibration
from captioning.options import DecodeOptions
from tests.test_cli import assert_refused, run

RED = {"sure.png": 200, "vague.png": 100, "wrong.png": 40}  # 255 is as sure as can be


class ByRed:
    """A captioner that is as sure of a picture as it is red; black pictures are unfamiliar to it."""

    image_size, options, calibration = 16, DecodeOptions(), Calibration(0, 1, 1)

    def speaking(self, language):
        return self

    def features(self, pixels, search):
        return np.stack(pixels)

    def caption_features(self, pixels, search):
        shares = [round(float(np.mean(picture[..., 0])) / 255, 2) for picture in pixels]
        return [
            Caption(
                f"a {share:.0%} red box",
                (),
                -0.5,
                confidence=share if self.calibration else None,
                familiar=bool(picture.any()) if self.calibration else None,
            )
            for share, picture in zip(shares, pixels, strict=True)
        ]


@pytest.fixture
def red(tmp_path, monkeypatch):
    """A captioner whose confidence varies; the current folder has a folder with three pictures."""
    (tmp_path / "photos").mkdir()
    for name, value in RED.items():
        Image.new("RGB", (20, 20), (value, 0, 0)).save(tmp_path / "photos" / name)
    captioner = ByRed()
    monkeypatch.setattr("captioning.load", lambda path, **options: captioner)
    monkeypatch.setattr("captioning.runtime.keras_import.import_keras_alone", lambda: None)
    monkeypatch.chdir(tmp_path)
    return captioner


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


def test_a_file_of_captions_ends_with_a_summary(red, tmp_path, capsys):
    status, out, err = run(capsys, "caption", "photos", "--output", "captions.csv")
    assert (status, out, err) == (0, "", "captioning: 3 captions in captions.csv, 2 not sure.\n")
    rows = table(tmp_path / "captions.csv")
    assert [(row["confidence"], row["sure"]) for row in rows] == [
        ("0.78", "True"),
        ("0.39", "False"),
        ("0.16", "False"),
    ]


def test_the_terminal_has_captions_alone_on_its_output(red, capsys):
    _, out, err = run(capsys, "caption", "photos", "--min-confidence", 0.3)
    assert out == "photos/sure.png\ta 78% red box\nphotos/vague.png\ta 39% red box\tnot sure\n"
    assert err == "captioning: 2 captions, 1 not sure, 1 left out:\n  photos/wrong.png: 0.16, a 16% red box\n"
    assert run(capsys, "caption", "photos/sure.png") == (0, "photos/sure.png\ta 78% red box\n", "")


def test_alt_text_of_captions_that_are_not_sure_is_a_list_and_no_sidecar(red, tmp_path, capsys):
    status, out, err = run(capsys, "caption", "photos", "--sidecar", "--alt-text")
    assert (status, out) == (0, "")
    assert err.splitlines() == [
        "captioning: 1 caption beside the images, 2 left out:",
        "  photos/vague.png: 0.39, A 39% red box.",
        "  photos/wrong.png: 0.16, A 16% red box.",
        "  left-out.csv lists these too.",
    ]
    assert [path.name for path in tmp_path.glob("photos/*.txt")] == ["sure.txt"]
    rows = table(tmp_path / "left-out.csv")
    assert [row["image"] for row in rows] == ["photos/vague.png", "photos/wrong.png"]
    (tmp_path / "photos" / "vague.txt").write_text("A box, by a person.\n")
    _, _, err = run(capsys, "caption", "photos", "--sidecar", "--alt-text")
    assert err.startswith("captioning: 0 new captions beside the images, 2 there already, 1 left out:\n")
    _, _, err = run(capsys, "caption", "photos", "--sidecar", "--alt-text", "--min-confidence", 0)
    assert err == "captioning: 1 new caption beside the images, 2 there already, 1 not sure.\n"
    assert (tmp_path / "photos" / "vague.txt").read_text() == "A box, by a person.\n"


def test_an_unfamiliar_picture_is_marked_and_has_no_alt_text_beside_it(red, tmp_path, capsys):
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "night.png")
    assert run(capsys, "caption", "photos/night.png")[1] == "photos/night.png\ta 0% red box\tunfamiliar picture\n"
    _, _, err = run(capsys, "caption", "photos", "--output", "captions.csv")
    assert err == "captioning: 4 captions in captions.csv, 2 not sure, 1 of unfamiliar pictures.\n"
    assert next((row["sure"], row["verdict"]) for row in table(tmp_path / "captions.csv")) == ("False", "unfamiliar")
    _, _, err = run(capsys, "caption", "photos/night.png", "--sidecar", "--alt-text", "--min-confidence", 0.001)
    assert err.splitlines()[:2] == [
        "captioning: 0 captions beside the images, 1 left out:",
        "  photos/night.png: unfamiliar picture, A 0% red box.",
    ]
    assert not list(tmp_path.glob("photos/*.txt"))


def test_sidecars_that_are_no_alt_text_are_all_written(red, tmp_path, capsys):
    _, _, err = run(capsys, "caption", "photos", "--sidecar", "--format", "json")
    assert err == "captioning: 3 captions beside the images, 2 not sure.\n"
    assert json.loads((tmp_path / "photos" / "wrong.json").read_text())["sure"] is False


def test_where_confidence_is_unknown_every_format_says_so_and_the_summary_once(red, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(red, "calibration", None, raising=False)
    _, out, err = run(capsys, "caption", "photos")
    assert [line.split("\t")[2] for line in out.splitlines()] == ["confidence unknown"] * 3
    assert err == "captioning: 3 captions, confidence unknown.\n"
    for name in ("captions.csv", "captions.jsonl"):
        _, _, err = run(capsys, "caption", "photos", "--output", name)
        assert err == f"captioning: 3 captions in {name}, confidence unknown.\n"
    assert table(tmp_path / "captions.csv")[0]["sure"] == ""
    record = json.loads((tmp_path / "captions.jsonl").read_text().splitlines()[0])
    assert record["confidence"] is record["sure"] is None


def test_a_threshold_is_refused_at_once_where_confidence_is_unknown(red, tmp_path, capsys, monkeypatch):
    flags = ("caption", "photos", "--sidecar", "--alt-text")
    assert_refused(
        capsys, *flags, "--strategy", "greedy", saying="--strategy greedy gives none; use --min-confidence 0"
    )
    monkeypatch.setattr(red, "calibration", None, raising=False)
    assert_refused(capsys, *flags, saying="never calibrated; use --min-confidence 0 to write them all")
    assert_refused(capsys, "caption", "photos", "--min-confidence", 2, saying="0 to 1 was expected")
    assert not list(tmp_path.glob("photos/*.txt"))
    _, _, err = run(capsys, *flags, "--min-confidence", 0)
    assert err == "captioning: 3 captions beside the images, confidence unknown.\n"
