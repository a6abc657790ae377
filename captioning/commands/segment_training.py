"""The command that trains a segmenter."""

import argparse
from pathlib import Path

from captioning.commands.arguments import Command
from captioning.commands.loading import tell
from captioning.errors import CaptioningError
from captioning.runtime.flags import Parser

SMALLEST, LARGEST, STEP = 32, 512, 16  # of --image-size


def _add_segment_train(command: Parser) -> None:
    add = command.add_argument
    add("data", type=Path, metavar="DATA", help="a COCO instances file, or a folder that holds instances.json")
    add("--output", type=Path, required=True, metavar="FOLDER", help="folder of the segmenter")
    add("--images", type=Path, metavar="FOLDER", help="folder of the pictures (default: where the file is)")
    add(
        "--coco-masks",
        type=int,
        metavar="N",
        help="first draw N scenes into DATA, with the masks of their objects in instances.json",
    )
    add("--epochs", type=int, default=30, metavar="N", help="passes over the pictures (default: %(default)s)")
    add("--batch-size", type=int, default=16, metavar="N", help="pictures a step (default: %(default)s)")
    add("--learning-rate", type=float, default=3e-3, metavar="RATE", help="highest step size (default: %(default)s)")
    add(
        "--image-size",
        type=int,
        default=96,
        metavar="N",
        help="side in pixels to which pictures are resized, a multiple of 16 (default: %(default)s)",
    )
    add("--held-out", type=float, default=0.2, metavar="SHARE", help="pictures to score on (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of the weights, the order and the split (default: 0)")
    add("--resume", action="store_true", help="go on with the unfinished training in --output")
    add("--overwrite", action="store_true", help="replace what --output holds")


def _check(flags: argparse.Namespace) -> None:
    if min(flags.epochs, flags.batch_size) < 1 or flags.seed < 0:
        raise CaptioningError("--epochs and --batch-size count from 1, --seed from 0; give such numbers.")
    if not SMALLEST <= flags.image_size <= LARGEST or flags.image_size % STEP:
        raise CaptioningError(
            f"--image-size {flags.image_size} does not fit the network; give a multiple of {STEP} from {SMALLEST} "
            f"to {LARGEST}."
        )
    if not 0 < flags.held_out < 1 or not 0 < flags.learning_rate < 1:
        raise CaptioningError("--held-out and --learning-rate lie between 0 and 1; give such numbers.")
    if flags.coco_masks is not None and flags.coco_masks < 2:
        raise CaptioningError(f"--coco-masks {flags.coco_masks} is too few scenes; give at least 2.")


def _segment_train(flags: argparse.Namespace) -> int:
    from captioning.training.segmentation import SegmentOptions, train_segmenter

    _check(flags)
    if flags.coco_masks:
        from captioning.data.scenes.dataset import write_scenes
        from captioning.data.scenes.masks import write_masks

        write_masks(write_scenes(flags.data, sizes={"train": flags.coco_masks}, seed=flags.seed))
    options = SegmentOptions(
        flags.epochs, flags.batch_size, flags.image_size, flags.learning_rate, flags.held_out, flags.seed
    )
    again = {"resume": flags.resume, "overwrite": flags.overwrite}
    try:
        scores = train_segmenter(flags.data, flags.output, options, images=flags.images, **again)
    except KeyboardInterrupt:
        tell("Stopped at once; the same command with --resume goes on from the last whole epoch.")
        return 130
    print(f"{flags.output}: masks on held-out pictures: {scores.text()}")
    return 0


SEGMENT_TRAIN = Command(
    "segment-train DATA",
    "train a segmenter on pictures with masks, in COCO's format",
    (
        "my-data --output artifacts/segmenter         # my-data/instances.json and its pictures",
        "coco/annotations/instances_val2017.json --images coco/val2017 --output artifacts/coco",
        "drawn --coco-masks 1250 --output artifacts/drawn  # draws scenes; downloads nothing",
    ),
    add=_add_segment_train,
    run=_segment_train,
)
