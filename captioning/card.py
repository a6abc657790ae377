"""The model card of a bundle: what it is, how good it is, what it does not do. Knows only score cards."""

from collections.abc import Iterable
from typing import Any

from captioning.evaluation import card_text

LIMITS = """\
- It names what its training captions named: other things get the nearest word it knows, with confidence.
- It has seen {words:,} words in {images:,} images of one kind; expect less of other photographs.
- Counts, left and right, writing in the picture and who somebody is are beyond it.
- Captions repeat the habits of those who wrote the training captions, about men and women above all: \
read before you publish."""


def model_card(name: str, cards: dict[str, Any], captions: Iterable[Any], *, words: int, images: int) -> str:
    """The card in Markdown, from the score cards and a few captions."""
    scores = "\n\n".join(card_text(card) for card in cards.values())
    examples = "\n".join(f"- {caption}" for caption in captions)
    lines = [
        f"# {name}",
        f'A caption for an image: `captioning.load("artifacts/{name}").caption("photo.jpg")`.',
        "## Scores",
        f"```\n{scores}\n```",
        "How they were obtained stands in `scores.json`; the captions that were scored, in `predictions-*.jsonl`.",
        "![losses and validation score](loss.png)",
        "## What it says of eight validation images",
        examples,
        "![where it looked](attention.png)",
        "## Limits",
        LIMITS.format(words=words, images=images),
    ]
    return "\n\n".join(lines) + "\n"
