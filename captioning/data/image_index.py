"""Facts about image files: whether they open, which are copies of each other, which show one scene.

Facts about files are remembered between runs. Captions and splits are no matter of this module.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from captioning.data.images import open_image, read_image
from captioning.errors import ImageError, StorageError
from captioning.runtime.read_ahead import map_ahead

CACHE_FILE = "images.jsonl"
AHEAD = 256  # images
CELLS = 16  # to a side; each has a mean colour
ALIKE = 30  # levels of 256; of copies saved anew 99 % differ by 25 at most, other scenes by 38, photographs by 65
ALIKE_SHARE = 1 / 4  # of a picture's own range of levels, which in fog, at night or on a page of text is a small one
SAME_SCENE = 24  # levels, of means of 3 x 3 cells; of a burst's pictures 96 % differ by less, other scenes by 34
SAME_SCENE_SHARE = 1 / 8  # of a picture's own range of levels
SCENES = 20_000  # remembered; older ones are forgotten, so that the memory stays below 30 MB
Key = tuple[str, int, int]  # absolute path, size in bytes, time of change in ns


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one file; `cells` are the mean colours of its 16 x 16 parts, row by row, 3 bytes each."""

    sha256: str
    cells: bytes
    error: str = ""


class DuplicateFinder:
    """Finds a picture again among many, though it was scaled or compressed anew."""

    def __init__(self, facts: Mapping[Path, ImageFacts]) -> None:
        self._images = [image for image, fact in facts.items() if not fact.error]
        self._files = {facts[image].sha256: image for image in reversed(self._images)}
        self._cells = _levels(b"".join(facts[image].cells for image in self._images))  # (N, 16, 16, 3)
        self._coarse = np.ascontiguousarray(_coarse(self._cells).T)  # (48, N)

    def find(self, fact: ImageFacts) -> Path | None:
        """Return the same file, else the most similar of the copies, or None where there is no copy."""
        if fact.error:
            return None
        return self._files.get(fact.sha256) or self._most_similar(_levels(fact.cells)[0])

    def _most_similar(self, cells: np.ndarray) -> Path | None:
        alike = min(ALIKE, ALIKE_SHARE * np.ptp(cells, axis=(0, 1)).max())
        near = np.arange(len(self._images))
        for levels, level in zip(self._coarse, _coarse(cells)[0], strict=True):  # no further apart than the cells are
            near = near[np.abs(levels[near] - level) <= alike]
        differences = np.abs(self._cells[near].astype(np.int16) - cells).max(axis=(1, 2, 3))
        return self._images[near[differences.argmin()]] if differences.min(initial=256) <= alike else None


class SceneIndex:
    """Finds among the scenes seen so far the one that a picture shows, as the next of a burst or a copy does.

    A picture is compared with the first one of each scene, so that a slow pan does not become one scene.
    """

    def __init__(self) -> None:
        self._means = np.zeros((SCENES, (CELLS - 2) ** 2 * 3), np.uint8)
        self._few = np.zeros((len(range(0, CELLS - 2, 3)) ** 2 * 3, SCENES), np.uint8)
        self._count = 0

    def number_of(self, pixels: np.ndarray) -> tuple[int, bool]:
        """Return the number of the scene that (size, size, 3) pixels show, and whether it is a new one."""
        means = _scene_means(pixels)
        place = self._find(means)
        if place is not None:  # the last scene of all that were put there
            return self._count - 1 - (self._count - 1 - place) % SCENES, False
        number, place = self._count, self._count % SCENES
        self._means[place], self._few[:, place] = means.ravel(), _few(means)
        self._count += 1
        return number, True

    def _find(self, means: np.ndarray) -> int | None:
        alike = min(SAME_SCENE, SAME_SCENE_SHARE * int(np.ptp(means, axis=(0, 1)).max()))
        near = np.arange(min(self._count, SCENES))
        for levels, level in zip(self._few, _few(means), strict=True):
            near = near[np.abs(levels[near].astype(np.int16) - level) <= alike]
        differences = np.abs(self._means[near].astype(np.int16) - means.ravel()).max(axis=1, initial=0)
        return int(near[differences.argmin()]) if differences.min(initial=256) <= alike else None


