"""Which people, animals, actions, colours and counts captions name more, or less, often than their references.

Captions are strings of tokens with single spaces, normalised by the caller.
"""

from collections.abc import Sequence
from typing import TypedDict

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
SIGNIFICANT = 3  # standard errors from which a difference counts as significant
MOST_WORDS = 3  # words of a category that are listed in each direction


class Rate(TypedDict):
    """A word, and the shares of captions and of references that contain it."""

    word: str
    captions: float
    references: float


Use = dict[str, dict[str, list[Rate]]]  # category -> {"more": rates, "less": rates}


def word_use(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Use:
    """The words of each category that occur in significantly `more`, or `less`, captions than references.

    The largest difference comes first. A category without a significant difference is left out.
    """
    generated = [set(text.split()) for text in captions]
    expected = [[set(text.split()) for text in texts] for texts in references]
    found: Use = {}
    for category, words in CATEGORIES.items():
        rates = [rate for word in words.split() if (rate := _significant(word, generated, expected))]
        rates.sort(key=_excess)
        more = [rate for rate in reversed(rates) if _excess(rate) > 0][:MOST_WORDS]
        less = [rate for rate in rates if _excess(rate) < 0][:MOST_WORDS]
        if rates:
            found[category] = {"more": more, "less": less}
    return found


def _significant(word: str, generated: Sequence[set[str]], expected: Sequence[Sequence[set[str]]]) -> Rate | None:
    """The rates of a word, compared image by image; None if the difference is not significant."""
    ours = np.array([word in words for words in generated], float)
    theirs = np.array([sum(word in words for words in texts) / len(texts) for texts in expected])
    gaps = ours - theirs
    if abs(gaps.sum()) <= SIGNIFICANT * np.sqrt((gaps**2).sum()):
        return None
    return {"word": word, "captions": round(float(ours.mean()), 4), "references": round(float(theirs.mean()), 4)}


def _excess(rate: Rate) -> float:
    return rate["captions"] - rate["references"]


def rates_text(rates: Sequence[Rate]) -> str:
    """Words with the share of captions, and in brackets the share of references, that contain them."""
    return ", ".join(f"{rate['word']} {rate['captions']:.0%} ({rate['references']:.0%})" for rate in rates)


def word_use_text(use: Use) -> str:
    """The use of words for the terminal; empty if no difference is significant."""
    lines = [f"  {category:<10}{'; '.join(_ways_text(found))}" for category, found in use.items()]
    return "\n".join(["words, in captions (in references)", *lines]) if lines else ""


def _ways_text(found: dict[str, list[Rate]]) -> list[str]:
    return [f"{way} often {rates_text(rates)}" for way, rates in found.items() if rates]
