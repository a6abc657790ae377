"""The command line: check, caption, evaluate. Parses, calls one function, prints; imports the heavy rooms only then."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from captioning.errors import CaptioningError
from captioning.flags import add_flags, from_flags
from captioning.options import DataOptions, DecodeOptions


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; a person's mistake ends in one sentence and an exit status."""
    flags = _parser().parse_args(arguments)
    try:
        return flags.run(flags)
    except CaptioningError as error:
        print(f"captioning: {error}", file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "captioning", description="Captions for photographs: check data, caption, evaluate."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="read captioned data without training on it, and report")
    check.add_argument("data", help="a captioned folder or captions file")
    for entry in ("images", "image-column", "caption-column"):
        check.add_argument(
            f"--{entry}", default="", help=DataOptions.__dataclass_fields__[entry.replace("-", "_")].metadata["help"]
        )
    check.add_argument("--glove", default="", metavar="FILE", help="a glove.*.txt or .zip: report which words it holds")
    check.set_defaults(run=_check)
    caption = commands.add_parser("caption", help="caption images with a trained bundle")
    caption.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of images")
    evaluate = commands.add_parser("evaluate", help="score a bundle on a split of captioned data")
    evaluate.add_argument("data", help="a captioned folder or captions file")
    evaluate.add_argument("--split", default="test", choices=("train", "dev", "test"))
    evaluate.add_argument(
        "--predictions", type=Path, default=Path("predictions.jsonl"), help="file that is written and scored"
    )
    evaluate.add_argument("--java", action="store_true", help="METEOR 1.5 too (needs Java and the extra eval)")
    for command, run in ((caption, _caption), (evaluate, _evaluate)):
        command.add_argument("--bundle", default="artifacts/scenes", help="folder of the bundle (default: %(default)s)")
        command.add_argument("--encoder-weights", default="imagenet", help="weights file of a frozen encoder")
        add_flags(command, DecodeOptions)
        command.set_defaults(run=run)
    return parser


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
    from captioning.errors import ImageError

    captioner = captioning.load(flags.bundle, encoder_weights=flags.encoder_weights)
    options = from_flags(flags, captioner.options)
    unreadable = 0
    for path in _images(flags.paths):
        try:
            print(f"{path}\t{captioner.caption(path, options)}")
        except ImageError as error:
            unreadable += 1
            print(f"captioning: {error}", file=sys.stderr)
    return 1 if unreadable else 0


def _images(paths: Sequence[Path]) -> list[Path]:
    from captioning.data import IMAGE_SUFFIX

    inside = [sorted(path.rglob("*")) if path.is_dir() else [path] for path in paths]
    return [path for found in inside for path in found if len(found) == 1 or IMAGE_SUFFIX.search(path.name)]


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
