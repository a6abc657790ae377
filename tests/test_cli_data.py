"""The commands that look at data and score captions: check, evaluate, compare, doctor."""

import contextlib
import copy
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from captioning.data.scenes.dataset import write_scenes
from captioning.evaluation.scoring import card_text
from tests.test_cli import ROOT, assert_refused, run


@pytest.fixture
def data(drawn, tmp_path):
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def test_check_reports(drawn, capsys):
    status, out, err = run(capsys, "check", drawn)
    assert (status, err) == (0, "")
    assert out.startswith("scenes")
    assert "cannot be read" not in out
    assert "word vector" not in out


def test_check_tells_which_words_have_a_vector(drawn, tmp_path, capsys):
    vectors = tmp_path / "glove.tiny.2d.txt"
    vectors.write_text("a 0.1 0.2\nthe 0.3 0.4\n")
    status, out, _ = run(capsys, "check", drawn, "--glove", vectors)
    assert status == 0
    assert "with a word vector" in out


def test_check_names_a_broken_image(data, capsys):
    (data / "Images" / "train_00001.jpg").write_bytes(b"")
    status, out, _ = run(capsys, "check", data)
    assert status == 0
    assert "images that cannot be read: 1" in out
    assert "train_00001.jpg" in out


def test_check_reads_columns_by_the_names_given(pictures, tmp_path, capsys):
    for number, picture in enumerate(pictures[:3]):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    table = tmp_path / "table.csv"
    rows = "".join(f"{number}.png,7,a dog runs fast\n" for number in range(3))
    table.write_text(f"foto,weight,words\n{rows}")
    columns = ("--image-column", "foto", "--caption-column", "words", "--images", tmp_path)
    status, out, _ = run(capsys, "check", table, *columns)
    assert status == 0
    assert "cannot be read" not in out


def test_check_refuses_what_is_not_there(drawn, tmp_path, capsys):
    assert_refused(capsys, "check", tmp_path / "none", saying="does not exist")
    assert_refused(capsys, "check", drawn, "--glove", tmp_path / "none.txt", saying="does not exist")


def test_evaluate_writes_what_it_scores_and_prints_a_card(loaded, drawn, tmp_path, capsys):
    predictions = tmp_path / "deeper" / "predictions.jsonl"
    flags = ("--json", "--split", "dev", "--predictions", predictions, "--max-length", 3)
    status, out, _ = run(capsys, "evaluate", drawn, *flags)
    assert status == 0
    card = json.loads(out)
    assert (card["split"], card["images"]) == ("dev", 2)
    assert "CIDEr-D" in card["scores"]
    assert card["decoding"]["max_length"] == 3
    records = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [record["image"] for record in records] == ["Images/dev_00000.jpg", "Images/dev_00001.jpg"]
    assert all(len(record["caption"].split()) <= 3 for record in records)


def test_evaluate_prints_the_table_that_training_prints(loaded, drawn, tmp_path, capsys):
    place = ("--predictions", tmp_path / "predictions.jsonl")
    status, out, _ = run(capsys, "evaluate", drawn, *place)
    assert status == 0
    _, card, _ = run(capsys, "evaluate", drawn, *place, "--json")
    assert out.startswith(card_text(json.loads(card)) + "\n")


def test_words_said_too_often_are_told_where_there_are_any(loaded, pictures, tmp_path, capsys):
    for number in range(12):
        Image.fromarray(pictures[number % 7]).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,test,a giraffe\n" for number in range(12))
    (tmp_path / "captions.csv").write_text(f"image,split,caption\n{rows}")
    arguments = "evaluate", tmp_path, "--predictions", tmp_path / "predictions.jsonl"
    _, out, _ = run(capsys, *arguments, "--json")
    rate = {"word": "giraffe", "captions": 0.0, "references": 1.0}
    assert json.loads(out)["word_use"]["animals"] == {"more": [], "less": [rate]}
    _, out, _ = run(capsys, *arguments)
    assert "\n  animals   less often giraffe 0% (100%)\n" in out


def test_a_split_that_is_not_there_is_refused(loaded, data, tmp_path, capsys):
    lines = (data / "metadata.jsonl").read_text().splitlines(keepends=True)
    (data / "metadata.jsonl").write_text("".join(line for line in lines if "test_" not in line))
    arguments = ("evaluate", data, "--predictions", tmp_path / "predictions.jsonl")
    assert_refused(capsys, *arguments, saying="has no test split")
    assert not (tmp_path / "predictions.jsonl").exists()


