"""Where captions are written: the terminal, a file that grows and can be gone on with, or a file beside each image.

Knows nothing of how captions come about.
"""

import contextlib
import csv
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from captioning.errors import CaptioningError, DataError
from captioning.inference.confidence import SURE
from captioning.runtime.files import atomic_write, explain_disk_errors
from captioning.runtime.safe_csv import csv_row

COLUMNS = ("image", "caption", "confidence", "score", "alternatives")
ALT_LENGTH = 125  # characters
ALT_PREFIX = re.compile(
    r"(?:(?:this|here|there) is )?(?:an? |the )?(?:black and white |close[- ]?up )?"
    r"(?:picture|photo|photograph|image)s? (?:of|showing) (?=\w)",
    re.IGNORECASE,
)
ONE_LINE = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})

Record = dict[str, Any]


@dataclass(frozen=True)
class OutputOptions:
    """Where captions are written and how; the format is what the output's name ends in, unless it is given."""

    format: str = ""
    output: Path | None = None
    sidecar: bool = False
    if_exists: str = "skip"
    alt_text: bool = False
    attention: bool = False

    @property
    def kind(self) -> str:
        """One of text, txt, csv, jsonl, json."""
        return self.format or (self.output.suffix[1:].lower() if self.output else "txt" if self.sidecar else "text")

    def __post_init__(self) -> None:
        kind, in_file = self.kind, self.output or self.sidecar
        sidecar_text = self.sidecar and kind == "txt"
        for is_right, sentence in (
            (not (self.output and self.sidecar), "--output and --sidecar exclude each other; give one of them."),
            (kind in (*WRITTEN, "json"), f"{self.output} tells no format; end it in .csv, .json, .jsonl or .txt."),
            (kind != "text" or not in_file, "--format text is for the terminal; use txt."),
            (kind != "json" or in_file, "--format json needs --output FILE or --sidecar, since it is written whole."),
            (not self.sidecar or kind in ("txt", "json"), f"--sidecar writes txt or json, not {kind}; use --output."),
            (
                sidecar_text or self.if_exists in ("skip", "overwrite"),
                f"--if-exists {self.if_exists} is for --sidecar with --format txt; use skip or overwrite.",
            ),
            (not self.attention or kind in ("json", "jsonl"), "--attention needs --format json or jsonl."),
        ):
            if not is_right:
                raise CaptioningError(sentence)


class CaptionWriter(Protocol):
    """What holds captions: an image in it is done; `add` returns a sentence for each image that it refuses."""

    def __contains__(self, image: Path) -> bool: ...

    def add(self, captions: Mapping[Path, Any]) -> list[str]: ...


@contextlib.contextmanager
def open_writer(options: OutputOptions, *, several: bool) -> Iterator[CaptionWriter]:
    """The book that the options describe; `several`: captions have alternatives. A JSON file is written at the end."""
    if options.sidecar:
        yield _Sidecars(options, several)
    elif not options.output:
        yield _Terminal(options, several)
    elif options.kind != "json":
        yield _Lines(options.output, options, several)
    else:
        with _written_whole(options.output, options, several) as book:
            yield book


@contextlib.contextmanager
def _written_whole(output: Path, options: OutputOptions, several: bool) -> Iterator[CaptionWriter]:
    """The records are lines of a .part file beside the output until all are there."""
    part = output.with_name(f"{output.name}.part")
    before: dict[str, str] = {}
    if options.if_exists == "overwrite":
        part.unlink(missing_ok=True)
    elif output.exists():
        before = _records_of(output)
    book = _Lines(part, options, several)
    book.done |= before.keys()
    yield book
    if part.exists():
        records = before | {READ["json"](line): line.strip() for line in _whole_lines(part)}
        atomic_write(output, "[\n" + ",\n".join(records.values()) + "\n]\n")
        part.unlink()


def _records_of(path: Path) -> dict[str, str]:
    try:
        return {record["image"]: _json_line(record).strip() for record in json.loads(path.read_text("utf-8"))}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _not_ours(path, error) from None


