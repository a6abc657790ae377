"""Predictions are written, read and scored: perfect ones well, shuffled ones badly."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioning.data.dataset import read_dataset
from captioning.errors import DataError
from captioning.evaluation import calibration, scoring
from captioning.evaluation.predictions import (
    Prediction,
    predictions_of,
    predictions_text,
    read_predictions,
    worst_first,
)
from captioning.evaluation.scoring import (
    caption_split,
    card_text,
    evaluate,
    image_list_hash,
    score_card,
    validator,
    variety,
)
from captioning.options import DecodeOptions

SUBJECTS = (
    "a brown dog runs through tall grass",
    "two children play football on sand",
    "man in red jacket climbs rocks",
    "an old woman sells fresh fruit",
    "three white boats cross quiet water",
    "someone's cat sleeps beside this window",
)
FEATURES = SimpleNamespace(
    array=np.arange(len(SUBJECTS))[:, None],
    rows={Path(f"/data/{number}.jpg"): number for number in range(len(SUBJECTS))},
)


def perfect() -> list[Prediction]:
    return [
        Prediction(f"Images/{number}.jpg", subject, (f"{subject.capitalize()} .", f"{subject} happily", subject))
        for number, subject in enumerate(SUBJECTS)
    ]


def card_of(predictions: list[Prediction], **about) -> dict:
    return score_card(predictions, split="test", about={"seed": 3} | about)


@pytest.fixture(scope="module")
def card():
    return card_of(perfect())


class Parrot:
    """Says what it was told of a row of features, or of an image by its shade of red."""

    image_size = 8

    def __init__(self, captions=SUBJECTS) -> None:
        self.captions = captions
        self.asked: list = []

    def caption_features(self, features, options):
        if features.ndim == 4:
            return self.caption(features, options)
        self.asked.append((len(features), options))
        return [self.captions[row] for row in features[:, 0]]

    def features(self, images, options):
        self.read = list(images)
        rows = [FEATURES.rows[image] if isinstance(image, Path) else image[0, 0, 0] // 40 for image in images]
        return np.array(rows)[:, None]


# Predictions


@pytest.mark.parametrize("caption", ["", "a dog", 'naïve “quotes” \\ " \u2028 line', "犬が走る", "tab\tand\nnew line"])
def test_predictions_are_read_as_they_were_written(tmp_path, caption):
    predictions = [Prediction("Images/ä b.jpg", caption, (caption, "another")), Prediction("2.jpg", "x", ())]
    (tmp_path / "predictions.jsonl").write_text(predictions_text(predictions), encoding="utf-8")
    assert read_predictions(tmp_path / "predictions.jsonl") == predictions


@pytest.mark.parametrize(
    "line",
    [
        *("", "{", "[]", "1", '{"image": "a", "caption": "b"}', '{"image": "a", "caption": "b", "references": 1}'),
        *('{"image": "a", "caption": "b", "references": "c"}', '{"image": "a", "caption": null, "references": ["c"]}'),
    ],
)
def test_a_line_that_is_no_prediction_is_named(tmp_path, line):
    path = tmp_path / "predictions.jsonl"
    path.write_text(predictions_text(perfect()[:2]) + line + "\n" + predictions_text(perfect()[2:]))
    with pytest.raises(DataError, match=r"predictions\.jsonl:3 is not a prediction .*image, caption, references"):
        read_predictions(path)


def test_predictions_name_images_within_their_folder():
    split = {Path("/data/Images/1.jpg"): ["one", "two"], Path("/elsewhere/2.jpg"): ["three"]}
    found = predictions_of([3, "b"], split, Path("/data"))
    assert found == [Prediction("Images/1.jpg", "3", ("one", "two")), Prediction("2.jpg", "b", ("three",))]


def test_every_image_has_a_caption():
    with pytest.raises(ValueError, match="shorter"):
        predictions_of(["a"], {Path("1.jpg"): ["a"], Path("2.jpg"): ["b"]}, Path("."))


def test_a_split_is_captioned_in_its_own_order_chunk_by_chunk(monkeypatch):
    monkeypatch.setattr(calibration, "CHUNK", 4)
    parrot, images = Parrot(), list(reversed(FEATURES.rows))
    how = DecodeOptions()
    assert caption_split(parrot, FEATURES, images, how) == list(reversed(SUBJECTS))
    assert parrot.asked == [(4, how), (2, how)]


def test_a_split_whose_mirror_images_count_is_looked_at_again():
    parrot, how = Parrot(), DecodeOptions(mirrored=True)
    assert caption_split(parrot, FEATURES, FEATURES.rows, how) == list(SUBJECTS)
    assert parrot.read == list(FEATURES.rows)


# Score cards


def test_perfect_predictions_score_perfectly(card):
    values = {name: score["value"] for name, score in card["scores"].items()}
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L"):
        assert values[name] == pytest.approx(1, abs=1e-3)
    assert values["METEOR-nltk-exact-stem"] > 0.99
    assert values["CIDEr-D"] > 5
    for score in card["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]


def test_shuffled_images_lose_the_score(card):
    assert card["shuffled_images"]["CIDEr-D"] == pytest.approx(0, abs=0.01)


def test_one_caption_for_all_images_scores_as_badly_as_when_shuffled():
    same = [Prediction(each.image, SUBJECTS[0], each.references) for each in perfect()]
    card = card_of(same)
    assert card["scores"]["CIDEr-D"]["value"] == pytest.approx(card["shuffled_images"]["CIDEr-D"], abs=1e-3)
    assert card["variety"]["distinct_captions"] == pytest.approx(1 / 6, abs=1e-3)


def test_a_card_says_what_was_scored(card):
    assert (card["split"], card["images"], card["seed"]) == ("test", 6, 3)
    assert card["references_per_image"] == {"least": 3, "mean": 3.0, "most": 3}
    assert card["image_list_sha256"] == image_list_hash([each.image for each in perfect()])
    assert {"tokeniser", "versions", "date"} <= card.keys()
    json.dumps(card)


def test_case_and_punctuation_are_no_matter(card):
    shouted = [Prediction(each.image, f"{each.caption.upper()} !", each.references) for each in perfect()]
    assert card_of(shouted)["scores"] == card["scores"]


def test_a_card_for_people_has_every_score(card):
    text = card_text(card)
    assert text.startswith("test split, 6 images, 3 references each\n")
    assert all(name in text for name in card["scores"])
    assert "images shuffled  " in text
    assert len({line.index(".") for line in text.splitlines()[1:-1]}) == 1


def test_which_images_counts_and_not_their_order():
    assert image_list_hash(["a", "b"]) == image_list_hash(["b", "a"])
    hashes = {image_list_hash(images) for images in (["a", "b"], ["a"], ["a", "c"], ["a", "b", "b"], ["ab"])}
    assert len(hashes) == 5


def test_variety_is_counted():
    found = variety(["a dog", "a dog", "a cat runs", "the dog"])
    assert found == {"distinct_captions": 0.75, "words_used": 5, "mean_length": 2.25}
    assert variety([""]) == {"distinct_captions": 1.0, "words_used": 0, "mean_length": 0.0}


def test_the_card_tells_which_words_are_said_too_often(card):
    assert card["word_use"] == {}
    same = [Prediction(str(number), "a man", ("a dog", "a cat")) for number in range(20)]
    [rate] = card_of(same, words={"min_count": 5})["word_use"]["people"]["more"]
    assert rate == {"word": "man", "captions": 1.0, "references": 0.0}


# The worst and the best


def test_the_worst_come_first_with_the_score_that_the_card_is_the_mean_of(card):
    said = ["zebra", *SUBJECTS[1:3], f"{SUBJECTS[3]} and more", "", "someone's cat sleeps"]
    told = [Prediction(each.image, caption, each.references) for each, caption in zip(perfect(), said, strict=True)]
    ranked = worst_first(told)
    assert sorted(each.prediction.image for each in ranked) == [each.image for each in told]
    scores = [each.score for each in ranked]
    assert scores == sorted(scores)
    assert scores[0] == scores[1] == 0
    assert [each.prediction for each in ranked[:2]] == [told[0], told[4]], "as bad as each other: in their order"
    assert [each.prediction.caption for each in ranked[2:4]] == [said[5], said[3]]
    assert np.mean(scores) == pytest.approx(card_of(told)["scores"]["CIDEr-D"]["value"], abs=1e-4)


def test_a_caption_is_shown_beside_the_reference_that_it_is_closest_to():
    texts = ("two dogs play on the beach", "A dog runs, fast!", "something else", "the dog runs home")
    told = [Prediction("1", "a dog runs fast", texts), Prediction("2", "nothing of it", texts[::-1])]
    told += [Prediction("3", "the dog runs home", texts[:1])]
    assert {each.prediction.image: each.closest for each in worst_first(told)} == {
        "1": texts[1],
        "2": texts[-1],
        "3": texts[0],
    }


# Validation in training


def test_validation_is_greedy_and_watches_eight_images(monkeypatch):
    monkeypatch.setattr(scoring, "WATCHED", 2)
    parrot = Parrot()
    validate = validator(parrot, FEATURES, {image: [SUBJECTS[row]] for image, row in FEATURES.rows.items()})
    found = validate()
    assert found.samples == list(SUBJECTS[:2])
    assert found.scores.keys() == {"BLEU-4", "CIDEr-D", "distinct"}
    assert found.scores["BLEU-4"] == pytest.approx(1) == found.scores["distinct"]
    assert parrot.asked == [(6, DecodeOptions(strategy="greedy"))]


def test_validation_sees_what_the_captioner_says_now():
    parrot = Parrot()
    validate = validator(parrot, FEATURES, {image: [SUBJECTS[row]] for image, row in FEATURES.rows.items()})
    before = validate().scores
    parrot.captions = SUBJECTS[1:] + SUBJECTS[:1]
    assert validate().scores["CIDEr-D"] < 0.1 < before["CIDEr-D"]


# Any data, any captioner


@pytest.fixture
def data(tmp_path):
    """Six captioned pictures, all of the test split."""
    folder = tmp_path / "mine"
    (folder / "Images").mkdir(parents=True)
    rows = []
    for number, subject in enumerate(SUBJECTS):
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(folder / "Images" / f"{number}.png")
        rows.append(f"Images/{number}.png,test,{subject}")
    (folder / "captions.csv").write_text("\n".join(["image,split,caption", *rows]) + "\n")
    return folder


def test_a_split_is_captioned_written_and_scored(data, tmp_path):
    parrot, options, path = Parrot(), DecodeOptions(num_beams=2), tmp_path / "predictions.jsonl"
    card, problems = evaluate(parrot, read_dataset(data), data, split="test", predictions=path, options=options)
    assert parrot.asked == [(6, options)]
    written = read_predictions(path)
    assert {(each.image, each.caption) for each in written} == {
        (f"Images/{number}.png", subject) for number, subject in enumerate(SUBJECTS)
    }
    assert card["scores"]["BLEU-4"]["value"] == pytest.approx(1)
    assert (card["data"], card["images_left_out"], card["decoding"]["num_beams"]) == ("mine", 0, 2)
    assert problems == []


def test_progress_is_shown_on_a_terminal(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    given = {"split": "test", "predictions": tmp_path / "p.jsonl", "options": DecodeOptions()}
    card, _ = evaluate(Parrot(), read_dataset(data), data, **given)
    shown = capsys.readouterr().err
    assert "captions, test split: 100%" in shown
    assert f"{card['images']}/{card['images']}" in shown


def test_an_image_that_cannot_be_read_is_left_out_and_named(data, tmp_path):
    (data / "Images" / "2.png").write_bytes(b"")
    path = tmp_path / "predictions.jsonl"
    card, problems = evaluate(
        Parrot(), read_dataset(data), data, split="test", predictions=path, options=DecodeOptions()
    )
    assert problems == [f"{data}/Images/2.png is empty; copy or download it again."]
    assert (card["images"], card["images_left_out"]) == (5, 1)
    assert card["scores"]["BLEU-4"]["value"] == pytest.approx(1)
    assert [each.image for each in read_predictions(path)] == [f"Images/{number}.png" for number in (0, 1, 3, 4, 5)]


def test_a_split_of_which_nothing_can_be_read_is_refused(data, tmp_path):
    for image in (data / "Images").iterdir():
        image.write_bytes(b"")
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(DataError, match=r"None of the 6 images .* first: .*0\.png is empty"):
        evaluate(Parrot(), read_dataset(data), data, split="test", predictions=path, options=DecodeOptions())
    assert not path.exists()


def test_a_split_that_is_not_there(data, tmp_path):
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(DataError, match=r"has no dev split; it has .*test \(6 images\)"):
        evaluate(Parrot(), read_dataset(data), data, split="dev", predictions=path, options=DecodeOptions())
