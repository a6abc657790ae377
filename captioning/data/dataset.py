"""A folder of captioned images, in any common layout -> a Dataset whose splits share no image.

Nothing here opens an image; a picture that cannot be read is the matter of the check.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

from captioning.data.formats import (
    IMAGE_SUFFIX,
    MAX_JSON,
    RAW_SUFFIX,
    Problem,
    Row,
    Source,
    column_names,
    find_captions,
    is_too_large,
    read_lines,
    split_named,
)
from captioning.errors import DataError
from captioning.options import is_language

SPLITS = ("train", "dev", "test")
MAX_WORDS = 200
MAX_CHARACTERS = 5_000
MAX_PROBLEMS = 10_000  # each with its place; what is wrong beyond is counted
HELD_OUT = 0.1
UNDERSTOOD = (
    "Flickr8k.token.txt with its image lists, captions.txt, CSV or TSV with columns such as image and caption,"
    " COCO captions JSON, Karpathy's JSON, metadata.jsonl, or one .txt beside each image"
)

SPLIT_LIST = re.compile(r"(?:^|[._-])(train|val|dev|test)_?images\.txt$", re.IGNORECASE)
COCO_2014 = re.compile(r"coco_[a-z]+2014_(?=\d{12}$)")  # before the number that alone is the name in COCO of 2017
BROKEN_CHARACTER = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")

Caption = tuple[str, str]  # its language, "" where that is not stated, and its text
Captions = dict[Path, dict[str, list[Caption]]]  # image -> its captions by the split that their rows state, or ""
Locate = Callable[[str, Path], Path | str]


@dataclass(frozen=True)
class Dataset:
    """Captioned images by split; `problems` are the lines and images left out, `layout` says what was recognised.

    `languages` counts the captions whose language the data states, also those in others than `language`, which are left
    out. That is the one asked for, or the only one.
    """

    name: str
    splits: dict[str, dict[Path, list[str]]]
    problems: tuple[Problem, ...] = ()
    layout: str = ""
    languages: dict[str, int] = field(default_factory=dict)
    language: str = ""

    def __post_init__(self) -> None:
        assert set(self.splits) <= set(SPLITS)
        assert not any(a.keys() & b.keys() for a, b in combinations(self.splits.values(), 2)), "splits share an image"

    def without(self, images: Mapping[Path, str]) -> "Dataset":
        """Return the dataset less `images`, each with the reason, which becomes a Problem."""
        splits = {
            split: {image: captions for image, captions in pictures.items() if image not in images}
            for split, pictures in self.splits.items()
        }
        problems = tuple(Problem(image.name, reason) for image, reason in images.items())
        return replace(self, splits=splits, problems=self.problems + problems)


def read_dataset(
    path: Path,
    *,
    image_column: str = "",
    caption_column: str = "",
    images: Path | None = None,
    seed: int = 0,
    language: str = "",
) -> Dataset:
    """Read the captioned images in a folder, or those that a caption file names.

    `images` is the folder of the images where it is another one. Splits are those the data states: in a column,
    in lists, by file or folder names. Else they are 80 % train, 10 % dev and 10 % test of the images, chosen by `seed`;
    all train if there are fewer than 3. Where only dev is missing it is a tenth of train; test is never made up.
    With `language` only captions in it are kept, and those whose language is not stated; the splits stay the same.
    """
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a folder of captioned images, or a caption file.")
    if not (path.is_dir() or path.is_file()):
        raise DataError(f"{path} is neither a folder nor a file; give the folder of the images, or their caption file.")
    root = path if path.is_dir() else path.parent.parent if path.parent.name == "annotations" else path.parent
    image_root = Path(os.path.abspath(images or root))
    files = list(_walk(root))
    pictures = [file for file in (files if image_root == root else _walk(image_root)) if IMAGE_SUFFIX.search(file.name)]
    stems = {picture.stem for picture in pictures}
    sources = find_captions(path, files, stems, image_column=image_column, caption_column=caption_column)
    if not sources:
        raise DataError(_not_recognised(path, files, pictures))
    locate = _locator(pictures, image_root)
    captions, problems = _gather(sources, locate)
    if not captions:
        raise DataError(_nothing_left(path, problems, image_root))
    stated = _stated_splits(captions, files, locate)
    chosen, more_problems = _chosen(stated) if stated else (_drawn(captions, root, seed), [])
    _carve_dev(chosen, root, seed)
    problems += [*more_problems, *_uncaptioned(pictures, captions)]
    layout = ", ".join(dict.fromkeys(source.words for source in sources))
    name = path.stem if path.is_file() else path.name
    languages = _languages(captions)
    if language and language not in (languages or {language}):
        raise DataError(f"{path} has no captions in {language}, only in {', '.join(languages)}; choose one of these.")
    splits = _by_split(captions, chosen, language)
    language = language or (next(iter(languages)) if len(languages) == 1 else "")
    return Dataset(name, splits, tuple(problems), layout, languages, language)


def require_one_language(dataset: Dataset) -> None:
    """Refuse captions in several languages where none was chosen."""
    if len(dataset.languages) > 1 and not dataset.language:
        found = ", ".join(dataset.languages)
        raise DataError(f"{dataset.name} has captions in {found}; choose one with --language, or give those of one.")


def find_images(folder: Path) -> list[Path]:
    """Return the files below `folder` that are called like pictures, hidden ones apart."""
    return [file for file in _walk(folder) if is_called_like_a_picture(file.name)]


def is_called_like_a_picture(name: str) -> bool:
    """Whether a file's name ends as those of pictures do, or of the raw files of cameras."""
    return bool(IMAGE_SUFFIX.search(name) or RAW_SUFFIX.search(name))


