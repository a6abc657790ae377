"""Captions as data: the answers of the programming interface, and the table of many images."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioning.errors import CaptioningError, ImageError
from captioning.options import DecodeOptions, changed
from captioning.runtime import strict_json
from captioning.runtime.safe_csv import csv_row
from captioning.serving.pool import CaptionerPool, all_beams
from captioning.serving.session import CaptionSession

COLUMNS = ("image", "caption", "confidence", "sure", "verdict", "problem")

Row = dict[str, Any]


def answer(described: CaptionSession) -> dict[str, Any]:
    """A caption, whether it is sure, its words with the most likely other ones, and the next best captions."""
    caption = described.caption
    translated = {"original": caption.text, "translated_by": caption.translation.model} if caption.translation else {}
    return {
        "caption": str(caption),
        "confidence": _rounded(caption.confidence),
        "sure": caption.sure,
        "verdict": caption.verdict,
        "score": _rounded(caption.score),
        "words": [
            {"text": word.text, "probability": _rounded(word.probability), "alternatives": _listed(choices)}
            for word, choices in zip(caption.words, described.choices, strict=False)
        ],
        "alternatives": [{"caption": str(other), "score": _rounded(other.score)} for other in described.captions[1:]],
        "bundle": described.bundle,
        "language": caption.written_language,
        **translated,
    }


def _listed(choices: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"text": word, "probability": _rounded(share)} for word, share in choices]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def search_options(pool: CaptionerPool, bundle: str, changes: Any) -> DecodeOptions:
    """A bundle's own options with some changed, such as {"num_beams": 5}; a beam search returns all its captions."""
    if not isinstance(changes, dict | None):
        raise CaptioningError(f'options is a {type(changes).__name__}; expected an object such as {{"num_beams": 5}}.')
    with pool.captioner(bundle) as captioner:
        own = replace(captioner.options, num_captions=1)
    options = changed(own, **(changes or {}))
    return options if "num_captions" in (changes or {}) else all_beams(options)


def caption_each(
    pool: CaptionerPool, bundle: str, paths: Iterable[str], options: DecodeOptions | None = None
) -> Iterator[Row]:
    """A row for every image: its caption, its confidence and verdict, or why it cannot be read.

    The captioner is taken for one image at a time, so that other requests are answered in between.
    """
    for path in paths:
        row: Row = dict.fromkeys(COLUMNS) | {"image": Path(path).name}
        try:
            with pool.captioner(bundle) as captioner:
                found = captioner.caption(path, options or captioner.options)
            about = {"confidence": _rounded(found.confidence), "sure": found.sure, "verdict": found.verdict}
            yield row | {"caption": str(found), **about}
        except ImageError as error:
            yield row | {"problem": str(error)}


def rows_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV, escaped so that no spreadsheet runs a cell as a formula."""
    return csv_row(COLUMNS) + "".join(csv_row(row[column] for column in COLUMNS) for row in rows)


def rows_json(rows: Iterable[Row]) -> str:
    """The rows as a JSON list."""
    return strict_json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n"
