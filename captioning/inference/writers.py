"""Where captions are written: the terminal, a file that grows and can be resumed, or a file beside each image."""

import contextlib
import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from captioning.errors import CaptioningError, DataError
from captioning.inference.confidence import SURE
from captioning.inference.metadata.changes import Rewriter, read_texts
from captioning.inference.metadata.journal import DEFAULT_JOURNAL, Journal
from captioning.inference.metadata.writer import MetadataWriter
from captioning.inference.records import (
    ADDED_LATER,
    ALT_LENGTH,
    READ,
    WRITTEN,
    Record,
    csv_header,
    json_line,
    name_of,
    record_of,
    texts_of,
    whole_lines,
)
from captioning.inference.wording import Wording
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
    metadata: bool = False
    xmp_name: str = "full"
    keep_times: bool = False
    journal: Path | None = None
    alt_length: int = ALT_LENGTH
    prefix: str = ""
    suffix: str = ""
    language: str = ""  # asked for: captions are written with their language
    translated: bool = False  # captions are written with what was translated, and by which model
    watch: bool = False  # captions are written until somebody stops it

    @property
    def kind(self) -> str:
        """One of text, txt, csv, jsonl, json, xmp, metadata."""
        if self.metadata:
            return self.format or "metadata"
        return self.format or (self.output.suffix[1:].lower() if self.output else "txt" if self.sidecar else "text")

    @property
    def threshold(self) -> float:
        """Captions of a lower confidence are left out; 0 leaves none out."""
        by_default = SURE if (self.sidecar or self.metadata) and self.alt_text else 0.0
        return by_default if self.min_confidence is None else self.min_confidence

    @property
    def left_out(self) -> Path | None:
        """The CSV file of captions that are left out, where captions go to files and some may be left out."""
        if not self.threshold or not (self.output or self.sidecar or self.metadata):
            return None
        return self.output.with_name(f"{self.output.stem}-left-out.csv") if self.output else SIDECARS_LEFT_OUT

    @property
    def place(self) -> str:
        """Where the captions are, as the end of a phrase."""
        if self.metadata:
            return " in the images' metadata"
        return f" in {self.output}" if self.output else " beside the images" if self.sidecar else ""

    @property
    def wording(self) -> Wording:
        """How captions are worded."""
        return Wording(self.alt_text, self.alt_length, self.prefix, self.suffix)

    @property
    def journal_path(self) -> Path | None:
        """The journal of a run that changes images or files beside them; none where it only adds text or JSON files."""
        may_change = self.kind in ("xmp", "metadata") or (self.sidecar and self.if_exists != "skip")
        return self.journal or (DEFAULT_JOURNAL if may_change else None)

    @property
    def settings(self) -> dict[str, Any]:
        """What a run has to share with one that was killed, to go on with it."""
        names = ("alt_text", "alt_length", "prefix", "suffix", "if_exists", "xmp_name", "min_confidence")
        return {"kind": self.kind, **{name: getattr(self, name) for name in names}}

    def __post_init__(self) -> None:
        kind, in_file = self.kind, self.output or self.sidecar
        adds_text = (self.sidecar and kind in ("txt", "xmp")) or kind == "metadata"
        is_beside = self.sidecar or self.metadata
        for is_right, sentence in (
            (
                bool(self.output) + self.sidecar + self.metadata <= 1,
                "--output, --sidecar and --metadata exclude each other; give one of them.",
            ),
            (not self.metadata or not self.format, "--metadata has no --format; leave it out."),
            (kind != "xmp" or self.sidecar, "--format xmp is for files beside the images; give --sidecar too."),
            (self.xmp_name == "full" or kind == "xmp", "--xmp-name is for --sidecar --format xmp."),
            (is_beside or not self.journal, "--journal is for --sidecar and --metadata."),
            (self.metadata or kind == "xmp" or not self.keep_times, "--keep-times is for --metadata and XMP sidecars."),
            (
                kind in (*WRITTEN, "json", "xmp", "metadata"),
                f"{self.output} has no known format; end it in .csv, .json, .jsonl or .txt.",
            ),
            (kind != "text" or not in_file, "--format text is for the terminal; use txt."),
            (kind != "json" or in_file, "--format json needs --output FILE or --sidecar, since it is written whole."),
            (
                not self.sidecar or kind in ("txt", "json", "xmp"),
                f"--sidecar writes txt, json or xmp, not {kind}; use --output.",
            ),
            (
                adds_text or self.if_exists in ("skip", "overwrite"),
                f"--if-exists {self.if_exists} is for text sidecars, XMP and --metadata; use skip or overwrite.",
            ),
            (not self.attention or kind in ("json", "jsonl"), "--attention needs --format json or jsonl."),
            (not self.watch or kind != "json" or self.sidecar, "--watch cannot write a .json; use .jsonl or .csv."),
            (0 <= self.threshold <= 1, f"--min-confidence {self.min_confidence} cannot be used: 0 to 1 was expected."),
        ):
            if not is_right:
                raise CaptioningError(sentence)
        _ = self.wording  # refuses what it cannot use