def _whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file, but for half a line that a killed run left at its end."""
    with open(path, "rb") as lines:
        yield from (line.decode() for line in lines if line.endswith(b"\n"))


def _not_ours(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} holds something else than these captions ({error}); "
        "name another --output, or use --if-exists overwrite."
    )


class _Terminal:
    def __init__(self, options: OutputOptions, several: bool) -> None:
        self._options, self._several = options, several
        self._header = _header(options, several)

    def __contains__(self, image: Path) -> bool:
        return False

    def add(self, captions: Mapping[Path, Any]) -> list[str]:
        records = [_record(*pair, self._options, self._several) for pair in captions.items()]
        text = "".join([self._header, *map(WRITTEN[self._options.kind], records)])
        tqdm.write(text, file=sys.stdout, end="")  # above a progress bar, where there is one
        sys.stdout.flush()
        self._header = ""
        return []


class _Lines:
    """A file to which each batch adds lines; those of an earlier run are kept."""

    def __init__(self, path: Path, options: OutputOptions, several: bool) -> None:
        self._path, self._options, self._several = path, options, several
        self._header, read = _header(options, several), READ[options.kind]
        self.done: set[str] = set()
        self._end = 0  # bytes that are right
        if path.exists() and options.if_exists != "overwrite":
            try:
                for line in _whole_lines(path):
                    if self._end or not self._header:
                        self.done.add(read(line))
                    elif line != self._header:
                        raise ValueError(f"its columns are {line.strip()}")
                    self._end += len(line.encode())
                if path.stat().st_size and not self._end:
                    raise ValueError("no line is whole")
            except (ValueError, LookupError, TypeError, StopIteration, csv.Error, OSError) as error:
                raise _not_ours(path, error) from None

    def __contains__(self, image: Path) -> bool:
        return name_of(image) in self.done

    def add(self, captions: Mapping[Path, Any]) -> list[str]:
        records = [_record(*pair, self._options, self._several) for pair in captions.items()]
        header = "" if self._end else self._header
        data = "".join([header, *map(WRITTEN[self._options.kind], records)]).encode()
        with explain_disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.truncate(self._end)
                file.write(data)
        self._end += len(data)
        return []


class _Sidecars:
    """A .txt or .json file beside each image, called like it."""

    def __init__(self, options: OutputOptions, several: bool) -> None:
        self._options, self._several = options, several
        self._owners: dict[Path, Path] = {}

    def _place(self, image: Path) -> Path:
        return image.with_suffix(f".{self._options.kind}")

    def __contains__(self, image: Path) -> bool:
        return self._options.if_exists == "skip" and self._place(image).exists()

    def add(self, captions: Mapping[Path, Any]) -> list[str]:
        problems = []
        for image, caption in captions.items():
            place = self._place(image)
            owner = place if place == image else self._owners.setdefault(place, image)
            if owner == image != place:
                atomic_write(place, self._text(place, _record(image, caption, self._options, self._several)))
            else:
                problems.append(f"{name_of(image)} would share {place.name} with {owner.name}; use --output for it.")
        return problems

    def _text(self, place: Path, record: Record) -> bytes:
        if self._options.kind == "json":
            return (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode()
        lines, adds = [text.encode() for text in _texts(record)], self._options.if_exists in ("append", "prepend")
        old = place.read_bytes().splitlines() if adds and place.exists() else []
        fresh = [line for line in lines if line not in old]  # a run that was interrupted has said the others
        return b"\n".join([*fresh, *old] if self._options.if_exists == "prepend" else [*old, *fresh]) + b"\n"


def name_of(image: Path) -> str:
    """The path as one line of valid text, whatever bytes are in it."""
    return str(image).encode("utf-8", "backslashreplace").decode("utf-8").translate(ONE_LINE)


def alt_text(caption: str) -> str:
    """A caption as alternative text: one sentence of at most 125 characters that does not begin with "a picture of"."""
    while opening := ALT_PREFIX.match(caption):
        caption = caption[opening.end() :]
    text = caption.strip().rstrip(".!?,;: ")
    if len(text) >= ALT_LENGTH:
        text = textwrap.shorten(text, ALT_LENGTH - 1, placeholder="").rstrip(",;: ")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _record(image: Path, caption: Any, options: OutputOptions, several: bool) -> Record:
    worded = alt_text if options.alt_text else str
    sure = None if caption.confidence is None else round(caption.confidence, 3)
    values = (name_of(image), worded(str(caption)), sure, round(caption.score, 4))
    record = dict(zip(COLUMNS, values, strict=False))
    if several:
        record["alternatives"] = [worded(str(other)) for other in caption.alternatives]
    if options.attention:
        record["words"] = [
            {"text": word.text, "probability": round(word.probability, 4), "attention": _rounded(word.attention)}
            for word in caption.words
        ]
    return record


def _rounded(attention: Any) -> list[list[float]]:
    return [[round(float(weight), 4) for weight in row] for row in attention]


def _texts(record: Record) -> list[str]:
    return [record["caption"], *record.get("alternatives", [])]


def _text_lines(record: Record) -> str:
    first, *others = [f"{record['image']}\t{text}" for text in _texts(record)]
    is_unsure = record["confidence"] is not None and record["confidence"] < SURE
    return "\n".join([f"{first}\tnot sure" if is_unsure else first, *others]) + "\n"


def _json_line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _csv_line(record: Record) -> str:
    return csv_row(" | ".join(cell) if isinstance(cell, list) else cell for cell in record.values())


def _header(options: OutputOptions, several: bool) -> str:
    return csv_row(COLUMNS if several else COLUMNS[:-1]) if options.kind == "csv" else ""


WRITTEN = {
    "text": _text_lines,
    "txt": _text_lines,
    "csv": _csv_line,
    "jsonl": _json_line,
    "json": _json_line,
}
READ = {  # the image of a line
    "txt": lambda line: line[: line.index("\t")],
    "csv": lambda line: next(csv.reader([line]))[0].removeprefix("'"),
    "jsonl": lambda line: json.loads(line)["image"],
    "json": lambda line: json.loads(line)["image"],
}