def _walk(root: Path) -> Iterator[Path]:
    """Yield the files below `root` in a fixed order, through links but into no folder twice, and into no hidden one."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = sorted(name for name in folders if real not in seen and not name.startswith((".", "__MACOSX")))
        yield from (Path(folder, name) for name in sorted(names) if real not in seen and not name.startswith("."))
        seen.add(real)


def _locator(pictures: list[Path], root: Path) -> Locate:
    """Return a function (image name, folder of the file that names it) -> the image's path, or why there is none."""
    by_name = defaultdict(list)
    for picture in pictures:
        by_name[picture.name.casefold()].append(picture)
        by_name[picture.stem.casefold()].append(picture)
        if (number := COCO_2014.sub("", picture.stem.casefold())) != picture.stem.casefold():
            by_name[number].append(picture)

    @lru_cache(maxsize=200_000)  # images; COCO has 123,287
    def locate(name: str, folder: Path) -> Path | str:
        for place in (folder, root):
            if os.path.isfile(direct := os.path.normpath(place / name)):
                return Path(direct)
        key = name.replace("\\", "/").casefold()
        base = key.rpartition("/")[2]
        stem = IMAGE_SUFFIX.sub("", base)
        found = by_name.get(base) or by_name.get(stem) or by_name.get(COCO_2014.sub("", stem), [])
        if len(found) > 1:
            ending = "/" + IMAGE_SUFFIX.sub("", key)
            found = [picture for picture in found if str(picture.with_suffix("")).casefold().endswith(ending)] or found
        if len(found) == 1:
            return found[0]
        return f"could be {' or '.join(map(str, found[:2]))}" if found else "there is no such image"

    return locate


def _gather(sources: list[Source], locate: Locate) -> tuple[Captions, list[Problem]]:
    captions: Captions = defaultdict(dict)
    problems: list[Problem] = []
    lost: Counter[tuple[str, str]] = Counter()
    more = 0
    for source in sources:
        for row in source.rows:
            problem = row if isinstance(row, Problem) else Problem(row.where, flaw) if (flaw := _flaw(row)) else None
            if problem is None:
                assert isinstance(row, Row)
                image = locate(row.image, source.folder)
                if isinstance(image, Path):
                    split = split_named(row.split) or source.split
                    caption = row.language.lower(), " ".join(row.caption.split())
                    captions[image].setdefault(split, []).append(caption)
                else:
                    is_counted = len(lost) < MAX_PROBLEMS or (row.image, image) in lost
                    lost[(row.image, image) if is_counted else ("other images", "are not there either")] += 1
            elif len(problems) < MAX_PROBLEMS:
                problems.append(problem)
            else:
                more += 1
    problems += [Problem("and more", f"lines of these kinds: {more:,}")] if more else []
    problems += [Problem(name, f"{why}; captions left out: {count}") for (name, why), count in lost.items()]
    return captions, problems


def _flaw(row: Row) -> str:
    words = row.caption.split()
    if BROKEN_CHARACTER.search(row.caption + row.image):
        return "a control character or half a character"
    if not any(map(str.isalnum, row.caption)):
        return "the caption is empty"
    if len(words) > MAX_WORDS or len(row.caption) > MAX_CHARACTERS:
        return f"{len(words):,} words in {len(row.caption):,} characters: {row.caption[:40]}..."
    if row.split and not split_named(row.split):
        return f"the split {row.split[:40]} is none of train, dev (or val), test"
    if row.language and not is_language(row.language.lower()):
        return f"the language {row.language[:40]} is no code such as de or zh-hant"
    return ""


