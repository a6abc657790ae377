"""Where captions are written: the terminal, a file that grows and can be resumed, or a file beside each image."""

import contextlib
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from captioning.errors import CaptioningError, DataError
from captioning.inference.confidence import SURE, verdict_of
from captioning.inference.records import (
    ADDED_LATER,
    READ,
    WRITTEN,
    Record,
    csv_cells,
    csv_header,
    json_line,
    name_of,
    record_of,
    texts_of,
    whole_lines,
)
from captioning.runtime.files import atomic_write, explain_disk_errors

if TYPE_CHECKING:
    from captioning.inference.caption import Caption

SIDECARS_LEFT_OUT = Path("left-out.csv")  # in the current folder


@dataclass(frozen=True)
class OutputOptions:
    """Where captions are written and how; the format is what the output's name ends in, unless it is given."""

    format: str = ""
    output: Path | None = None
    sidecar: bool = False
    if_exists: str = "skip"
    alt_text: bool = False
    attention: bool = False
    min_confidence: float | None = None

    @property
    def kind(self) -> str:
        """One of text, txt, csv, jsonl, json."""
        return self.format or (self.output.suffix[1:].lower() if self.output else "txt" if self.sidecar else "text")

    @property
    def threshold(self) -> float:
        """Captions of a lower confidence are left out; 0 leaves none out."""
        by_default = SURE if self.sidecar and self.alt_text else 0.0
        return by_default if self.min_confidence is None else self.min_confidence

    @property
    def left_out(self) -> Path | None:
        """The CSV file of captions that are left out, where captions go to files and some may be left out."""
        if not self.threshold or not (self.output or self.sidecar):
            return None
        return self.output.with_name(f"{self.output.stem}-left-out.csv") if self.output else SIDECARS_LEFT_OUT

    @property
    def place(self) -> str:
        """Where the captions are, as the end of a phrase."""
        return f" in {self.output}" if self.output else " beside the images" if self.sidecar else ""

    def __post_init__(self) -> None:
        kind, in_file = self.kind, self.output or self.sidecar
        sidecar_text = self.sidecar and kind == "txt"
        for is_right, sentence in (
            (not (self.output and self.sidecar), "--output and --sidecar exclude each other; give one of them."),
            (
                kind in (*WRITTEN, "json"),
                f"{self.output} has no known format; end it in .csv, .json, .jsonl or .txt.",
            ),
            (kind != "text" or not in_file, "--format text is for the terminal; use txt."),
            (kind != "json" or in_file, "--format json needs --output FILE or --sidecar, since it is written whole."),
            (not self.sidecar or kind in ("txt", "json"), f"--sidecar writes txt or json, not {kind}; use --output."),
            (
                sidecar_text or self.if_exists in ("skip", "overwrite"),
                f"--if-exists {self.if_exists} is for --sidecar with --format txt; use skip or overwrite.",
            ),
            (not self.attention or kind in ("json", "jsonl"), "--attention needs --format json or jsonl."),
            (0 <= self.threshold <= 1, f"--min-confidence {self.min_confidence} cannot be used: 0 to 1 was expected."),
        ):
            if not is_right:
                raise CaptioningError(sentence)


class CaptionWriter(Protocol):
    """What holds captions: an image in it is done; `add` returns a sentence for each image that it refuses."""

    def __contains__(self, image: Path) -> bool: ...

    def add(self, captions: Mapping[Path, Any]) -> list[str]: ...


@contextlib.contextmanager
def open_writer(options: OutputOptions, *, several: bool) -> Iterator[CaptionWriter]:
    """The writer that the options ask for; `several`: captions have alternatives. JSON is written at the end."""
    if options.sidecar:
        yield _Sidecars(options, several)
    elif not options.output:
        yield _Terminal(options, several)
    elif options.kind != "json":
        yield _Lines(options.output, options, several)
    else:
        with _written_whole(options.output, options, several) as writer:
            yield writer


@contextlib.contextmanager
def _written_whole(output: Path, options: OutputOptions, several: bool) -> Iterator[CaptionWriter]:
    """The records are lines of a .part file beside the output until all are there."""
    part = output.with_name(f"{output.name}.part")
    before: dict[str, str] = {}
    if options.if_exists == "overwrite":
        part.unlink(missing_ok=True)
    elif output.exists():
        before = _records_of(output)
    writer = _Lines(part, options, several)
    writer.done |= before.keys()
    yield writer
    if part.exists():
        records = before | {READ["json"](line): line.strip() for line in whole_lines(part)}
        atomic_write(output, "[\n" + ",\n".join(records.values()) + "\n]\n")
        part.unlink()


def _records_of(path: Path) -> dict[str, str]:
    try:
        return {record["image"]: json_line(record).strip() for record in json.loads(path.read_text("utf-8"))}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _not_ours(path, error) from None


def _not_ours(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} holds something other than these captions ({error}); "
        "name another --output, or use --if-exists overwrite."
    )


class _Writer:
    def __init__(self, options: OutputOptions, several: bool) -> None:
        self._options, self._several = options, several
        self._header = csv_header(several=several) if options.kind == "csv" else ""

    def _record(self, image: Path, caption: "Caption") -> Record:
        kinds = {"as_alt_text": self._options.alt_text, "attention": self._options.attention}
        return record_of(image, caption, several=self._several, **kinds)

    def _lines(self, records: list[Record]) -> str:
        return "".join(map(WRITTEN[self._options.kind], records))


