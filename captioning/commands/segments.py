"""The command that finds segments in pictures, and captions them."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.commands.arguments import Command, add_bundle, add_encoder_weights, add_engine
from captioning.commands.loading import load, tell
from captioning.errors import CaptioningError
from captioning.runtime.flags import Parser

if TYPE_CHECKING:
    import numpy as np

    from captioning.extras.segment_files import Found

ENDINGS = (".png", ".json")
TASKS = ("instance", "panoptic", "semantic")  # as in extras/segmentation.py, which a test compares
MODELS = "mask2former, mask2former-panoptic, maskformer, detr, segformer, a folder or a hub name"
LONGEST = 2048  # pixels of the longer side of a picture; larger ones are reduced


def _add_segment(command: Parser) -> None:
    add = command.add_argument
    add("images", nargs="+", type=Path, metavar="PHOTO", help="the pictures")
    add("--model", default="mask2former", metavar="NAME", help=f"{MODELS} (default: %(default)s)")
    add(
        "--task",
        default="",
        choices=("", *TASKS),
        metavar="TASK",
        help="instance, panoptic or semantic (default: the model's own)",
    )
    add("--threshold", type=float, default=0.5, metavar="0..1", help="least score of a segment (default: %(default)s)")
    add("--opacity", type=float, default=0.5, metavar="0..1", help="of the masks in the PNG (default: %(default)s)")
    add("--captions", action="store_true", help="caption every segment, and link the words of the caption to segments")
    add("--json", action="store_true", help="JSON as of COCO on the terminal, and no PNG")
    add(
        "--output",
        action="append",
        type=Path,
        metavar="FILE",
        help="a .png of one picture, or a .json as of COCO of all; may be repeated (default: PHOTO-segments.png)",
    )
    add_bundle(command)
    add_encoder_weights(command)
    add_engine(command)


def _segment(flags: argparse.Namespace) -> int:
    from captioning.data.images import read_image
    from captioning.errors import ImageError
    from captioning.extras import segment_files
    from captioning.extras.segmentation import check_threshold, load_segmenter
    from captioning.inference.folder import problem_text
    from captioning.runtime.files import atomic_write

    _check(flags)
    check_threshold(flags.threshold)
    segmenter = load_segmenter(flags.model, offline=flags.offline, task=flags.task)
    captioner = load(flags) if flags.captions else None
    found: list[Found] = []
    problems = []
    for path in flags.images:
        try:
            image = read_image(path, longest=LONGEST)
        except ImageError as error:
            problems.append(problem_text(path, error))
            continue
        segments = tuple(segmenter.segments(image, threshold=flags.threshold))
        one = segment_files.Found(str(path), image.shape[:2], segments)
        found.append(one if captioner is None else _captioned(one, captioner, image))
        for file in _drawings(flags, path):
            atomic_write(file, _drawn(image, found[-1], flags.opacity))
        if not flags.json:
            print(_told(found[-1], is_alone=len(flags.images) == 1))
    text = json.dumps(segment_files.coco(found), ensure_ascii=False) + "\n"
    for file in flags.output or ():
        if file.suffix.lower() == ".json":
            atomic_write(file, text)
    if flags.json:
        print(text, end="")
    for problem in problems:
        tell(problem)
    return 1 if problems else 0


def _check(flags: argparse.Namespace) -> None:
    if not 0 <= flags.opacity <= 1:
        raise CaptioningError(f"--opacity is {flags.opacity}; a number from 0 to 1 was expected.")
    for file in flags.output or ():
        if file.suffix.lower() not in ENDINGS:
            raise CaptioningError(f"{file} cannot be written: a name that ends in .png or .json was expected.")
        if file.suffix.lower() == ".png" and len(flags.images) > 1:
            raise CaptioningError(f"{file} takes one picture; leave out --output, or give one that ends in .json.")
    if not flags.captions and (flags.bundle or flags.captioner):
        raise CaptioningError("--bundle and --captioner are for --captions; give that too, or leave them out.")
    names = Counter(file for path in flags.images for file in _drawings(flags, path))
    if twice := [file for file, count in names.items() if count > 1]:
        raise CaptioningError(f"Two pictures would be drawn into {twice[0]}; give one of them, or --output FILE.json.")


def _drawings(flags: argparse.Namespace, path: Path) -> list[Path]:
    """The PNG files that are drawn of a picture."""
    if flags.output:
        return [file for file in flags.output if file.suffix.lower() == ".png"]
    return [] if flags.json else [Path(f"{path.stem}-segments.png")]


def _captioned(found: "Found", captioner: Any, image: "np.ndarray") -> "Found":
    from dataclasses import replace

    from captioning.extras.segment_words import caption_segment, links
    from captioning.inference.protocol import shows_attention

    caption = captioner.caption(image)
    if not shows_attention(caption):
        tell(
            f"{captioner.describe().name} gives no attention over the picture, so that no word is linked to a segment."
        )
    captions = tuple(caption_segment(captioner, image, segment) for segment in found.segments)
    return replace(found, caption=caption, captions=captions, links=tuple(links(caption.words, found.segments)))


def _drawn(image: "np.ndarray", found: "Found", opacity: float) -> bytes:
    from captioning.plots.segments import segments_png

    captions, words = (
        [str(each) for each in found.captions],
        [found.words(place) for place in range(len(found.segments))],
    )
    caption = str(found.caption) if found.caption else ""
    return segments_png(image, found.segments, opacity=opacity, caption=caption, captions=captions, words=words)


def _told(found: "Found", *, is_alone: bool) -> str:
    """The caption, then a line for each segment: number, score, label, caption, words."""
    caption = f"{found.caption}" if found.caption else ""
    lines = [caption] if is_alone else [f"{found.image}: {caption}".rstrip(": ")]
    for place, segment in enumerate(found.segments):
        words = found.words(place)
        more = [str(found.captions[place])] if found.captions else []
        more += [f"words: {', '.join(words)}"] if words else []
        lines.append("  ".join([f"  {place + 1}  {segment.score:6.1%}  {segment.label}", *more]))
    if not found.segments:
        lines.append("  no segment was found; lower --threshold to see less certain ones")
    return "\n".join(line for line in lines if line)


SEGMENT = Command(
    "segment PHOTO [PHOTO ...]",
    "find the objects and regions of pictures, with masks, and caption each",
    (
        "photo.jpg                              # photo-segments.png: masks, labels, scores, a legend",
        "photo.jpg --captions                   # what each segment shows, and which words of the caption belong to it",
        "*.jpg --output segments.json           # boxes and masks as of COCO",
        "photo.jpg --model segformer --opacity 0.7",
    ),
    add=_add_segment,
    run=_segment,
)
