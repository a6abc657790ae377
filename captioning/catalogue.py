"""Facts about image files: whether they open, which are the same, which look alike; remembered between runs.

It knows nothing of captions or splits.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from captioning.errors import ImageError, StorageError
from captioning.images import read_image

CACHE_FILE = "images.jsonl"
Key = tuple[str, int, int]  # absolute path, size in bytes, time of change in ns


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one file; `fingerprint` is 64 bits that hardly change when a picture is scaled or compressed."""

    sha256: str
    fingerprint: int
    error: str = ""


def catalogue(images: Sequence[Path], cache: Path | None = None, progress: bool = True) -> dict[Path, ImageFacts]:
    """Return the facts about each image, reading only files that changed since `cache`, a folder, last saw them."""
    keys = {image: _key(image) for image in images}
    known = _remembered(cache / CACHE_FILE) if cache else {}
    facts = {image: known[key] for image, key in keys.items() if key in known}
    unread = [image for image in keys if image not in facts]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = zip(unread, pool.map(_look, unread), strict=True)
        bar = tqdm(looked, "reading images", len(unread), unit="image", disable=None if progress and unread else True)
        fresh = _remember(cache / CACHE_FILE, keys, bar) if cache and unread else dict(bar)
    return {image: facts.get(image) or fresh[image] for image in images}


def fingerprint(pixels: np.ndarray) -> int:
    """Return the difference hash of (72, 72, 3) pixels: 8 x 8 bits, set where it grows brighter from left to right."""
    cells = pixels.mean(axis=2).reshape(8, 9, 9, 8).mean(axis=(1, 3))
    return int.from_bytes(np.packbits(np.diff(cells, axis=1) > 0).tobytes(), "big")


def _look(image: Path) -> ImageFacts:
    digest = ""
    try:
        with image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return ImageFacts(digest, fingerprint(read_image(file, size=72)))
    except ImageError as error:
        return ImageFacts(digest, 0, str(error))
    except OSError as error:
        return ImageFacts("", 0, f"the file cannot be opened: {error.strerror}")


def _key(image: Path) -> Key:
    try:
        status = image.stat()
    except OSError:
        return str(image.absolute()), -1, -1
    return str(image.absolute()), status.st_size, status.st_mtime_ns


def _remembered(file: Path) -> dict[Key, ImageFacts]:
    known = {}
    for line in file.read_text("utf-8", errors="replace").splitlines() if file.exists() else []:
        try:
            path, size, changed, *facts = json.loads(line)
            known[path, size, changed] = ImageFacts(*facts)
        except (ValueError, TypeError):  # a line cut off when the machine stopped
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
                if facts.sha256:
                    lines.write(json.dumps([*keys[image], *asdict(facts).values()]) + "\n")
    except OSError as error:
        raise StorageError(
            f"{file} cannot be written ({error.strerror}); free some space or choose another cache."
        ) from error
    return fresh
