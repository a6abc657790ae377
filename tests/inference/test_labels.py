"""Labels of pictures by a captioner itself: their evidence, their probabilities, their files."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from captioning.commands import labels as command
from captioning.data.tokenizer import START, Tokenizer
from captioning.errors import BundleError, CaptioningError
from captioning.inference import label_files
from captioning.inference.bundle_writer import write_labels
from captioning.inference.labels import (
    MOST_LABELS,
    Labeller,
    LabelScale,
    log_probabilities,
    read_labels,
    read_scale,
    tokens_of,
)
from captioning.plots import charts

LABELS = ["red dog", "cat", "big car", "box", "cat bed", "red cat"]


@pytest.fixture(scope="module")
def scale(captioner, pictures):
    return LabelScale(captioner.features(pictures).mean(axis=(0, 1)), 0.5, 2.0)


def one_by_one(engine, grid, tokens):
    """The evidence of one label, word by word."""
    state, total = engine.start(grid[None]), 0.0
    for place, (last, word) in enumerate(zip([START, *tokens], tokens, strict=False)):
        log_probs, state = engine.step(np.array([[last]], "int32"), state)
        total += float(log_probs[0, 0, word]) if place else 0.0
    return total / (len(tokens) - 1)


def test_labels_together_have_the_evidence_of_each_alone(captioner, pictures):
    [grid] = captioner.features(pictures[:1])
    tokens = list(tokens_of(captioner.tokenizer, LABELS).values())
    together = log_probabilities(captioner.engine, grid, tokens)
    alone = [one_by_one(captioner.engine, grid, each) for each in tokens]
    assert np.allclose(together, alone, atol=1e-4)


def test_probabilities_add_up_and_follow_the_picture(captioner, pictures, scale):
    label = Labeller(captioner, scale, LABELS)
    one, other = label(pictures[0]), label(pictures[1])
    assert sum(each.probability for each in one.found) == pytest.approx(1)
    assert {each.text for each in one.found} == set(LABELS)
    values = [each.probability for each in one.found]
    assert values == sorted(values, reverse=True)
    assert len(one.top) == 5
    assert one != other


def test_the_order_of_labels_does_not_matter(captioner, pictures, scale):
    one = Labeller(captioner, scale, LABELS)(pictures[0])
    other = Labeller(captioner, scale, LABELS[::-1])(pictures[0])
    assert [each.text for each in one.found] == [each.text for each in other.found]


def test_unknown_words_are_told_and_an_article_is_chosen(captioner, pictures, scale):
    assert Labeller(captioner, scale, ["cat", "dog", "zebra"])(pictures[0]).unknown == ("zebra",)
    with pytest.raises(CaptioningError, match="1 of 2 labels"):
        Labeller(captioner, scale, ["cat", "zebra"])
    spelt = Tokenizer.fit(["a an apple the dog"], min_count=1)
    found = tokens_of(spelt, ["apple", "Dog", "the dog", "pear"])
    assert [spelt.words[ids[0]] for ids in found.values()] == ["an", "a", "the"]


def test_label_lists_are_read_once_each_and_bad_ones_refused(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("\n".join([f"word {number}" for number in range(MOST_LABELS)] * 2), encoding="utf-8")
    assert len(read_labels(str(file))) == MOST_LABELS
    assert read_labels("dog, cat,dog,, red  cat") == ["dog", "cat", "red cat"]
    file.write_text("\n".join(f"word {number}" for number in range(MOST_LABELS + 1)), encoding="utf-8")
    for given, reason in (
        (str(file), "too many"),
        ("dog,dog", "two or more"),
        ("none.txt", "no file"),
        ("a" * 300, "no file"),
        ("", "no file"),
    ):
        with pytest.raises(CaptioningError, match=reason):
            read_labels(given)
    for data, reason in ((b"dog\ncat\xff", "UTF-8"), (b"dog\n" + b"x" * 61, "cannot be used"), (b"", "two or more")):
        file.write_bytes(data)
        with pytest.raises(CaptioningError, match=reason):
            read_labels(str(file))


def test_a_bundle_keeps_its_scale(saved, tmp_path, scale):
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    with pytest.raises(BundleError, match="captioning calibrate"):
        read_scale(folder)
    write_labels(folder, scale.record())
    read = read_scale(folder)
    assert (read.share, read.scale) == (scale.share, scale.scale)
    assert np.allclose(read.average, scale.average, rtol=1e-3, atol=1e-3)
    for damage in ({"average": "?"}, {"share": "much"}, {"scale": -1.0}):
        write_labels(folder, scale.record() | damage)
        with pytest.raises(BundleError, match="cannot be read"):
            read_scale(folder)


def test_files_hold_every_label(captioner, pictures, scale):
    found = {Path("=one.jpg"): Labeller(captioner, scale, LABELS)(pictures[0])}
    rows = list(csv.DictReader(io.StringIO(label_files.text_of(found, ".csv"))))
    assert [row["label"] for row in rows] == [each.text for each in found[Path("=one.jpg")].found]
    assert rows[0]["image"] == "'=one.jpg"
    [record] = json.loads(label_files.text_of(found, ".json"))
    assert sum(each["probability"] for each in record["labels"]) == pytest.approx(1, abs=1e-4)
    with pytest.raises(CaptioningError, match=r"\.csv or \.json"):
        label_files.check_name(Path("labels.txt"))


def test_charts_are_pictures_that_differ():
    assert charts.CHARTS == command.CHARTS
    drawn = [charts.chart_png(["dog", "a $5 bill", "x" * 80], [0.5, 0.3, 0.1], kind=kind) for kind in charts.CHARTS]
    assert all(each.startswith(b"\x89PNG") for each in drawn)
    assert len(set(drawn)) == len(drawn)
