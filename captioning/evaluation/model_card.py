"""The model card of a bundle, and the contact sheet of its worst and best captions."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioning.data.images import read_image
from captioning.evaluation.base_comparison import verdict
from captioning.evaluation.predictions import Prediction, Ranked, worst_first
from captioning.evaluation.scoring import card_text
from captioning.evaluation.word_use import Use, rates_text
from captioning.inference.records import alt_text
from captioning.plots.attention import THUMBNAIL, sheet_png
from captioning.plots.layout import scaled

ENDS = 20  # captions in each half of the contact sheet
LIMITS = """\
- It only names what its training captions named. Other things get the closest word of the vocabulary, with confidence.
- It was trained on {images:,} images of one kind, with {words:,} words. Expect worse captions of other photographs.
- It cannot count reliably, tell left from right, read text in an image, or identify a person.
- Captions repeat the biases of the people who wrote the training captions, above all about men and women. \
Read captions before you publish them."""
OF_THE_DATA = ("predictions-dev.jsonl", "predictions-test.jsonl", "sheet.png", "attention.png")  # files of a bundle
KEPT = " The scored captions are in `predictions-*.jsonl`, the worst and best of them in `sheet.png`."
AWAY = " This bundle contains no images and no captions of its data, since they may not be redistributed."
PICTURES = (
    "![attention of one caption, word by word](attention.png)",
    "![worst and best captions of validation images](sheet.png)",
)


def model_card(
    name: str,
    cards: dict[str, Any],
    captions: Iterable[object],
    *,
    words: int,
    images: int,
    notes: Sequence[str] = (),
    without_data: bool = False,
) -> str:
    """The model card in Markdown, from the score cards and a few captions; `notes` are limits of this one alone."""
    scores = "\n\n".join(card_text(card) for card in cards.values())
    examples = "\n".join(f"- {alt_text(str(caption))}" for caption in captions)
    lines = [
        f"# {name}",
        f'A caption for an image: `captioning.load("artifacts/{name}").caption("photo.jpg")`.',
        "## Scores",
        f"```\n{scores}\n```",
        *([verdict(cards)] if all("beside_base" in card for card in cards.values()) else []),
        "`scores.json` records how they were computed." + (AWAY if without_data else KEPT),
        "![losses and validation score](loss.png)",
        *_word_use(cards.get("test") or cards["dev"]),
        "## Captions of eight validation images",
        examples,
        *([] if without_data else PICTURES),
        "## Limits",
        "\n".join([LIMITS.format(words=words, images=images), *(f"- {note}" for note in notes)]),
    ]
    return "\n\n".join(lines) + "\n"


def _word_use(card: dict[str, Any]) -> list[str]:
    """The section on words that are used too often or too seldom; empty if no difference is significant."""
    use: Use = card["word_use"]
    if not use:
        return []
    rows = [f"| {name} | {rates_text(ways['more'])} | {rates_text(ways['less'])} |" for name, ways in use.items()]
    return [
        "## Words used more, or less, often than people do",
        "\n".join(["| | more often | less often |", "|---|---|---|", *rows]),
        f"Each word has the share of captions that contain it on the {card['split']} split, "
        "and in brackets the share of references. Differences that are not significant are left out.",
    ]


def contact_sheet_png(predictions: Sequence[Prediction], images: Iterable[Path]) -> bytes:
    """A PNG of the worst and the best predictions with their images; `images` has one for each prediction."""
    places = dict(zip(predictions, images, strict=True))
    ranked = worst_first(predictions)
    half = min(ENDS, (len(ranked) + 1) // 2)
    worst, best = ranked[:half], ranked[half:][::-1][:ENDS]
    sections = {f"The {len(worst)} worst of {len(ranked):,} validation captions": worst, f"The {len(best)} best": best}
    return sheet_png({name: [_row(each, places[each.prediction]) for each in some] for name, some in sections.items()})


def _row(ranked: Ranked, image: Path) -> tuple[np.ndarray, str, str, float]:
    small = np.asarray(scaled(read_image(image), *THUMBNAIL))  # forty images of full size would need too much memory
    return small, ranked.prediction.caption, ranked.closest, ranked.score
