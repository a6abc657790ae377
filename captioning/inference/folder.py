"""Many images -> their captions, batch by batch, while the next images are read; and a summary of the run."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from captioning.data.dataset import find_images
from captioning.data.images import read_image
from captioning.errors import CaptioningError, DataError, ImageError
from captioning.inference.left_out import LeftOut
from captioning.inference.protocol import AnyCaptioner, EncodesApart, encodes_apart
from captioning.inference.records import REASONS, name_of
from captioning.inference.sharing import SharedCaptions
from captioning.inference.writers import CaptionWriter
from captioning.options import DecodeOptions
from captioning.runtime.read_ahead import map_ahead

BATCH = 64
AT_ONCE = 8  # images that a captioner without an encoder of its own is handed
LARGEST_BATCH = 256  # with images that cannot be read, or share the caption of another one
LISTED = 20  # captions of too low a confidence that a summary shows


def find_images_in(paths: Sequence[Path]) -> list[Path]:
    """The images at these paths, in folders and their subfolders too, each once."""
    images: list[Path] = []
    for path in paths:
        found = find_images(path) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} holds no image; give a folder with some, or an image.")
        images += found
    return list(dict.fromkeys(images))


@dataclass
class Summary:
    """What became of the images of one run."""

    known: int = 0  # captions of an earlier run
    written: int = 0
    not_sure: int = 0  # of those written
    unfamiliar: int = 0  # of those written
    not_calibrated: int = 0  # of those written: with a confidence that is not calibrated
    unknown: int = 0  # of those written: without a confidence
    shared: int = 0  # of those written: found for another picture of the same scene
    problems: list[str] = field(default_factory=list)  # a sentence for each image that has no caption
    left_out: list[str] = field(default_factory=list)  # a line for each caption of too low a confidence

    def text(self, place: str = "", left_out: Path | None = None) -> str:
        """One sentence, then a line for each image left out: at most 20 for their confidence, if `left_out` has all."""
        missing = len(self.problems) + len(self.left_out)
        parts = [f"{_count(self.written, 'new caption' if self.known else 'caption')}{place}"]
        if self.known:
            parts.append(f"{self.known:,} there already")
        if self.not_sure:
            parts.append(f"{self.not_sure:,} not sure")
        if self.unfamiliar:
            parts.append(f"{self.unfamiliar:,} of unfamiliar pictures")
        for count, says in ((self.not_calibrated, "confidence not calibrated"), (self.unknown, "confidence unknown")):
            if count:
                parts.append(("" if count == self.written else f"{count:,} with ") + says)
        if self.shared:
            parts.append(f"{self.shared:,} shared with a similar picture")
        if missing:
            parts.append(f"{missing:,} left out")
        shown = self.left_out[:LISTED] if left_out else self.left_out
        lines = [f"  {line}" for line in (*self.problems, *shown)]
        if left_out and shown:
            more = len(self.left_out) - len(shown)
            lines.append(
                f"  ... and {more:,} more; {left_out} lists all." if more else f"  {left_out} lists these too."
            )
        return "\n".join([", ".join(parts) + (":" if missing else "."), *lines])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def caption_folder(
    caption: Callable[[list[Path]], Iterable[dict[Path, Any]]],
    images: Sequence[Path],
    writer: CaptionWriter,
    left_out: LeftOut | None = None,
    summary: Summary | None = None,
) -> Summary:
    """Adds to the writer the captions of the images it does not hold; those of too low a confidence go to `left_out`.

    `caption` yields batches of the images it is handed, as `caption_images` does, in any order. A `summary` that is
    handed in has the counts of a run that is interrupted too.
    """
    done = [image for image in images if image in writer]
    known = set(done)
    rest = [image for image in images if image not in known and not (left_out and image in left_out)]
    refused = {image: sentence for image in rest if (sentence := writer.refusal(image))}
    rest = [image for image in rest if image not in refused]
    summary = summary or Summary()
    summary.known += len(done)
    summary.problems += refused.values()
    with tqdm(desc="captions", total=len(images), initial=len(images) - len(rest), unit="image", disable=None) as bar:
        for batch in caption(rest):
            _add(batch, writer, left_out, summary)
            bar.update(len(batch))
    if left_out:
        rows = {name: left_out.rows[name] for name in map(name_of, images) if name in left_out.rows}
        summary.left_out = [_low_text(name, *row) for name, row in rows.items()]
    return summary


def _add(batch: dict[Path, Any], writer: CaptionWriter, left_out: LeftOut | None, summary: Summary) -> None:
    captions = {image: found for image, found in batch.items() if not isinstance(found, ImageError)}
    summary.problems += [problem_text(image, error) for image, error in batch.items() if image not in captions]
    if left_out:
        low = {image: each for image, each in captions.items() if left_out.is_too_low(each.confidence, each.verdict)}
        left_out.add(low)
        captions = {image: each for image, each in captions.items() if image not in low}
    refused = writer.add(captions)
    summary.problems += refused.values()
    summary.written += len(captions) - len(refused)
    written = [each for image, each in captions.items() if image not in refused]
    summary.shared += sum(each.shared for each in written)
    verdicts = [each.verdict for each in written]
    summary.not_sure += verdicts.count("not sure")
    summary.unfamiliar += verdicts.count("unfamiliar")
    summary.not_calibrated += verdicts.count("not calibrated")
    summary.unknown += verdicts.count("unknown")


def _low_text(image: str, caption: str, confidence: float | None, verdict: str) -> str:
    is_number = confidence is not None and verdict not in ("unfamiliar", "not calibrated")
    return f"{image}: " + (f"{confidence:.2f}" if is_number else REASONS[verdict]) + f", {caption}"


def require_confidence(captioner: Any, search: DecodeOptions, threshold: float) -> None:
    """Refuses a threshold where every confidence would be unknown."""
    is_beam = search.strategy == "beam"
    if threshold > 0 and not (is_beam and getattr(captioner, "calibration", None)):
        reason = "this captioner was never calibrated" if is_beam else f"--strategy {search.strategy} gives none"
        raise CaptioningError(
            f"Captions below a confidence of {threshold:g} are to be left out, but {reason}; "
            "use --min-confidence 0 to write them all."
        )


def caption_images(
    captioner: AnyCaptioner,
    images: Iterable[Path],
    search: DecodeOptions,
    begin: str = "",
    shared: SharedCaptions | None = None,
) -> Iterator[dict[Path, Any]]:
    """Batches of images: the Caption of each, or why it cannot be read; `begin` holds the words that all begin with.

    With `shared`, further pictures of a scene get the caption of its first one, where the captioner encodes them apart.
    """
    prefix = {"begin": begin} if begin else {}
    if encodes_apart(captioner):
        yield from _caption_apart(captioner, images, search, shared, **prefix)
        return
    remaining = iter(images)
    while batch := list(itertools.islice(remaining, AT_ONCE)):
        yield dict(zip(batch, captioner.caption(batch, search, on_error="return", **prefix), strict=True))


def _caption_apart(
    captioner: EncodesApart, images: Iterable[Path], search: DecodeOptions, shared: SharedCaptions | None, **prefix: str
) -> Iterator[dict[Path, Any]]:
    """Batches of 64 readable images, the last one of fewer.

    The next batch is encoded while the captions of one are searched for. With `shared`, further pictures of a scene get
    the caption of its first one, and count for no batch.
    """

    def encode(batch: "_Batch") -> np.ndarray | None:
        return captioner.features(list(batch.pixels.values()), search) if batch.pixels else None

    batches = _batches(read_ahead(images, captioner.image_size), shared)
    for batch, features in map_ahead(encode, batches, 1, threads=1):
        found = [] if features is None else captioner.caption_features(features, search, **prefix)
        captions = dict(zip(batch.pixels, found, strict=True))
        yield batch.answers | captions | _of_scenes(batch, captions, shared)


def _of_scenes(batch: "_Batch", captions: dict[Path, Any], shared: SharedCaptions | None) -> dict[Path, Any]:
    """The captions of the images whose scene had one, and those of new scenes noted."""
    if not shared:
        return {}
    for image, caption in captions.items():
        shared.add(batch.scenes[image], caption)
    return {image: shared.caption_of(scene) for image, scene in batch.scenes.items() if image not in captions}


@dataclass
class _Batch:
    answers: dict[Path, Any] = field(default_factory=dict)  # every image in order: why it cannot be read, or None yet
    pixels: dict[Path, np.ndarray] = field(default_factory=dict)  # of the images to caption
    scenes: dict[Path, int] = field(default_factory=dict)  # of the readable images, where captions are shared


def _batches(images: Iterable[tuple[Path, Any]], shared: SharedCaptions | None) -> Iterator[_Batch]:
    batch, count, to_caption = _Batch(), 0, 0
    for image, read in images:
        batch.answers[image] = None if isinstance(read, np.ndarray) else read
        if isinstance(read, np.ndarray):
            batch.scenes[image], is_new = shared.scene_of(read) if shared else (0, True)
            if is_new:
                batch.pixels[image] = read
                to_caption += 1
        count += 1
        if to_caption == BATCH or count == LARGEST_BATCH:
            yield batch
            batch, count, to_caption = _Batch(), 0, 0
    if batch.answers:
        yield batch


def read_ahead(images: Iterable[Path], size: int) -> Iterator[tuple[Path, np.ndarray | ImageError]]:
    """Each image as (size, size, 3) pixels, or why it cannot be read; two batches are read ahead of the caller."""
    return map_ahead(functools.partial(_read, size=size), images, 2 * BATCH)


def _read(image: Path, size: int) -> np.ndarray | ImageError:
    try:
        return read_image(image, size=size)
    except ImageError as error:
        return error


def problem_text(image: Path, error: ImageError) -> str:
    """The error's sentence, with the whole path in place of the file's name."""
    return name_of(image) + str(error).removeprefix(str(image)).removeprefix(image.name)
