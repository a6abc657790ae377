"""A captioner's scores stand beside its base model's on the same images, and a worse one says so."""

from pathlib import Path

import pytest

from captioning.evaluation.base_comparison import base_text, compare_with_base, verdict
from captioning.evaluation.model_card import model_card
from captioning.evaluation.predictions import predictions_of
from captioning.evaluation.scoring import ScoredSplit, Scores, card_text, score_card

THINGS = ("dog", "cat", "bird", "car", "house", "boat", "tree", "horse")
SPLIT = {
    Path(f"{thing}-{number}.jpg"): [f"a {thing} stands on grass {number}", f"the {thing} is seen {number}"]
    for thing in THINGS
    for number in range(4)
}
GOOD = [captions[0] for captions in SPLIT.values()]
BAD = ["a dog runs" for _ in SPLIT]


def scored(captions, *splits):
    found = {}
    for split in splits or ("dev",):
        predictions = predictions_of(captions, SPLIT, Path())
        found[split] = ScoredSplit(list(captions), predictions, score_card(predictions, split=split, about={}))
    return Scores(found, None)


def compared(captions, base_captions, *splits):
    scores = scored(captions, *splits)
    compare_with_base(scores, scored(base_captions, *splits), "flickr8k")
    return scores.cards


def test_both_scores_and_their_difference_stand_in_the_card():
    card = compared(GOOD, BAD)["dev"]
    for metric, gain in card["beside_base"]["differences"].items():
        wanted = card["scores"][metric]["value"] - card["beside_base"]["scores"][metric]["value"]
        assert gain["value"] == pytest.approx(wanted, abs=2e-4)
        assert gain["low"] <= gain["value"] <= gain["high"]
    text = card_text(card)
    assert "beside its base model flickr8k" in text
    assert all(line in text for line in base_text(card))


def test_a_card_without_a_base_model_shows_none():
    assert base_text(scored(GOOD).cards["dev"]) == []


@pytest.mark.parametrize(
    ("captions", "base_captions", "says", "advises"),
    [
        (GOOD, BAD, "is better than flickr8k on the dev images", False),
        (BAD, GOOD, "is worse than flickr8k on the dev images", True),
        (GOOD, GOOD, "scores no higher than flickr8k", True),
        ([BAD[0], *GOOD[1:]], GOOD, "scores lower than flickr8k", True),
        (GOOD, [BAD[0], *GOOD[1:]], "scores higher than flickr8k", False),
    ],
)
def test_one_sentence_tells_which_is_better_and_what_to_do(captions, base_captions, says, advises):
    told = verdict(compared(captions, base_captions))
    assert says in told
    assert ("Keep the base model, or collect more captions." in told) == advises
    if "scores higher" in told or "scores lower" in told:
        assert "within chance: 32 images" in told


def test_the_test_split_decides_where_there_is_one():
    assert "on the test images" in verdict(compared(GOOD, BAD, "dev", "test"))


def test_the_model_card_has_the_comparison_the_sentence_and_the_notes():
    cards = compared(BAD, GOOD)
    text = model_card("mine", cards, BAD[:2], words=9, images=8, notes=["Its confidence is unknown."])
    assert verdict(cards) in text
    assert "beside its base model flickr8k" in text
    assert "\n- Its confidence is unknown.\n" in text
    assert "base model" not in model_card("mine", scored(BAD).cards, BAD[:2], words=9, images=8)