def _stated_splits(captions: Captions, files: list[Path], locate: Locate) -> dict[Path, set[str]]:
    """Return which splits the data puts each image in: by rows, else by lists of images, else by folders; or {}."""
    rows = {image: by_split.keys() - {""} for image, by_split in captions.items()}
    if any(rows.values()):
        return rows
    lists = [
        (file, split_named(kind[1])) for file in files if (kind := SPLIT_LIST.search(file.name)) and file.is_file()
    ]
    listed = defaultdict(set)
    for file, split in lists:
        for line in filter(None, map(str.strip, read_lines(file))):
            listed[locate(line, file.parent)].add(split)
    if captions.keys() & listed.keys():
        return {image: listed.get(image, set()) for image in captions}
    common = os.path.commonpath([image.parent for image in captions])
    tops = {image: image.relative_to(common).parts[:-1] for image in captions}
    folders = {image: {split_named(parts[0]) if parts else ""} for image, parts in tops.items()}
    said = set.union(*folders.values())
    return folders if len(said) > 1 and "" not in said else {}


def _chosen(stated: Mapping[Path, set[str]]) -> tuple[dict[Path, str], list[Problem]]:
    """Put each image in one split, an evaluation split where it is in several."""
    chosen = {image: min(splits, key=("test", "dev", "train").index) for image, splits in stated.items() if splits}
    problems = [
        Problem(image.name, f"is in {' and '.join(sorted(splits))}; kept in {chosen[image]} only")
        for image, splits in stated.items()
        if len(splits) > 1
    ]
    if unlisted := [image for image in stated if image not in chosen]:
        problems.append(Problem(_some(unlisted), "in no split: left out"))
    return chosen, problems


def _drawn(images: Iterable[Path], root: Path, seed: int) -> dict[Path, str]:
    order = _shuffled(images, root, seed)
    held_out = max(1, round(HELD_OUT * len(order))) if len(order) >= 3 else 0
    splits = ["dev"] * held_out + ["test"] * held_out + ["train"] * (len(order) - 2 * held_out)
    return dict(zip(order, splits, strict=True))


def _carve_dev(chosen: dict[Path, str], root: Path, seed: int) -> None:
    train = [image for image, split in chosen.items() if split == "train"]
    if "dev" not in chosen.values() and len(chosen) > 2 and len(train) > 1:
        for image in _shuffled(train, root, seed)[: max(1, round(HELD_OUT * len(train)))]:
            chosen[image] = "dev"


def _shuffled(images: Iterable[Path], root: Path, seed: int) -> list[Path]:
    """Order by a hash of the name: the same on any machine, in any order of the file, and nearly so after additions."""

    def key(image: Path) -> bytes:
        name = image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name
        return hashlib.sha256(os.fsencode(f"{seed} {name}")).digest()

    return sorted(images, key=key)


def _languages(captions: Captions) -> dict[str, int]:
    tags = (tag for by_split in captions.values() for some in by_split.values() for tag, _ in some)
    return dict(sorted(Counter(filter(None, tags)).items()))


def _by_split(captions: Captions, chosen: dict[Path, str], language: str) -> dict[str, dict[Path, list[str]]]:
    splits: dict[str, dict[Path, list[str]]] = {split: {} for split in SPLITS if split in chosen.values()}
    for image in sorted(chosen):
        stated = captions[image]
        some = stated.get("", []) + stated.get(
            chosen[image], stated.get("train", [])
        )  # a dev made of train has its own
        if texts := [text for tag, text in some if not language or tag in ("", language)]:
            splits[chosen[image]][image] = texts
    return {split: images for split, images in splits.items() if images or not language}


def _uncaptioned(pictures: list[Path], captions: Captions) -> list[Problem]:
    bare = [picture for picture in pictures if picture not in captions]
    return [Problem(_some(bare), "no caption: left out")] if bare else []


def _some(images: list[Path]) -> str:
    return images[0].name + (f" and {len(images) - 1:,} more" if len(images) > 1 else "")


def _not_recognised(path: Path, files: list[Path], pictures: list[Path]) -> str:
    if path.is_dir() and not pictures:
        return f"{path} holds no images; expected a folder of JPEG or PNG files with their captions."
    others = [path] if path.is_file() else [file for file in files if not IMAGE_SUFFIX.search(file.name)]
    others = [file for file in others if file.is_file()]
    if large := next((file for file in others if is_too_large(file)), None):
        size, most = large.stat().st_size // 10**6, MAX_JSON // 10**6
        return f"{large} has {size} MB, of JSON at most {most} MB are read; write it as .jsonl, a record on each line."
    tables = [file for file in others if file.suffix.lower() in (".csv", ".tsv")]
    seen = ", ".join(file.name for file in others[:5]) or "no file beside the images"
    columns = f" with the columns {', '.join(column_names(tables[0])[:20])}" if tables else ""
    hint = "; name the columns with image_column and caption_column" if tables else ""
    return f"no captions were recognised in {path}: found {seen}{columns}; understood are {UNDERSTOOD}{hint}."


def _nothing_left(path: Path, problems: list[Problem], image_root: Path) -> str:
    first = f"; first: {problems[0].where}: {problems[0].what}" if problems else ""
    return (
        f"no caption in {path} belongs to an image under {image_root} ({len(problems):,} problems{first});"
        " give the folder of the images with images=, or correct the file."
    )
