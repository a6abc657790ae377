"""What a bundle shows of itself: the model card, and the sheet of its worst and best captions.

Knows only score cards, predictions and the images that they are of.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioning.data.images import read_image
from captioning.evaluation.predictions import Prediction, Ranked, worst_first
from captioning.evaluation.scoring import card_text
from captioning.evaluation.word_use import Use, rates_text
from captioning.plots.attention import THUMBNAIL, sheet_png
from captioning.plots.layout import scaled

ENDS = 20  # captions on either half of the sheet
LIMITS = """\
- It names what its training captions named: other things get the nearest word it knows, with confidence.
- It has seen {words:,} words in {images:,} images of one kind; expect less of other photographs.
- Counts, left and right, writing in the picture and who somebody is are beyond it.
- Captions repeat the habits of those who wrote the training captions, about men and women above all: \
read before you publish."""
OF_THE_DATA = ("predictions-dev.jsonl", "predictions-test.jsonl", "sheet.png", "attention.png")  # files of a bundle
KEPT = "; the captions that were scored, in `predictions-*.jsonl`; the worst and the best of them, in `sheet.png`."
AWAY = ". Pictures and captions of its data, which are not ours to pass on, are not in this bundle."
PICTURES = (
    "![where it looked](attention.png)",
    "![its worst and its best captions of validation images](sheet.png)",
)


def model_card(
    name: str, cards: dict[str, Any], captions: Iterable[Any], *, words: int, images: int, without_data: bool = False
) -> str:
    """The card in Markdown, from the score cards and a few captions."""
    scores = "\n\n".join(card_text(card) for card in cards.values())
    examples = "\n".join(f"- {caption}" for caption in captions)
    lines = [
        f"# {name}",
        f'A caption for an image: `captioning.load("artifacts/{name}").caption("photo.jpg")`.',
        "## Scores",
        f"```\n{scores}\n```",
        "How they were obtained stands in `scores.json`" + (AWAY if without_data else KEPT),
        "![losses and validation score](loss.png)",
        *_word_use(cards.get("test") or cards["dev"]),
        "## What it says of eight validation images",
        examples,
        *([] if without_data else PICTURES),
        "## Limits",
        LIMITS.format(words=words, images=images),
    ]
    return "\n\n".join(lines) + "\n"


def _word_use(card: dict[str, Any]) -> list[str]:
    """The section on words that it says too often or too seldom; none where nothing is sure."""
    use: Use = card["word_use"]
    if not use:
        return []
    rows = [f"| {name} | {rates_text(ways['more'])} | {rates_text(ways['less'])} |" for name, ways in use.items()]
    return [
        "## Words that it says more, or less, often than people",
        "\n".join(["| | more often | less often |", "|---|---|---|", *rows]),
        f"With each word stands the share of captions that have it on the {card['split']} split, "
        "and in brackets the share of references. What may be chance is left out.",
    ]


def sheet(predictions: Sequence[Prediction], images: Iterable[Path]) -> bytes:
    """A picture of the worst and the best predictions, each with its image, of which `images` has one a prediction."""
    places = dict(zip(predictions, images, strict=True))
    ranked = worst_first(predictions)
    half = min(ENDS, (len(ranked) + 1) // 2)
    worst, best = ranked[:half], ranked[half:][::-1][:ENDS]
    sections = {f"The {len(worst)} worst of {len(ranked):,} validation captions": worst, f"The {len(best)} best": best}
    return sheet_png({name: [_row(each, places[each.prediction]) for each in some] for name, some in sections.items()})


def _row(ranked: Ranked, image: Path) -> tuple[np.ndarray, str, str, float]:
    small = np.asarray(scaled(read_image(image), *THUMBNAIL))  # forty large images at once would fill the memory
    return small, ranked.prediction.caption, ranked.closest, ranked.score