class _Terminal(_Writer):
    def __contains__(self, image: Path) -> bool:
        return False

    def add(self, captions: Mapping[Path, Any]) -> list[str]:
        text = self._header + self._lines([self._record(*pair) for pair in captions.items()])
        tqdm.write(text, file=sys.stdout, end="")  # above a progress bar, where there is one
        sys.stdout.flush()
        self._header = ""
        return []


class _Lines(_Writer):
    """A file to which each batch adds lines; those of an earlier run are kept."""

    def __init__(self, path: Path, options: OutputOptions, several: bool) -> None:
        super().__init__(options, several)
        self._path = path
        self._absent: tuple[str, ...] = ()
        self.done: set[str] = set()
        self._end = 0  # bytes that are right
        if path.exists() and options.if_exists != "overwrite":
            try:
                self._read(path)
            except (ValueError, LookupError, TypeError, StopIteration, csv.Error, OSError) as error:
                raise _not_ours(path, error) from None

    def _read(self, path: Path) -> None:
        for line in whole_lines(path):
            if self._end or not self._header:
                self.done.add(READ[self._options.kind](line))
            else:  # the file keeps the columns that it was begun with
                headers = {csv_header(several=self._several, absent=absent): absent for absent in ADDED_LATER}
                if line not in headers:
                    raise ValueError(f"its columns are {line.strip()}")
                self._absent = headers[line]
            self._end += len(line.encode())
        if path.stat().st_size and not self._end:
            raise ValueError("no line is whole")

    def __contains__(self, image: Path) -> bool:
        return name_of(image) in self.done

    def add(self, captions: Mapping[Path, Any]) -> list[str]:
        records = [self._record(*pair) for pair in captions.items()]
        records = [{key: value for key, value in record.items() if key not in self._absent} for record in records]
        data = (("" if self._end else self._header) + self._lines(records)).encode()
        with explain_disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.truncate(self._end)
                file.write(data)
        self._end += len(data)
        return []


class _Sidecars(_Writer):
    """A .txt or .json file beside each image, called like it."""

    def __init__(self, options: OutputOptions, several: bool) -> None:
        super().__init__(options, several)
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
                atomic_write(place, self._text(place, self._record(image, caption)))
            else:
                problems.append(f"{name_of(image)} would share {place.name} with {owner.name}; use --output for it.")
        return problems

    def _text(self, place: Path, record: Record) -> bytes:
        if self._options.kind == "json":
            return (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode()
        lines, adds = [text.encode() for text in texts_of(record)], self._options.if_exists in ("append", "prepend")
        old = place.read_bytes().splitlines() if adds and place.exists() else []
        fresh = [line for line in lines if line not in old]  # an interrupted run has written the others
        return b"\n".join([*fresh, *old] if self._options.if_exists == "prepend" else [*old, *fresh]) + b"\n"


class LeftOut:
    """The captions of too low a confidence, in a CSV file of their own where there is one.

    An image in it is done. A row of an earlier run is dropped if `writer` holds the image's caption by now, or if its
    confidence reaches the threshold by now.
    """

    def __init__(self, options: OutputOptions, writer: CaptionWriter) -> None:
        self.threshold, self.path = options.threshold, options.left_out
        self.rows: dict[str, tuple[str, float | None, str]] = {}  # image -> caption, confidence, verdict
        self._writer, self._alt_text, self._file = writer, options.alt_text, None
        if self.path:
            as_csv = OutputOptions(output=self.path, alt_text=options.alt_text)
            if self.path.exists():
                self._refuse_others(self.path, as_csv)
                self._keep(self.path, start_anew=options.if_exists == "overwrite")
            self._file = _Lines(self.path, as_csv, several=False)

    def _refuse_others(self, path: Path, as_csv: OutputOptions) -> None:
        try:
            _Lines(path, as_csv, several=False)
        except DataError:
            raise DataError(
                f"{path} is needed for the captions that are left out, and holds something else; rename it."
            ) from None

    def _keep(self, path: Path, *, start_anew: bool) -> None:
        lines, kept = list(whole_lines(path)), []
        for line in () if start_anew else lines[1:]:
            row = dict(zip(csv_cells(lines[0]), csv_cells(line), strict=True))
            known = float(row["confidence"]) if row["confidence"] else None
            verdict = row.get("verdict") or verdict_of(known)
            if Path(row["image"]) not in self._writer and self.is_too_low(known, verdict):
                kept.append(line)
                self.rows[row["image"]] = row["caption"], known, verdict
        if kept:
            atomic_write(path, lines[0] + "".join(kept))
        else:
            path.unlink()

    def is_too_low(self, confidence: float | None, verdict: str) -> bool:
        """Whether a caption is left out: above 0, any threshold leaves out what is unknown or unfamiliar."""
        is_low = confidence is None or verdict == "unfamiliar" or confidence < self.threshold
        return self.threshold > 0 and is_low

    def __contains__(self, image: Path) -> bool:
        return name_of(image) in self.rows

    def add(self, captions: Mapping[Path, Any]) -> None:
        """Notes the captions that are left out."""
        for image, caption in captions.items():
            record = record_of(image, caption, as_alt_text=self._alt_text, several=False, attention=False)
            self.rows[record["image"]] = record["caption"], caption.confidence, caption.verdict
        if self._file and captions:
            self._file.add(captions)