def _scene_means(pixels: np.ndarray) -> np.ndarray:
    """The mean colours of all 3 x 3 neighbouring cells, (14, 14, 3): a step aside changes them little."""
    cells = np.asarray(Image.fromarray(pixels).resize((CELLS, CELLS), Image.Resampling.BOX), np.float32)
    columns = cells[:, :-2] + cells[:, 1:-1] + cells[:, 2:]
    return np.rint((columns[:-2] + columns[1:-1] + columns[2:]) / 9).astype(np.uint8)


def _few(means: np.ndarray) -> np.ndarray:
    """Some of them, that tell most scenes apart."""
    return means[::3, ::3].ravel()


def index_images(images: Sequence[Path], cache: Path | None = None, progress: bool = True) -> dict[Path, ImageFacts]:
    """Return the facts about each image, reading only files that changed since `cache`, a folder, last saw them."""
    keys = {image: _key(image) for image in images}
    known = _remembered(cache / CACHE_FILE, set(keys.values())) if cache else {}
    facts = {image: known[key] for image, key in keys.items() if key in known}
    unread = [image for image in keys if image not in facts]
    looked = map_ahead(_look, unread, AHEAD)
    bar = tqdm(looked, "reading images", len(unread), unit="image", disable=None if progress and unread else True)
    fresh = _remember(cache / CACHE_FILE, keys, bar) if cache and unread else dict(bar)
    return {image: facts.get(image) or fresh[image] for image in images}


def cells_of(pixels: np.ndarray) -> bytes:
    """Return the mean colours of the 16 x 16 parts of (64, 64, 3) pixels."""
    means = pixels.reshape(CELLS, 64 // CELLS, CELLS, 64 // CELLS, 3).mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8).tobytes()


def _levels(cells: bytes) -> np.ndarray:
    return np.frombuffer(cells, np.uint8).reshape(-1, CELLS, CELLS, 3)


def _coarse(cells: np.ndarray) -> np.ndarray:
    return cells.reshape(-1, 4, CELLS // 4, 4, CELLS // 4, 3).mean(axis=(2, 4), dtype=np.float32).reshape(-1, 48)


def _look(image: Path) -> ImageFacts:
    digest = ""
    try:
        with open_image(image) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            return ImageFacts(digest, cells_of(read_image(file, size=64)))
    except ImageError as error:
        return ImageFacts(digest, b"", str(error))
    except OSError as error:
        return ImageFacts("", b"", f"the file cannot be opened: {error.strerror}")


def _key(image: Path) -> Key:
    try:
        status = image.stat()
    except OSError:
        return str(image.absolute()), -1, -1
    return str(image.absolute()), status.st_size, status.st_mtime_ns


def _remembered(file: Path, wanted: Set[Key]) -> dict[Key, ImageFacts]:
    """Return what the file holds of the wanted images, reading it line by line: it may be of many data sets."""
    known: dict[Key, ImageFacts] = {}
    if not file.exists():
        return known
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                path, size, changed, digest, cells, error = json.loads(line)
                if not error and (path, size, changed) in wanted:
                    known[path, size, changed] = ImageFacts(digest, base64.b64decode(cells, validate=True))
            except (ValueError, TypeError):  # a line cut off when the machine stopped, or of an older version
                continue
    return known


def _remember(file: Path, keys: dict[Path, Key], looked: Iterable[tuple[Path, ImageFacts]]) -> dict[Path, ImageFacts]:
    fresh = {}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8", buffering=1) as lines:
            lines.write("\n")  # ends a line that was cut off
            for image, facts in looked:
                fresh[image] = facts
                if not facts.error:  # a later version, or one with another library, may read what this one cannot
                    cells = base64.b64encode(facts.cells).decode()
                    lines.write(json.dumps([*keys[image], facts.sha256, cells, facts.error]) + "\n")
    except OSError as error:
        raise StorageError(
            f"{file} cannot be written ({error.strerror}); free some space or choose another cache."
        ) from error
    return fresh