class CaptionWriter(Protocol):
    """What holds captions: an image in it is done; `add` returns a sentence for each image that it refuses.

    `forget` is told the images that have changed since: captions of this run that are still there will be replaced.
    `refusal` says why an image will not get a caption, where that is known before; it is empty otherwise.
    """

    def __contains__(self, image: Path) -> bool: ...

    def forget(self, images: Sequence[Path]) -> None: ...

    def refusal(self, image: Path) -> str: ...

    def add(self, captions: Mapping[Path, Any]) -> dict[Path, str]: ...


@contextlib.contextmanager
def open_writer(options: OutputOptions, *, several: bool) -> Iterator[CaptionWriter]:
    """The writer that the options ask for; `several`: captions have alternatives. JSON is written at the end."""
    if options.sidecar or options.metadata:
        with _open_journal(options) as journal:
            is_text = options.kind in ("txt", "json")
            yield _Sidecars(options, several, journal) if is_text else MetadataWriter(options, _there(journal))
    elif not options.output:
        yield _Terminal(options, several)
    elif options.kind != "json":
        yield LinesWriter(options.output, options, several)
    else:
        with _written_whole(options.output, options, several) as writer:
            yield writer


@contextlib.contextmanager
def _open_journal(options: OutputOptions) -> Iterator[Journal | None]:
    """The journal, in which a run that ends without an exception has an end."""
    if not options.journal_path:
        yield None
        return
    journal = Journal(options.journal_path, options.settings)
    try:
        yield journal
        if not options.watch:  # the next start goes on
            journal.finish()
    finally:
        journal.close()


def _there(journal: Journal | None) -> Journal:
    assert journal
    return journal


@contextlib.contextmanager
def _written_whole(output: Path, options: OutputOptions, several: bool) -> Iterator[CaptionWriter]:
    """The records are lines of a .part file beside the output until all are there."""
    part = output.with_name(f"{output.name}.part")
    before: dict[str, str] = {}
    if options.if_exists == "overwrite":
        part.unlink(missing_ok=True)
    elif output.exists():
        before = _records_of(output)
    writer = LinesWriter(part, options, several)
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
        self._columns: dict[str, Any] = {"several": several, "language": bool(options.language)}
        self._columns["translated"] = options.translated
        self._header = csv_header(**self._columns) if options.kind == "csv" else ""

    def forget(self, images: Sequence[Path]) -> None:
        """Lets captions of images that have changed be written anew; what is printed stays."""

    def refusal(self, image: Path) -> str:
        """Nothing: a caption can be written of every image."""
        return ""

    def _record(self, image: Path, caption: "Caption") -> Record:
        options = self._options
        return record_of(image, caption, worded=options.wording, attention=options.attention, **self._columns)

    def _lines(self, records: list[Record]) -> str:
        return "".join(map(WRITTEN[self._options.kind], records))


class _Terminal(_Writer):
    def __contains__(self, image: Path) -> bool:
        return False

    def add(self, captions: Mapping[Path, Any]) -> dict[Path, str]:
        text = self._header + self._lines([self._record(*pair) for pair in captions.items()])
        tqdm.write(text, file=sys.stdout, end="")  # above a progress bar, where there is one
        sys.stdout.flush()
        self._header = ""
        return {}


