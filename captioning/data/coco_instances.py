"""Reads pictures whose objects have masks, in COCO's instances format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captioning.data.coco_masks import check_mask, decode_mask
from captioning.errors import DataError
from captioning.runtime import strict_json

NAMES = ("instances.json", "annotations/instances.json", "annotations/instances_train2017.json")
PIXELS = 89_000_000  # of a picture, as for the pictures of captions


@dataclass(frozen=True)
class Instance:
    """An object of a picture: its category and its mask."""

    label: str
    segmentation: Any
    height: int
    width: int

    @property
    def mask(self) -> np.ndarray:
        """(H, W) of bool, decoded anew each time, so that a large data set fits into memory."""
        return decode_mask(self.segmentation, self.height, self.width)


@dataclass(frozen=True)
class Picture:
    """A picture and its objects."""

    path: Path
    height: int
    width: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Instances:
    """The pictures with at least one object, and the names of all categories, in the order of their numbers."""

    pictures: tuple[Picture, ...]
    categories: tuple[str, ...]
    crowds: int  # annotations with iscrowd, which are left out


def read_instances(data: Path, images: Path | None = None) -> Instances:
    """The data of an instances file, or of a folder with one. `images` is the folder of its pictures.

    Raises DataError in one sentence for whatever cannot be used.
    """
    path = _find(data)
    content = _content(path)
    categories = _categories(path, content["categories"])
    sizes = _images(path, content["images"], images or _beside(path))
    objects: dict[int, list[Instance]] = {}
    crowds = 0
    for number, entry in enumerate(content["annotations"]):
        if isinstance(entry, dict) and entry.get("iscrowd"):
            crowds += 1
            continue
        image, instance = _instance(f"{path}: annotation {_name(entry, number)}", entry, sizes, categories)
        objects.setdefault(image, []).append(instance)
    if not objects:
        raise DataError(f"{path} has no annotation with a mask; segmentation learns from COCO's instances files.")
    pictures = [
        Picture(*sizes[image], tuple(objects[image])) for image in sorted(objects, key=lambda image: sizes[image][0])
    ]
    for picture in pictures:
        if not picture.path.is_file():
            raise DataError(f"{picture.path} is missing, which {path} names; give the pictures' folder with --images.")
    return Instances(tuple(pictures), tuple(categories[each] for each in sorted(categories)), crowds)


def _find(data: Path) -> Path:
    if data.is_file():
        return data
    for name in NAMES:
        if (data / name).is_file():
            return data / name
    raise DataError(f"{data} holds no {NAMES[0]}; give a COCO instances file, or a folder with {' or '.join(NAMES)}.")


def _beside(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _content(path: Path) -> dict[str, Any]:
    try:
        content = strict_json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not readable JSON ({error}); copy it again.") from None
    wanted = ("images", "categories", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in wanted):
        raise DataError(f"{path} is not a COCO instances file: lists called {', '.join(wanted)} were expected.")
    return content


def _categories(path: Path, entries: list[Any]) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in entries:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if type(number) is not int or not isinstance(name, str) or not name.strip() or number in found:
            raise DataError(f"{path} has a category without an own id and a name ({str(entry)[:80]}); correct it.")
        found[number] = name
    if not found or len(set(found.values())) < len(found):
        raise DataError(f"{path} has {'two categories of one name' if found else 'no categories'}; correct it.")
    return found


def _images(path: Path, entries: list[Any], folder: Path) -> dict[int, tuple[Path, int, int]]:
    found: dict[int, tuple[Path, int, int]] = {}
    for entry in entries:
        if not _is_image(entry) or entry["id"] in found:
            raise DataError(f"{path} has an image without an own id, file_name, height and width ({str(entry)[:80]}).")
        name, height, width = entry["file_name"], entry["height"], entry["width"]
        if min(height, width) < 1 or height * width > PIXELS:
            raise DataError(f"{path}: {name} has {width} x {height} pixels, which no picture has; correct it.")
        parts = Path(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise DataError(f"{path}: {name} is outside the pictures' folder; name pictures within {folder}.")
        found[entry["id"]] = folder / parts, height, width
    return found


def _is_image(entry: object) -> bool:
    if not isinstance(entry, dict) or not all(type(entry.get(name)) is int for name in ("id", "height", "width")):
        return False
    name = entry.get("file_name")
    return isinstance(name, str) and bool(name) and "\0" not in name


def _instance(
    place: str, entry: object, sizes: Mapping[int, tuple[Path, int, int]], categories: Mapping[int, str]
) -> tuple[int, Instance]:
    if not isinstance(entry, dict):
        raise DataError(f"{place} is not an object of JSON; COCO has image_id, category_id and segmentation there.")
    image, category, segmentation = (entry.get(name) for name in ("image_id", "category_id", "segmentation"))
    if type(image) is not int or image not in sizes:
        raise DataError(f"{place} is of image {str(image)[:40]}, which the file does not list; correct its image_id.")
    if type(category) is not int or category not in categories:
        raise DataError(f"{place} has category {str(category)[:40]}, which the file does not list; correct it.")
    _, height, width = sizes[image]
    try:
        check_mask(segmentation, height, width)
    except ValueError as error:
        raise DataError(f"{place} has no usable mask: {error}.") from None
    return image, Instance(categories[category], segmentation, height, width)


def _name(entry: object, number: int) -> str:
    return str(entry.get("id", number))[:40] if isinstance(entry, dict) else str(number)
