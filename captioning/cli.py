"""The command line: check, caption, evaluate. Parses, calls one function, prints; imports the heavy rooms only then."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from captioning.errors import CaptioningError, DataError, ImageError
from captioning.flags import add_flags, from_flags
from captioning.options import DataOptions, DecodeOptions

EXAMPLES = {
    "check": ("my-pictures", "captions.csv --images photos --glove glove.6B.zip"),
    "caption": (
        "photo.jpg holiday/",
        "photo.jpg --bundle artifacts/flickr8k-resnet50 --num-beams 5 --forbid man woman",
    ),
    "evaluate": ("my-pictures", "my-pictures --split dev --strategy greedy --predictions greedy.jsonl"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; a person's mistake ends in one sentence and an exit status."""
    flags = _parser().parse_args(arguments)
    try:
        return flags.run(flags)
    except CaptioningError as error:
        print(f"captioning: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "captioning", description="Captions for photographs: check data, caption, evaluate."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = _command(commands, "check", "read captioned data without training on it, and report", _check)
    check.add_argument("data", help="a captioned folder or captions file")
    for name in ("images", "image_column", "caption_column"):
        help = DataOptions.__dataclass_fields__[name].metadata["help"]
        check.add_argument(f"--{name.replace('_', '-')}", default="", help=help)
    check.add_argument("--glove", default="", metavar="FILE", help="a glove.*.txt or .zip: report which words it holds")
    caption = _command(commands, "caption", "caption images with a trained bundle", _caption)
    caption.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of images")
    evaluate = _command(commands, "evaluate", "score a bundle on a split of captioned data", _evaluate)
    evaluate.add_argument("data", help="a captioned folder or captions file")
    evaluate.add_argument("--split", default="test", choices=("train", "dev", "test"))
    evaluate.add_argument(
        "--predictions", type=Path, default=Path("predictions.jsonl"), help="file that is written and scored"
    )
    evaluate.add_argument("--java", action="store_true", help="METEOR 1.5 too (needs Java and the extra eval)")
    for command in (caption, evaluate):
        bundle = "folder of the bundle, whose own search holds where no flag is given (default: %(default)s)"
        command.add_argument("--bundle", default="artifacts/scenes", help=bundle)
        command.add_argument("--encoder-weights", default="imagenet", help="weights file of a frozen encoder")
        add_flags(command, DecodeOptions)
    return parser


def _command(commands: Any, name: str, purpose: str, run: Callable[[argparse.Namespace], int]) -> Any:
    examples = "".join(f"\n  python -m captioning {name} {example}" for example in EXAMPLES[name])
    keep_lines = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(name, help=purpose, epilog=f"examples:{examples}", formatter_class=keep_lines)
    command.set_defaults(run=run)
    return command


def _check(flags: argparse.Namespace) -> int:
    from captioning.check import inspect
    from captioning.data import read_dataset
    from captioning.glove import known_words

    images = Path(flags.images) if flags.images else None
    dataset = read_dataset(
        Path(flags.data), image_column=flags.image_column, caption_column=flags.caption_column, images=images
    )
    print(inspect(dataset, known_words=known_words(Path(flags.glove)) if flags.glove else None).text())
    return 0


def _caption(flags: argparse.Namespace) -> int:
    import captioning

    paths = _images(flags.paths)
    captioner = captioning.load(flags.bundle, encoder_weights=flags.encoder_weights)
    options = from_flags(flags, captioner.options)
    unreadable = 0
    for path in paths:
        try:
            best = captioner.caption(path, options)
        except ImageError as error:
            unreadable += 1
            print(f"captioning: {error}", file=sys.stderr)
        else:
            print(*(f"{path}\t{found}" for found in (best, *best.alternatives)), sep="\n")
    return 1 if unreadable else 0


def _images(paths: Sequence[Path]) -> list[Path]:
    from captioning.data import find_images

    images: list[Path] = []
    for path in paths:
        found = find_images(path) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} holds no image; give a folder with some, or an image.")
        images += found
    return images


def _evaluate(flags: argparse.Namespace) -> int:
    import captioning
    from captioning.evaluation import card_text, evaluate

    captioner = captioning.load(flags.bundle, encoder_weights=flags.encoder_weights)
    options = from_flags(flags, captioner.options)
    card = evaluate(
        captioner, Path(flags.data), split=flags.split, predictions=flags.predictions, options=options, java=flags.java
    )
    print(json.dumps(card, indent=2) if not sys.stdout.isatty() else card_text(card))
    return 0
