"""How captions are commonly laid out in files: each reader turns one file into rows (image name, caption, split).

A line that cannot be used becomes a Problem instead of a row. It knows nothing of where the images are.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

IMAGE_COLUMNS = (
    *("image", "images", "image_name", "image_path", "image_file", "file_name", "filename", "filepath", "file_path"),
    *("file", "path", "img", "img_path", "img_name", "photo", "picture", "image_id"),
)
CAPTION_COLUMNS = (
    *("caption", "captions", "text", "description", "sentence", "sentences", "comment", "raw"),
    *("alt", "alt_text"),
)
SPLIT_COLUMNS = ("split", "subset", "partition")
LANGUAGE_COLUMNS = ("language", "lang", "locale")
IMAGE_SUFFIX = re.compile(r"\.(jpe?g|jpe|jfif|png|gif|bmp|webp|heic|heif|avif|tiff?)$", re.IGNORECASE)
RAW_SUFFIX = re.compile(r"\.(cr2|cr3|nef|nrw|arw|srf|sr2|dng|orf|rw2|raf|pef|srw|x3f)$", re.IGNORECASE)  # of cameras
CAPTION_FILES = (".txt", ".csv", ".tsv", ".token", ".json", ".jsonl")
LIKELY_NAMES = ("token", "caption", "metadata", "dataset", "results", "annotation")
SPLIT_WORDS = {"train": "train", "training": "train", "restval": "train", "test": "test", "testing": "test"}
SPLIT_WORDS |= dict.fromkeys(("val", "valid", "validation", "dev"), "dev")
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_WORDS)})(?![a-z])", re.IGNORECASE)
MAX_QUOTED_LINES = 20
MAX_LINE = 1_000_000  # bytes that are kept of a line
MAX_JSON = 200_000_000  # bytes of a JSON document, which is in the memory as a whole; Karpathy's of COCO has 144 MB


@dataclass(frozen=True)
class Problem:
    """Something that was left out: where it is ("captions.txt:17", or an image's name) and what is wrong with it."""

    where: str
    what: str


@dataclass(frozen=True)
class Row:
    """One caption of one image as a file states it; `split` and `language` are "" where the file does not say."""

    where: str
    image: str
    caption: str
    split: str = ""
    language: str = ""


@dataclass(frozen=True)
class Source:
    """One caption file: its layout in words, the folder its image names start from, its rows, the split in its name."""

    words: str
    folder: Path
    rows: Iterable[Row | Problem]
    split: str = ""


@dataclass(frozen=True)
class _Columns:
    image: str
    captions: tuple[str, ...]
    split: str
    language: str


def find_captions(
    path: Path, files: list[Path], stems: set[str], *, image_column: str = "", caption_column: str = ""
) -> list[Source]:
    """Return the caption files at `path`: that file, or the likeliest of `files` with those of the other splits, or [].

    `stems` are the images' names without suffix: a text file of such a name holds the captions of that one image.
    """
    chosen = (image_column, caption_column)
    if path.is_file():
        return [source] if (source := _recognise(path, chosen)) else []
    texts = [file for file in files if file.suffix.lower() in CAPTION_FILES and file.is_file()]
    sidecars = [file for file in texts if file.suffix.lower() == ".txt" and file.stem in stems]
    candidates = sorted(set(texts) - set(sidecars), key=lambda file: _rank(file, path))
    for file in candidates:
        if source := _recognise(file, chosen):
            return _family(source, file, candidates, path, chosen)
    return [Source("one text file beside each image", path, _sidecar_rows(sidecars, path))] if sidecars else []


def is_too_large(file: Path) -> bool:
    """Whether a file is a JSON document of more bytes than are read at once."""
    return file.suffix.lower() == ".json" and file.stat().st_size > MAX_JSON


def split_named(word: str) -> str:
    """Return train, dev or test for a word such as "validation" or "train2017", else ""."""
    return SPLIT_WORDS.get(word.strip().lower().rstrip("0123456789"), "")


def column_names(file: Path) -> list[str]:
    """Return the names in the first line of a table, for a person to choose from."""
    first = next(read_lines(file), "")
    return [name.strip(' "') for name in first.split(max("\t|;,", key=first.count))]


def read_lines(file: Path) -> Iterator[str]:
    """Yield the lines of a text file: UTF-8, UTF-16 with a byte order mark, and Windows Latin where neither fits.

    The file is read as the lines are needed; of a line of more than a million bytes only the first part is given.
    """
    with file.open("rb") as content:
        mark = content.read(3)
        if not mark.startswith((b"\xff\xfe", b"\xfe\xff")):
            content.seek(3 if mark == b"\xef\xbb\xbf" else 0)
            yield from map(_decode, _byte_lines(content))
            return
    with file.open(encoding="utf-16", errors="replace") as text:
        yield from (line.removesuffix("\n") for line in iter(lambda: text.readline(MAX_LINE), ""))


def _byte_lines(content: BinaryIO) -> Iterator[bytes]:
    left = b""
    while part := content.read(MAX_LINE):
        while part.endswith(b"\r") and (more := content.read(1)):  # the end of a line may be in two parts
            part += more
        *lines, left = (left + part).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        yield from lines
        left = left[:MAX_LINE]
    yield left


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def _rank(file: Path, root: Path) -> tuple[bool, int, int, str]:
    name = file.name.lower()
    likely = next((place for place, word in enumerate(LIKELY_NAMES) if word in name), len(LIKELY_NAMES))
    return "lemma" in name, likely, len(file.relative_to(root).parts), str(file)


def _family(first: Source, file: Path, candidates: list[Path], root: Path, chosen: tuple[str, str]) -> list[Source]:
    """Return the files whose names differ from the first only in train, dev, test, if at least two of these occur."""
    names = {candidate: candidate.relative_to(root).as_posix() for candidate in candidates}
    pattern = SPLIT_WORD.sub("*", names[file])
    splits = {
        candidate: SPLIT_WORDS[word[0].lower()]
        for candidate, name in names.items()
        if (word := SPLIT_WORD.search(name)) and SPLIT_WORD.sub("*", name) == pattern
    }
    if len(set(splits.values())) < 2:
        return [first]
    read = {other: first if other == file else _recognise(other, chosen) for other in splits}
    return [replace(source, split=splits[other]) for other, source in read.items() if source]


def _recognise(file: Path, chosen: tuple[str, str]) -> Source | None:
    return _json(file, chosen) if file.suffix.lower().startswith(".json") else _table(file, chosen)


def _sidecar_rows(sidecars: list[Path], root: Path) -> Iterator[Row | Problem]:
    for file in sidecars:
        where = file.relative_to(root).as_posix()
        captions = [line for line in read_lines(file) if line.strip()]
        if not captions:
            yield Problem(where, "no caption")
        yield from (Row(where, where.removesuffix(file.suffix), caption) for caption in captions)


def _table(file: Path, chosen: tuple[str, str]) -> Source | None:
    """Flickr8k.token.txt, Kaggle's captions.txt, Flickr30k's results.csv, any CSV or TSV with telling column names."""
    number, first = next(((number, line) for number, line in enumerate(read_lines(file), 1) if line.strip()), (0, ""))
    for delimiter in "\t|;,":
        names = tuple(next(csv.reader([first[:10_000]], delimiter=delimiter), ()))
        if _columns(names, *chosen):
            records = _quoted_records(islice(read_lines(file), number, None), number + 1, delimiter, len(names))
            return Source("a table with a header", file.parent, _table_rows(file.name, records, names, chosen))
        if len(names) == 2 and IMAGE_SUFFIX.search(_image_name(names[0])) and not any(chosen):
            records = ((number, line.split(delimiter, 1)) for number, line in enumerate(read_lines(file), 1))
            rows = _table_rows(file.name, records, ("image", "caption"), chosen)
            return Source("an image and a caption a line", file.parent, rows)
    return None


def _table_rows(
    name: str, records: Iterable[tuple[int, list[str]]], names: tuple[str, ...], chosen: tuple[str, str]
) -> Iterator[Row | Problem]:
    for number, fields in records:
        if not any(field.strip() for field in fields):
            continue
        if len(fields) == len(names):
            yield from _record_rows(f"{name}:{number}", dict(zip(names, fields, strict=True)), chosen)
        else:
            yield Problem(f"{name}:{number}", f"{len(fields)} columns where {len(names)} were expected")


def _quoted_records(lines: Iterator[str], number: int, delimiter: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields); a quoted field may span lines, an unquoted last one may hold delimiters."""
    ahead: deque[str] = deque()
    while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
        if '"' in line:
            ahead.extend(islice(lines, MAX_QUOTED_LINES - 1 - len(ahead)))
        most = 1 + len(ahead) if '"' in line else 1
        span, fields = next(
            (
                (span, fields)
                for span in range(1, most + 1)
                if (fields := _parse("\n".join([line, *islice(ahead, span - 1)]), delimiter)) and len(fields) == width
            ),
            (1, line.split(delimiter, width - 1)),
        )
        yield number, fields
        number += span
        for _ in range(span - 1):
            ahead.popleft()


def _parse(text: str, delimiter: str) -> list[str]:
    try:
        records = list(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    return records[0] if len(records) == 1 else []


def _json(file: Path, chosen: tuple[str, str]) -> Source | None:
    if file.suffix.lower() == ".jsonl":
        return _records(file, lambda: _json_lines(file), chosen)
    if is_too_large(file):
        return None
    content = _parse_json(file.read_bytes()) or _parse_json("\n".join(read_lines(file)))
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _images(file, content["images"], content.get("annotations"))
    if isinstance(content, dict):
        content = [{"image": name, "caption": value} for name, value in content.items() if IMAGE_SUFFIX.search(name)]
    items = content if isinstance(content, list) else []
    return _records(file, lambda: ((f"{file.name}, record {n}", item) for n, item in enumerate(items, 1)), chosen)


def _json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_lines(file), 1):
        if line.strip():
            yield f"{file.name}:{number}", _parse_json(line)


def _records(file: Path, records: Callable[[], Iterator[tuple[str, Any]]], chosen: tuple[str, str]) -> Source | None:
    """`records` begins anew when it is called."""
    if not any(isinstance(record, dict) and _columns(tuple(record), *chosen) for _, record in records()):
        return None
    rows = (row for where, record in records() for row in _record_rows(where, record, chosen))
    return Source("JSON records of an image and its captions", file.parent, rows)


def _images(file: Path, images: list[Any], annotations: Any) -> Source | None:
    if isinstance(annotations, list) and _any_has("caption", annotations):
        return Source("COCO captions", file.parent, _coco_rows(file.name, images, annotations))
    if _any_has("sentences", images):
        return Source("Karpathy's split", file.parent, _karpathy_rows(file.name, images))
    return None


def _any_has(key: str, items: list[Any]) -> bool:
    return any(isinstance(item, dict) and key in item for item in items)


def _coco_rows(name: str, images: list[Any], annotations: list[Any]) -> Iterator[Row | Problem]:
    file_names = {str(image.get("id")): image.get("file_name") for image in images if isinstance(image, dict)}
    for number, item in enumerate(annotations, 1):
        entry = item if isinstance(item, dict) else {}
        image = file_names.get(str(entry.get("image_id")), "")
        yield from _rows(f"{name}, annotation {number}", image, entry.get("caption"))


def _karpathy_rows(name: str, images: list[Any]) -> Iterator[Row | Problem]:
    for number, item in enumerate(images, 1):
        entry = item if isinstance(item, dict) else {}
        folder, image = entry.get("filepath"), entry.get("filename")
        path = f"{folder}/{image}" if folder and image else image
        yield from _rows(f"{name}, image {number}", path, entry.get("sentences"), entry.get("split"))


def _record_rows(where: str, record: object, chosen: tuple[str, str]) -> Iterator[Row | Problem]:
    columns = _columns(tuple(record), *chosen) if isinstance(record, dict) else None
    if not isinstance(record, dict) or not columns:
        yield Problem(where, "no record with an image and a caption")
        return
    values = [record[caption] for caption in columns.captions if record[caption]]  # numbered columns may be empty
    value, stated = values[0] if len(values) == 1 else values, (record.get(columns.split), record.get(columns.language))
    yield from _rows(where, record[columns.image], value, *stated)


def _rows(
    where: str, image: object, value: object, split: object = "", language: object = ""
) -> Iterator[Row | Problem]:
    captions, stated = _captions(value), [str(each or "").strip() for each in (split, language)]
    if not isinstance(image, str | int) or not _image_name(str(image)):
        yield Problem(where, "no image name")
    elif not captions:
        yield Problem(where, "no caption")
    else:
        yield from (Row(where, _image_name(str(image)), caption, *stated) for caption in captions)


def _captions(value: object) -> list[str]:
    if isinstance(value, str) and value.startswith('["'):
        value = _parse_json(value) or value
    items = value if isinstance(value, list) else [value]
    texts = [item.get("raw", item.get("caption")) if isinstance(item, dict) else item for item in items]
    return [text for text in texts if isinstance(text, str)]


@lru_cache(maxsize=1000)
def _columns(names: tuple[str, ...], image_column: str, caption_column: str) -> _Columns | None:
    plain = {_plain(name): name for name in reversed(names)}
    image = _first([_plain(image_column)] if image_column else IMAGE_COLUMNS, plain)
    caption = _first([_plain(caption_column)] if caption_column else CAPTION_COLUMNS, plain)
    numbered = [plain[name] for name in reversed(plain) if re.fullmatch(r"(caption|text|sentence|comment)_?\d+", name)]
    captions = [caption] if caption is not None else [] if caption_column else numbered
    if image is None or not captions or image in captions:
        return None
    return _Columns(image, tuple(captions), *(_first(some, plain) or "" for some in (SPLIT_COLUMNS, LANGUAGE_COLUMNS)))


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip(' "').lower())


def _first(wanted: Iterable[str], plain: dict[str, str]) -> str | None:
    return next((plain[name] for name in wanted if name in plain), None)


def _image_name(text: str) -> str:
    return re.sub(r"#\d+$", "", text.strip())


def _parse_json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