class LinesWriter(_Writer):
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
                headers = {csv_header(**self._columns, absent=absent): absent for absent in ADDED_LATER}
                if line not in headers:
                    raise ValueError(f"its columns are {line.strip()}")
                self._absent = headers[line]
            self._end += len(line.encode())
        if path.stat().st_size and not self._end:
            raise ValueError("no line is whole")

    def __contains__(self, image: Path) -> bool:
        return name_of(image) in self.done

    def forget(self, images: Sequence[Path]) -> None:
        """Removes the lines of these images."""
        names = set(map(name_of, images)) & self.done
        if not names:
            return
        lines = whole_lines(self._path)
        head = [next(lines)] if self._header else []
        data = "".join([*head, *(line for line in lines if READ[self._options.kind](line) not in names)]).encode()
        atomic_write(self._path, data)
        self._end = len(data)
        self.done -= names

    def add(self, captions: Mapping[Path, Any]) -> dict[Path, str]:
        records = [self._fitting(image, caption) for image, caption in captions.items()]
        data = (("" if self._end else self._header) + self._lines(records)).encode()
        with explain_disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.truncate(self._end)
                file.write(data)
        self._end += len(data)
        self.done.update(map(name_of, captions))
        return {}

    def _fitting(self, image: Path, caption: "Caption") -> Record:
        """The record with the columns of this file; a confidence never stands where no verdict says what it is."""
        record = self._record(image, caption)
        if "verdict" in self._absent and not caption.calibrated:
            record["confidence"] = None
        return {key: value for key, value in record.items() if key not in self._absent}


class _Sidecars(_Writer):
    """A .txt or .json file beside each image, called like it."""

    def __init__(self, options: OutputOptions, several: bool, journal: Journal | None = None) -> None:
        super().__init__(options, several)
        self._owners: dict[Path, Path] = {}
        self._journal = journal
        self._written: dict[Path, tuple[bytes, bytes]] = {}  # files of this run: before, and the digest of after
        self._renewed: set[Path] = set()

    def forget(self, images: Sequence[Path]) -> None:
        """Lets the captions of these images be written anew, where nobody has changed them."""
        for place in map(self._place, images):
            if place in self._written and place.exists() and _digest(place.read_bytes()) == self._written[place][1]:
                self._renewed.add(place)

    def _place(self, image: Path) -> Path:
        return image.with_suffix(f".{self._options.kind}")

    def __contains__(self, image: Path) -> bool:
        place = self._place(image)
        if place in self._renewed:
            return False
        if self._options.if_exists == "skip":
            return place.exists()
        done = self._journal.done.get(self._journal.name_of(place)) if self._journal else None
        return bool(done) and read_texts(place, "text") == done

    def add(self, captions: Mapping[Path, Any]) -> dict[Path, str]:
        problems = {}
        for image, caption in captions.items():
            place = self._place(image)
            owner = place if place == image else self._owners.setdefault(place, image)
            if owner == image != place:
                before = self._before(place)
                data = self._text(before, self._record(image, caption))
                self._write(place, data)
                self._renewed.discard(place)
                if self._options.watch:
                    self._written[place] = before, _digest(data)
            else:
                problems[image] = f"{name_of(image)} would share {place.name} with {owner.name}; use --output for it."
        return problems

    def _write(self, place: Path, data: bytes) -> None:
        if self._journal:
            text = {"text": data.decode("utf-8", "surrogateescape")}
            Rewriter(self._journal).write(place, "text", lambda _: text)
        else:
            atomic_write(place, data)

    def _before(self, place: Path) -> bytes:
        """What another program or person wrote into the file, where that is to be kept."""
        if self._options.if_exists not in ("append", "prepend"):
            return b""
        if place in self._renewed:
            return self._written[place][0]
        return place.read_bytes() if place.exists() else b""

    def _text(self, before: bytes, record: Record) -> bytes:
        if self._options.kind == "json":
            return (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode()
        lines, old = [text.encode() for text in texts_of(record)], before.splitlines()
        fresh = [line for line in lines if line not in old]  # an interrupted run has written the others
        return b"\n".join([*fresh, *old] if self._options.if_exists == "prepend" else [*old, *fresh]) + b"\n"


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
