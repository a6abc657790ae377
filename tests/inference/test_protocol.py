"""Captioners without attention and without a calibrated confidence: captions in files, cascades, scores, commands."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioning import cli
from captioning.data.dataset import find_images
from captioning.data.images import read_image
from captioning.errors import CaptioningError, ImageError
from captioning.inference.caption import Caption, Word
from captioning.inference.cascade import Cascade
from captioning.inference.protocol import Description, encodes_apart, shows_attention
from captioning.inference.records import csv_header
from captioning.options import DecodeOptions


class Published:
    """A captioner as the protocol asks for it and no more."""

    def __init__(self, text="a man cooks", *, name="blip", confidence=0.95, calibrated=False):
        self.options, self.calls = DecodeOptions(max_length=30), []
        self._caption = Caption(
            text,
            tuple(Word(word, 0.9, None) for word in text.split()),
            -0.5,
            confidence=confidence,
            calibrated=calibrated,
        )
        self._name = name

    def caption(self, images, options=None, *, on_error="raise", **settings):
        self.calls.append((len(images), options))
        return [self._one(image) for image in images]

    def _one(self, image):
        try:
            read_image(image)
        except ImageError as error:
            return error
        return self._caption

    def describe(self):
        return Description(self._name, "MIT", 1000, ("en",))


@pytest.fixture
def published(monkeypatch):
    made = Published()
    monkeypatch.setattr("captioning.extras.captioners.open_captioner", lambda names, **how: made)
    return made


def test_ours_meets_the_protocol_and_encodes_apart(captioner):
    assert encodes_apart(captioner)
    assert not encodes_apart(Published())
    assert captioner.describe().name
    assert isinstance(captioner.options, DecodeOptions)


def test_a_bundle_is_described_by_its_folder(saved):
    import captioning

    about = captioning.load(saved).describe()
    assert about.name == "small"
    assert about.size == (saved / "model.weights.h5").stat().st_size


@pytest.mark.parametrize("confidence", [0.0, 0.65, 0.99, 1.0])
def test_a_confidence_that_is_not_calibrated_is_never_sure(confidence):
    caption = Caption("a dog", (), 0.0, confidence=confidence, calibrated=False)
    assert caption.sure is None
    assert caption.verdict == "not calibrated"
    assert replace(caption, familiar=False).verdict == "unfamiliar"
    assert replace(caption, confidence=None).verdict == "unknown"


def test_a_folder_is_captioned_and_the_csv_says_not_calibrated(published, drawn, tmp_path, capsys):
    output = tmp_path / "captions.csv"
    images = find_images(drawn)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    paths = [*map(str, images), str(tmp_path / "broken.jpg")]
    assert cli.main(["caption", *paths, "--captioner", "blip", "--output", str(output)]) == 1
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert len(rows) == len(images)
    assert {(row["verdict"], row["sure"], row["confidence"]) for row in rows} == {("not calibrated", "", "0.95")}
    told = capsys.readouterr().err
    assert "confidence not calibrated" in told
    assert "broken.jpg" in told


def test_a_csv_without_verdicts_gets_no_confidence_of_this_kind(published, photo, tmp_path):
    output = tmp_path / "captions.csv"
    header = csv_header(several=False, absent=("sure", "verdict"))
    output.write_text(f"{header}old.jpg,a dog,0.7,-0.3\n")
    assert cli.main(["caption", photo, "--captioner", "blip", "--output", str(output)]) == 0
    old, fresh = list(csv.reader(output.read_text().splitlines()))[1:]
    assert (old, fresh) == (["old.jpg", "a dog", "0.7", "-0.3"], [photo, "a man cooks", "", "-0.5"])


def test_alt_text_beside_images_is_refused_without_a_calibration(published, photo, capsys):
    assert cli.main(["caption", photo, "--captioner", "blip", "--sidecar", "--alt-text"]) == 2
    assert "never calibrated" in capsys.readouterr().err
    assert not Path(photo).with_suffix(".txt").exists()
    assert cli.main(["caption", photo, "--captioner", "blip", "--sidecar", "--alt-text", "--min-confidence", "0"]) == 0
    assert Path(photo).with_suffix(".txt").read_text() == "A man cooks.\n"


def test_json_with_attention_has_none_where_there_is_none(published, photo, capsys):
    assert cli.main(["caption", photo, "--captioner", "blip", "--format", "jsonl", "--attention"]) == 0
    assert {word["attention"] for word in json.loads(capsys.readouterr().out)["words"]} == {None}


def test_attention_that_is_not_there_is_not_drawn(monkeypatch, photo, capsys):
    one = Published()
    monkeypatch.setattr(one, "caption", lambda image, options: one._caption)
    monkeypatch.setattr("captioning.extras.captioners.open_captioner", lambda names, **how: one)
    assert not shows_attention(one._caption)
    assert cli.main(["attention", photo, "--captioner", "blip"]) == 2
    assert "blip gives no attention" in capsys.readouterr().err


def test_it_is_scored_and_compared(published, drawn, tmp_path, capsys):
    card = tmp_path / "said.jsonl"
    assert cli.main(["evaluate", str(drawn), "--captioner", "blip", "--predictions", str(card)]) == 0
    told = capsys.readouterr().out
    assert "CIDEr-D" in told
    assert cli.main(["compare", "blip", "git", "--data", str(drawn)]) == 0
    assert "git against blip" in capsys.readouterr().out


def test_a_bundle_and_a_captioner_exclude_each_other(photo, capsys):
    assert cli.main(["caption", photo, "--bundle", "x", "--captioner", "blip"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert cli.main(["caption", photo, "--captioner", "nobody"]) == 2
    assert "No captioner is called nobody; choose one of" in capsys.readouterr().err
    assert cli.main(["caption", photo, "--captioner", "blip,"]) == 2


def sure(pictures, confidences):
    """A captioner that is as sure of each picture as it is told, by the picture's first pixel."""
    by_pixel = {int(picture[0, 0, 0]): value for picture, value in zip(pictures, confidences, strict=True)}

    class Sure(Published):
        def _one(self, image):
            return replace(self._caption, confidence=by_pixel[int(image[0, 0, 0])], calibrated=True)

    return Sure("a dog", name="flickr8k")


