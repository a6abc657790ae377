"""Captions as data: what the programming interface answers, and the table of many pictures."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from captioning.errors import ImageError
from captioning.inference.confidence import SURE
from captioning.runtime.safe_csv import csv_row
from captioning.serving.pool import CaptionerPool, all_beams
from captioning.serving.session import CaptionSession

COLUMNS = ("image", "caption", "confidence", "problem")

Row = dict[str, Any]


def answer(described: CaptionSession) -> dict[str, Any]:
    """A caption word by word, each with the words that could stand there; shares are 0 to 1."""
    caption = described.caption
    return {
        "caption": caption.text,
        "confidence": _rounded(caption.confidence),
        "sure": None if caption.confidence is None else caption.confidence >= SURE,
        "score": _rounded(caption.score),
        "words": [
            {"text": word.text, "probability": _rounded(word.probability), "alternatives": _listed(choices)}
            for word, choices in zip(caption.words, described.choices, strict=False)
        ],
        "alternatives": [{"caption": other.text, "score": _rounded(other.score)} for other in described.captions[1:]],
        "bundle": described.bundle,
    }


def _listed(choices: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"text": word, "probability": _rounded(share)} for word, share in choices]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def caption_each(shelf: CaptionerPool, bundle: str, paths: Iterable[str]) -> Iterator[Row]:
    """A row for every picture: its caption and confidence, or why it cannot be read.

    The captioner is lent for one picture at a time, so that others who ask in the meantime are answered.
    """
    for path in paths:
        row: Row = dict.fromkeys(COLUMNS) | {"image": Path(path).name}
        try:
            with shelf.captioner(bundle) as captioner:
                found = captioner.caption(path, all_beams(captioner.options))
            yield row | {"caption": found.text, "confidence": _rounded(found.confidence)}
        except ImageError as error:
            yield row | {"problem": str(error)}


def rows_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV that no spreadsheet takes for formulas."""
    return csv_row(COLUMNS) + "".join(csv_row(row[column] for column in COLUMNS) for row in rows)


def rows_json(rows: Iterable[Row]) -> str:
    """The rows as a JSON list."""
    return json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n"
