"""Many images -> their captions, batch by batch, while the next images are read.

Knows nothing of models: it is handed a captioner; nor of files: a book holds captions and takes new ones.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from captioning.data.dataset import find_images
from captioning.data.images import read_image
from captioning.errors import DataError, ImageError
from captioning.inference.writers import CaptionWriter, name_of
from captioning.options import DecodeOptions

BATCH = 64


def find_images_in(paths: Sequence[Path]) -> list[Path]:
    """The images that the paths name, those in folders and the folders within included, each once."""
    images: list[Path] = []
    for path in paths:
        found = find_images(path) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} holds no image; give a folder with some, or an image.")
        images += found
    return list(dict.fromkeys(images))


def caption_folder(
    caption: Callable[[list[Path]], Iterable[dict[Path, Any]]], images: Sequence[Path], book: CaptionWriter
) -> list[str]:
    """Adds to the book the captions of the images it does not hold; returns a sentence for each image left out.

    `caption` gives batches of the images it is handed, as `caption_images` does, in any order.
    """
    left = [image for image in images if image not in book]
    problems: list[str] = []
    done = len(images) - len(left)
    with tqdm(desc="captions", total=len(images), initial=done, unit="image", disable=None) as bar:
        for batch in caption(left):
            errors = {image: seen for image, seen in batch.items() if isinstance(seen, ImageError)}
            problems += [told(image, error) for image, error in errors.items()]
            problems += book.add({image: caption for image, caption in batch.items() if image not in errors})
            bar.update(len(batch))
    return problems


def caption_images(captioner: Any, images: Iterable[Path], search: DecodeOptions) -> Iterator[dict[Path, Any]]:
    """Batches of 64 readable images, the last one of fewer: the Caption of each, or why it cannot be read."""
    for batch in _batches(read_ahead(images, captioner.image_size)):
        pixels = {image: seen for image, seen in batch.items() if isinstance(seen, np.ndarray)}
        captions = captioner.caption(list(pixels.values()), search)
        yield batch | dict(zip(pixels, captions, strict=True))


def _batches(images: Iterable[tuple[Path, Any]]) -> Iterator[dict[Path, Any]]:
    batch: dict[Path, Any] = {}
    readable = 0
    for image, seen in images:
        batch[image] = seen
        readable += isinstance(seen, np.ndarray)
        if readable == BATCH:
            yield batch
            batch, readable = {}, 0
    if batch:
        yield batch


def read_ahead(images: Iterable[Path], size: int) -> Iterator[tuple[Path, np.ndarray | ImageError]]:
    """Each image as (size, size, 3) pixels, or why it cannot be read; two batches are read ahead of the caller."""
    waiting: deque[Any] = deque()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for image in images:
            waiting.append((image, pool.submit(_read, image, size)))
            if len(waiting) > 2 * BATCH:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(image: Path, size: int) -> np.ndarray | ImageError:
    try:
        return read_image(image, size=size)
    except ImageError as error:
        return error


def told(image: Path, error: ImageError) -> str:
    """The error's sentence, which begins with the file's name, with its whole path."""
    return name_of(image) + str(error).removeprefix(str(image)).removeprefix(image.name)