def test_a_cascade_asks_the_next_one_where_the_first_is_not_sure():
    pictures = [np.full((8, 8, 3), value, "uint8") for value in (1, 2, 3, 4)]
    first, second = sure(pictures, [0.9, 0.3, None, 0.65]), Published()
    cascade = Cascade([first, second])
    assert [str(each) for each in cascade.caption(pictures)] == ["a dog", "a man cooks", "a man cooks", "a dog"]
    assert second.calls == [(2, second.options)]
    assert cascade.report() == "2 of 4 pictures (50%) went on to blip."
    assert cascade.describe().name == "flickr8k,blip"
    assert cascade.describe().size == 2000


def test_a_cascade_changes_what_a_person_changed_and_no_more():
    picture = np.zeros((8, 8, 3), "uint8")
    first, second = sure([picture], [0.1]), Published()
    first.options = DecodeOptions(max_length=20, length_penalty=0.7)
    cascade = Cascade([first, second])
    cascade.caption([picture], replace(cascade.options, num_beams=7))
    assert second.calls == [(1, replace(second.options, num_beams=7))]


def test_a_cascade_of_one_is_refused():
    with pytest.raises(CaptioningError, match="two captioners or more"):
        Cascade([Published()])


def test_the_share_that_went_on_is_told(monkeypatch, photo, capsys):
    first = sure([read_image(photo)], [0.1])
    first._one = lambda image: replace(first._caption, confidence=0.1, calibrated=True)
    cascade = Cascade([first, Published()])
    monkeypatch.setattr("captioning.extras.captioners.open_captioner", lambda names, **how: cascade)
    assert cli.main(["caption", photo, "--captioner", "flickr8k,blip"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{photo}\ta man cooks\tconfidence not calibrated\n"
    assert "1 of 1 pictures (100%) went on to blip." in err


def test_without_the_extra_one_sentence_names_pip(monkeypatch, photo, tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "blip"}')
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    for command in ("caption", "attention"):
        assert cli.main([command, photo, "--captioner", str(folder)]) == 2
        told = capsys.readouterr().err
        assert f"captioning {command} needs PyTorch and transformers" in told
        assert "[hf]" in told