def test_evaluate_names_what_it_leaves_out(loaded, data, tmp_path, capsys):
    (data / "Images" / "test_00000.jpg").write_bytes(b"")
    status, out, err = run(capsys, "evaluate", data, "--json", "--predictions", tmp_path / "predictions.jsonl")
    assert status == 0
    assert err.startswith("captioning: 1 of 2 images left out:\n")
    assert "test_00000.jpg is empty" in err
    card = json.loads(out)
    assert (card["images"], card["images_left_out"]) == (1, 1)


def test_evaluate_reads_columns_by_the_names_given(loaded, pictures, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures[:3]):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "table.csv").write_text("foto,weight,words\n" + "".join(f"{n}.png,7,a dog runs\n" for n in range(3)))
    columns = ("--image-column", "foto", "--caption-column", "words", "--images", tmp_path / "photos")
    place = ("--json", "--predictions", tmp_path / "predictions.jsonl")
    status, out, _ = run(capsys, "evaluate", tmp_path / "table.csv", *columns, *place)
    assert (status, json.loads(out)["images"]) == (0, 1)


def test_compare_tells_which_is_better(loaded, drawn, tmp_path, capsys):
    for length in (2, 6):
        folder = tmp_path / str(length)
        place = ("--json", "--predictions", folder / "predictions-test.jsonl")
        _, out, _ = run(capsys, "evaluate", drawn, *place, "--max-length", length)
        (folder / "scores.json").write_text(out)
    status, out, err = run(capsys, "compare", tmp_path / "2", tmp_path / "6" / "scores.json")
    assert (status, err) == (0, "")
    assert out.startswith(f"{tmp_path}/6/scores.json against {tmp_path}/2: test split, 2 images\n")
    assert "CIDEr-D" in out


def test_compare_captions_the_data_it_is_given(saved, captioner, data, tmp_path, capsys, monkeypatch):
    from captioning.options import DecodeOptions

    short = copy.copy(captioner)
    short.options = DecodeOptions(max_length=2)
    other = Path(shutil.copytree(saved, tmp_path / "other"))
    monkeypatch.setattr("captioning.load", lambda path, **options: short if path == other else captioner)
    (data / "Images" / "dev_00000.jpg").write_bytes(b"")
    status, out, err = run(capsys, "compare", saved, other, "--data", data, "--split", "dev", "--captions")
    assert status == 0
    assert out.startswith(f"{other} against {saved}: dev split, 1 images\n")
    assert f"\n  {other!s:<{max(len(str(saved)), len(str(other)))}}  " in out
    assert err.startswith("captioning: 1 of 2 images left out:\n")
    assert not list(saved.glob("predictions*"))
    _, out, _ = run(capsys, "compare", saved, other, "--data", data)
    assert ": test split, 2 images\n" in out


def test_bundles_that_come_along_are_compared_by_their_scores(capsys):
    one = "artifacts/flickr8k"
    if not (ROOT / one / "scores.json").exists():
        pytest.skip("it did not come along")
    with contextlib.chdir(ROOT):
        status, out, err = run(capsys, "compare", one, one)
    assert (status, err) == (0, "")
    assert "CIDEr-D" in out
    assert out.endswith(f"python -m captioning compare {one} {one} --data FOLDER --split dev\n")


def test_cards_that_are_not_alike_are_refused(saved, tmp_path, capsys):
    assert_refused(capsys, "compare", saved, saved, saying="a card of the same split")
    assert_refused(capsys, "compare", tmp_path / "none", saved, saying="There is no")


def test_the_doctor_tells_what_is_wrong(loaded, saved, capsys, monkeypatch):
    status, out, _ = run(capsys, "doctor", saved)
    assert status == int("FOUND" in out)
    assert "  captions: " in out
    monkeypatch.setattr(type(loaded), "caption", lambda self, images: [Same()] * len(images))
    status, out, _ = run(capsys, "doctor", saved)
    assert status == 1
    assert "FOUND    captions: 1 different ones" in out
    assert "\n         remedy: " in out


class Same:
    words = ()

    def __str__(self):
        return "a dog"


def test_the_doctor_looks_at_captioned_images(loaded, saved, tmp_path, capsys):
    data = write_scenes(tmp_path / "scenes", sizes={"train": 1, "dev": 8})
    _, out, _ = run(capsys, "doctor", saved, "--data", data)
    assert "captions and images: CIDEr-D is" in out
    assert_refused(capsys, "doctor", saved, "--data", data, "--split", "train", saying="1 images of this split")
    assert_refused(capsys, "doctor", saved, "--data", data, "--split", "test", saying="has no test split")
