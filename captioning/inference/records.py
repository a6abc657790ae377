"""One caption as a record: its columns, and how it reads as a line of text, CSV or JSON."""

import csv
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.tokenizer import is_ideograph
from captioning.runtime.safe_csv import csv_row

if TYPE_CHECKING:
    from captioning.inference.caption import Caption

COLUMNS = ("image", "caption", "confidence", "sure", "verdict", "score", "alternatives")
TRANSLATED = ("original", "translated_by")
ALT_LENGTH = 125  # characters
ALT_PREFIX = re.compile(
    r"(?:(?:this|here|there) is )?(?:an? |the )?(?:black and white |close[- ]?up )?"
    r"(?:picture|photo|photograph|image)s? (?:of|showing) (?=\w)",
    re.IGNORECASE,
)
ONE_LINE = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})
REASONS = {
    "not sure": "not sure",
    "unfamiliar": "unfamiliar picture",
    "not calibrated": "confidence not calibrated",
    "unknown": "confidence unknown",
}
ADDED_LATER = ((), ("verdict",), ("sure", "verdict"))  # columns that CSV files of earlier releases lack

Record = dict[str, Any]


def name_of(image: Path) -> str:
    """The path as one line of valid text, whatever bytes are in it."""
    return str(image).encode("utf-8", "backslashreplace").decode("utf-8").translate(ONE_LINE)


def alt_text(caption: str, length: int = ALT_LENGTH) -> str:
    """A caption as alternative text: one sentence of at most `length` characters without "a picture of" before it."""
    while opening := ALT_PREFIX.match(caption):
        caption = caption[opening.end() :]
    text = caption.strip().rstrip(".!?,;:。 ")
    if len(text) >= length:
        text = (textwrap.shorten(text, length - 1, placeholder="") or text[: length - 1]).rstrip(",;: ")
    end = "。" if is_ideograph(text[-1:]) else "."
    return f"{text[:1].upper()}{text[1:]}{end}" if text else ""


def record_of(
    image: Path,
    caption: "Caption",
    *,
    worded: Callable[[str], str] = str,
    several: bool,
    attention: bool,
    language: bool = False,
    translated: bool = False,
) -> Record:
    """A caption's values by column.

    `several` adds the next best captions, `language` its language, `translated` what was translated and by which model,
    `attention` each word with its weights. `worded` makes the text that is written of a caption.
    """
    confidence = None if caption.confidence is None else round(caption.confidence, 3)
    values = (name_of(image), worded(str(caption)), confidence, caption.sure, caption.verdict, round(caption.score, 4))
    record: Record = dict(zip(COLUMNS, values, strict=False))
    if several:
        record["alternatives"] = [worded(str(other)) for other in caption.alternatives]
    if language:
        record["language"] = caption.written_language
    if translated:
        record["original"] = caption.text if caption.translation else None
        record["translated_by"] = caption.translation.model if caption.translation else None
    if attention:
        record["words"] = [
            {"text": word.text, "probability": round(word.probability, 4), "attention": _rounded(word.attention)}
            for word in caption.words
        ]
    return record


def _rounded(attention: np.ndarray | None) -> list[list[float]] | None:
    return None if attention is None else [[round(float(weight), 4) for weight in row] for row in attention]


def texts_of(record: Record) -> list[str]:
    """The caption and the next best ones, where the record has them."""
    return [record["caption"], *record.get("alternatives", [])]


def mark(verdict: str) -> str:
    """What stands after a caption that is read as text; nothing where it is sure."""
    return f"\t{REASONS[verdict]}" if verdict in REASONS else ""


def _text_lines(record: Record) -> str:
    first, *others = [f"{record['image']}\t{text}" for text in texts_of(record)]
    return "\n".join([first + mark(record["verdict"]), *others]) + "\n"


def json_line(record: Record) -> str:
    """The record as one line of JSON."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def _csv_line(record: Record) -> str:
    return csv_row(" | ".join(cell) if isinstance(cell, list) else cell for cell in record.values())


def csv_header(*, several: bool, absent: Sequence[str] = (), language: bool = False, translated: bool = False) -> str:
    """The first line of a CSV, without the columns in `absent`."""
    columns = COLUMNS if several else COLUMNS[:-1]
    columns = (*columns, *["language"] * language, *TRANSLATED[: len(TRANSLATED) * translated])
    return csv_row(column for column in columns if column not in absent)


def csv_cells(line: str) -> list[str]:
    """The cells of a line of CSV as they were before they were made safe for a spreadsheet."""
    return [cell.removeprefix("'") for cell in next(csv.reader([line]))]


def whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file, but for half a line that a killed run left at its end."""
    with open(path, "rb") as lines:
        yield from (line.decode() for line in lines if line.endswith(b"\n"))


WRITTEN = {
    "text": _text_lines,
    "txt": _text_lines,
    "csv": _csv_line,
    "jsonl": json_line,
    "json": json_line,
}
READ = {  # the image of a line
    "txt": lambda line: line[: line.index("\t")],
    "csv": lambda line: csv_cells(line)[0],
    "jsonl": lambda line: json.loads(line)["image"],
    "json": lambda line: json.loads(line)["image"],
}
