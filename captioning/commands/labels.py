"""The command that finds the labels of pictures."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.commands.arguments import Command, add_bundle, add_encoder_weights, add_engine, add_offline
from captioning.commands.loading import bundles_of, load, tell
from captioning.errors import CaptioningError, ImageError
from captioning.runtime.flags import Parser

if TYPE_CHECKING:
    from captioning.inference.labels import Labeller, Labels

LISTED = 5  # labels that are left out and named
IMAGENET = "imagenet"
CHARTS = ("bar", "pie", "line")  # as in plots/charts.py, which a test compares


def _add_classify(command: Parser) -> None:
    command.add_argument("images", nargs="+", type=Path, metavar="PHOTO", help="the pictures")
    command.add_argument("--labels", default="", metavar="FILE|A,B,C", help="a label a line, or with commas")
    command.add_argument("--output", type=Path, metavar="FILE", help="all labels of all pictures, as .csv or .json")
    command.add_argument("--chart", type=Path, metavar="FILE", help="a chart of one picture's five best, as .png")
    command.add_argument("--kind", default="bar", choices=CHARTS, help="kind of --chart (default: %(default)s)")
    command.add_argument(
        "--model",
        default="",
        metavar="NAME",
        help="clip, a folder or a hub name; or imagenet, whose labels are its 1,000 classes (default: the captioner)",
    )
    command.add_argument(
        "--prompt", metavar="TEXT", help='with --model: the sentence around a label (default: "a photo of a {}")'
    )
    add_offline(command)
    add_bundle(command, published=False)
    add_encoder_weights(command)
    add_engine(command)


def _classify(flags: argparse.Namespace) -> int:
    from captioning.inference import label_files, labels
    from captioning.runtime.files import atomic_write

    label_files.check_name(flags.output)
    if flags.chart and (flags.chart.suffix.lower() != ".png" or len(flags.images) > 1):
        raise CaptioningError("--chart draws one picture's labels into a file that ends in .png; give it that way.")
    if flags.model == IMAGENET:
        label = _by_imagenet(flags)
    elif not flags.labels:
        raise CaptioningError("There are no labels to choose from; give --labels FILE or A,B,C, or --model imagenet.")
    else:
        wanted = labels.read_labels(flags.labels)
        label = _by_clip(flags, wanted) if flags.model or flags.prompt else _by_captioner(flags, wanted)
    found = {}
    for image in flags.images:
        try:
            each = found[image] = label(image)
        except ImageError as error:
            tell(str(error))
            continue
        print(f"{image}: {each.summary()}" if len(flags.images) > 1 else each.summary())
        print(*(f"  {one.probability:6.1%}  {one.text}" for one in each.top), sep="\n")
    if flags.output:
        atomic_write(flags.output, label_files.text_of(found, flags.output.suffix.lower()))
    if flags.chart and found:
        from captioning.plots.charts import chart_png

        top = found[flags.images[0]].top
        names, shares = [each.text for each in top], [each.probability for each in top]
        atomic_write(flags.chart, chart_png(names, shares, kind=flags.kind, title=flags.images[0].name))
    return 0 if len(found) == len(flags.images) else 1


def _by_imagenet(flags: argparse.Namespace) -> "Callable[[Path], Labels]":
    if flags.labels or flags.prompt or flags.bundle:
        raise CaptioningError("--model imagenet has labels of its own; leave --labels, --prompt and --bundle out.")
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from captioning.extras.imagenet import load_classifier

    return load_classifier(flags.encoder_weights, offline=flags.offline).label


def _by_captioner(flags: argparse.Namespace, wanted: list[str]) -> "Labeller":
    from captioning.inference import labels

    [folder, *others] = bundles_of(flags)
    if others:
        raise CaptioningError("Labels need one captioner, not an ensemble; give one --bundle.")
    scale = labels.read_scale(folder)
    label = labels.Labeller(load(flags), scale, wanted)
    if label.unknown:
        rest = ", ..." if len(label.unknown) > LISTED else ""
        listed = ", ".join(label.unknown[:LISTED])
        tell(f"left out, since the captioner's vocabulary lacks their words: {listed}{rest}")
    return label


def _by_clip(flags: argparse.Namespace, wanted: list[str]) -> "Callable[[Path], Labels]":
    from captioning.extras.zero_shot import PROMPT, check_prompt, load_clip

    if not flags.model:
        raise CaptioningError("--prompt is for CLIP; give --model clip too, or leave it out.")
    if flags.bundle:
        raise CaptioningError("--bundle and --model both name what finds the labels; give one of them.")
    prompt = check_prompt(flags.prompt or PROMPT)
    clip = load_clip(flags.model, offline=flags.offline)
    directions = clip.encode(wanted, prompt)
    return lambda image: clip.label(image, wanted, directions)


CLASSIFY = Command(
    "classify PHOTO [PHOTO ...]",
    "find which of some labels fit a picture",
    (
        "photo.jpg --labels dog,cat,horse",
        "photo.jpg --labels labels.txt --chart labels.png --kind pie",
        "*.jpg --labels labels.txt --output labels.csv",
        "photo.jpg --labels labels.txt --model clip     # a published model, see docs/labels.md",
        "photo.jpg --model imagenet                     # the 1,000 classes of ImageNet",
    ),
    add=_add_classify,
    run=_classify,
)
