"""Captions + references -> which people, animals, actions, colours and counts are named too often, which too seldom.

Captions are strings of tokens with single spaces, normalised by the caller. Knows nothing of images, models or scores.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

CATEGORIES = {
    "people": "man men woman women boy boys girl girls child children kid kids baby toddler lady guy person people"
    " crowd player players rider skier surfer",
    "animals": "dog dogs puppy cat cats horse horses bird birds duck fish cow cows sheep elephant bear giraffe zebra"
    " animal animals",
    "actions": "standing stands sitting sits running runs walking walks jumping jumps playing plays riding rides"
    " swimming swims climbing climbs flying flies eating lying laying holding holds carrying carries wearing looking"
    " looks watching smiling talking posing catching throwing chasing leaping swinging dancing skiing surfing waving",
    "colours": "black white red blue green yellow orange pink purple brown tan grey gray golden blond blonde",
    "counts": "one two three four five six several many some both couple pair group",
}
CERTAIN = 3  # standard errors that are too many to be chance
TOLD = 3  # words of a category that are told, either way

Rate = dict[str, Any]  # a word, the share of `captions` and the share of `references` that have it
Use = dict[str, dict[str, list[Rate]]]


def word_use(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Use:
    """The words of each category that surely stand in `more`, or `less`, captions than references, the furthest first.

    A category of which nothing is sure is left out.
    """
    said = [set(text.split()) for text in captions]
    expected = [[set(text.split()) for text in texts] for texts in references]
    found: Use = {}
    for category, words in CATEGORIES.items():
        rates = [rate for word in words.split() if (rate := _sure(word, said, expected))]
        rates.sort(key=_excess)
        more = [rate for rate in reversed(rates) if _excess(rate) > 0][:TOLD]
        less = [rate for rate in rates if _excess(rate) < 0][:TOLD]
        if rates:
            found[category] = {"more": more, "less": less}
    return found


def _sure(word: str, said: Sequence[set[str]], expected: Sequence[Sequence[set[str]]]) -> Rate | None:
    """The rates of a word, compared image by image; None where they may differ by chance."""
    ours = np.array([word in words for words in said], float)
    theirs = np.array([sum(word in words for words in texts) / len(texts) for texts in expected])
    gaps = ours - theirs
    if abs(gaps.sum()) <= CERTAIN * np.sqrt((gaps**2).sum()):
        return None
    return {"word": word, "captions": round(float(ours.mean()), 4), "references": round(float(theirs.mean()), 4)}


def _excess(rate: Rate) -> float:
    return rate["captions"] - rate["references"]


def rates_text(rates: Sequence[Rate]) -> str:
    """Words with the share of captions, and in brackets of references, that have them."""
    return ", ".join(f"{rate['word']} {rate['captions']:.0%} ({rate['references']:.0%})" for rate in rates)


def word_use_text(use: Use) -> str:
    """The use of words for the terminal; empty where nothing is sure."""
    lines = [f"  {category:<10}{'; '.join(_ways_text(found))}" for category, found in use.items()]
    return "\n".join(["words, in captions (in references)", *lines]) if lines else ""


def _ways_text(found: dict[str, list[Rate]]) -> list[str]:
    return [f"{way} often {rates_text(rates)}" for way, rates in found.items() if rates]
