"""The command line: caption, attention, evaluate, compare, check, doctor, distill.

Parses, calls one function, prints; imports the heavy rooms only then.
"""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import captioning
from captioning.errors import CaptioningError
from captioning.flags import add_flags, from_flags
from captioning.options import DataOptions, DecodeOptions, DistillOptions, EngineOptions

SPLITS = ("train", "dev", "test")
POCKET = "artifacts/pocket"  # the bundle that comes along
EXAMPLES = {
    "caption": (
        "photo.jpg holiday/",
        "photo.jpg --bundle artifacts/flickr8k-resnet50 --num-beams 5 --forbid man woman",
        "holiday/ --output captions.csv                 # once more after a stop: it goes on where it was",
        "holiday/ --sidecar --alt-text                  # photo.jpg -> photo.txt beside it",
        "/shared/photos --output captions.jsonl --engine ray   # by the workers of a Ray cluster",
    ),
    "attention": ("photo.jpg", "photo.jpg --output walk.gif --strategy greedy"),
    "evaluate": (
        "my-pictures",
        "my-pictures --split dev --strategy greedy --predictions greedy.jsonl",
        "captions.csv --images photos --image-column file --caption-column text",
    ),
    "compare": (
        "artifacts/mine artifacts/scenes",
        "new/scores.json old/scores.json older/scores.json --split dev",
        "mine.jsonl blip.jsonl --captions               # as evaluate writes them, or another program",
    ),
    "check": ("my-pictures", "captions.csv --images photos --glove glove.6B.zip"),
    "doctor": ("artifacts/scenes", "artifacts/mine --data my-pictures --split dev"),
    "distill": (
        "my-pictures",
        "my-pictures --teacher resnet50 --teacher-weights resnet50.weights.h5 --output artifacts/eyes/mine.weights.h5",
        "my-pictures --captioner artifacts/mine         # its encoder teaches, and of that what its words come from",
        "my-pictures --resume                           # after Ctrl-C, a crash or a kill",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; a person's mistake ends in one sentence and an exit status."""
    flags = _parser().parse_args(arguments)
    try:
        return flags.run(flags)
    except CaptioningError as error:
        _tell(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _tell(sentence: str) -> None:
    print(f"captioning: {sentence}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    told = "python -m captioning COMMAND --help shows its examples."
    parser = argparse.ArgumentParser(
        "captioning", description="Captions for photographs, and how good they are.", epilog=told
    )
    parser.add_argument("-V", "--version", action="version", version=captioning.__version__)
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    _add_caption(_command(commands, "caption", "caption images, or folders of them", _caption))
    _add_attention(_command(commands, "attention", "draw where the network looked for each word", _attention))
    _add_evaluate(_command(commands, "evaluate", "score a bundle on a split of captioned data", _evaluate))
    _add_compare(_command(commands, "compare", "tell which of several bundles is better, and how surely", _compare))
    check = _command(commands, "check", "read captioned data without training on it, and report", _check)
    _add_data(check)
    check.add_argument("--glove", default="", metavar="FILE", help="a glove.*.txt or .zip: report which words it holds")
    _add_doctor(_command(commands, "doctor", "look a bundle over for the usual failures", _doctor))
    distill = _command(commands, "distill", "teach the small pocket encoder what a larger one sees", _distill)
    _add_data(distill)
    add_flags(distill, DistillOptions)
    return parser


def _command(commands: Any, name: str, purpose: str, run: Callable[[argparse.Namespace], int]) -> Any:
    examples = "".join(f"\n  python -m captioning {name} {example}" for example in EXAMPLES[name])
    keep_lines = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        name, help=purpose, description=purpose, epilog=f"examples:{examples}", formatter_class=keep_lines
    )
    command.set_defaults(run=run)
    return command


def _add_caption(command: Any) -> None:
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of images")
    place = command.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, metavar="FILE", help="file that is written, instead of the terminal")
    place.add_argument("--sidecar", action="store_true", help="a file beside each image: photo.jpg -> photo.txt")
    command.add_argument(
        "--format",
        default="",
        choices=("text", "csv", "json", "jsonl", "txt"),
        help="by itself what --output ends in, txt for sidecars, text on the terminal",
    )
    command.add_argument(
        "--if-exists",
        default="skip",
        choices=("skip", "overwrite", "append", "prepend"),
        help="what happens to captions already there; append and prepend: to text sidecars (default: %(default)s)",
    )
    command.add_argument(
        "--alt-text",
        action="store_true",
        help="a sentence of at most 125 characters that does not begin with “a picture of”",
    )
    command.add_argument(
        "--attention", action="store_true", help="json, jsonl: each word with its probability and attention too"
    )
    add_flags(command, EngineOptions)
    _add_search(command)


def _add_attention(command: Any) -> None:
    command.add_argument("image", type=Path, metavar="IMAGE")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a .png with a panel for each word, or a .gif that walks through the words (default: IMAGE-attention.png)",
    )
    _add_search(command)


def _add_evaluate(command: Any) -> None:
    _add_data(command)
    command.add_argument("--split", default="test", choices=SPLITS, help="(default: %(default)s)")
    command.add_argument(
        "--predictions",
        type=Path,
        default=Path("predictions.jsonl"),
        metavar="FILE",
        help="file that is written and scored (default: %(default)s)",
    )
    command.add_argument("--java", action="store_true", help="METEOR 1.5 too (needs Java and the extra eval)")
    _add_search(command)


def _add_compare(command: Any) -> None:
    cards = "folders of bundles, their scores.json with predictions-*.jsonl beside, or predictions files (.jsonl) alone"
    command.add_argument("first", type=Path, metavar="CARD", help=cards)
    command.add_argument("others", type=Path, metavar="CARD", nargs="+", help="all are compared with the first")
    command.add_argument("--split", default="", choices=SPLITS, help="(default: test, or dev where there is no test)")
    command.add_argument(
        "--captions", action="store_true", help="also what each said of every image, and what people did"
    )


def _add_doctor(command: Any) -> None:
    command.add_argument("bundle", nargs=1, metavar="BUNDLE", help="folder of the bundle")
    command.add_argument(
        "--data", default="", metavar="PATH", help="look at captioned images of yours, not at drawings"
    )
    _add_columns(command)
    command.add_argument("--split", default="dev", choices=SPLITS, help="of the data (default: %(default)s)")
    _add_encoder_weights(command)


def _add_data(command: Any) -> None:
    command.add_argument("data", metavar="DATA", help="a captioned folder or captions file")
    _add_columns(command)


def _add_columns(command: Any) -> None:
    for name in ("images", "image_column", "caption_column"):
        help = DataOptions.__dataclass_fields__[name].metadata["help"]
        command.add_argument(f"--{name.replace('_', '-')}", default="", metavar=name.upper(), help=help)


def _add_search(command: Any) -> None:
    bundle = "folder of a bundle, whose own search holds where no flag is given; several times: they caption together"
    command.add_argument("--bundle", action="append", help=f"{bundle} (default: {POCKET})")
    _add_encoder_weights(command)
    add_flags(command, DecodeOptions)


def _add_encoder_weights(command: Any) -> None:
    command.add_argument("--encoder-weights", default="imagenet", help="weights file of a frozen encoder")


def _bundles(flags: argparse.Namespace) -> list[Path]:
    bundles = [Path(each) for each in flags.bundle or [POCKET]]
    if not flags.bundle and not bundles[0].exists():  # called from elsewhere
        bundles = [Path(captioning.__file__).resolve().parents[1] / POCKET]
    return bundles


def _load(flags: argparse.Namespace) -> Any:
    from captioning.runtime.keras_import import import_keras_alone

    import_keras_alone()
    return captioning.load(*_bundles(flags), encoder_weights=flags.encoder_weights)


def _dataset(flags: argparse.Namespace, seed: int = 0) -> Any:
    """The data set that the flags describe, and the folder that its images are named in."""
    from captioning.data.load import load_dataset

    columns = {name: getattr(flags, name) for name in ("images", "image_column", "caption_column")}
    return load_dataset(DataOptions(data=flags.data or ".", **columns), Path("data"), seed=seed)


def _caption(flags: argparse.Namespace) -> int:
    from captioning.inference.folder import caption_folder, caption_images, find_images_in
    from captioning.inference.writers import OutputOptions, open_writer

    engine = from_flags(flags, EngineOptions())
    names = ("format", "output", "sidecar", "if_exists", "alt_text", "attention")
    options = OutputOptions(**{name: getattr(flags, name) for name in names})
    images = find_images_in(flags.paths)
    if engine.engine == "ray":
        from captioning.extras import ray_engine

        ray_engine.require_ray()
    captioner = _load(flags)  # for its search, where Ray's workers caption, and to refuse what they could not load
    search = from_flags(flags, captioner.options)
    caption = functools.partial(caption_images, captioner, search=search)
    if engine.engine == "ray":
        load = functools.partial(captioning.load, *_bundles(flags), encoder_weights=flags.encoder_weights)
        caption = functools.partial(ray_engine.caption_images, load, search=search, workers=engine.workers)
    with open_writer(options, several=search.num_captions > 1) as book:
        problems = caption_folder(caption, images, book)
    _tell_left_out(problems, len(images))
    return 1 if problems else 0


def _tell_left_out(problems: Sequence[str], total: int) -> None:
    if problems:
        _tell("\n".join([f"{len(problems):,} of {total:,} images left out:", *(f"  {each}" for each in problems)]))


def _attention(flags: argparse.Namespace) -> int:
    from captioning.data.images import read_image
    from captioning.plots import attention
    from captioning.runtime.files import atomic_write

    output = flags.output or Path(f"{flags.image.stem}-attention.png")
    kind = output.suffix.lower()
    if kind not in (".png", ".gif"):
        raise CaptioningError(f"{output} cannot be drawn: a name that ends in .png or .gif was expected.")
    image = read_image(flags.image)
    captioner = _load(flags)
    caption = captioner.caption(image, from_flags(flags, captioner.options))
    if kind == ".gif":
        data = attention.walk_gif(image, caption.words)
    else:
        data = attention.strip_png(image, caption.words, str(caption))
    atomic_write(output, data)
    print(caption)
    if attention.collapsed(caption.words):
        _tell(f"{attention.STILL}; captioning doctor {(flags.bundle or [POCKET])[0]} tells more.")
    return 0


def _evaluate(flags: argparse.Namespace) -> int:
    from captioning.evaluation.scoring import card_text, evaluate
    from captioning.evaluation.word_use import word_use_text

    dataset, root = _dataset(flags)
    captioner = _load(flags)
    card, problems = evaluate(
        captioner,
        dataset,
        root,
        split=flags.split,
        predictions=flags.predictions,
        options=from_flags(flags, captioner.options),
        java=flags.java,
    )
    told = [card_text(card), word_use_text(card["word_use"])] if sys.stdout.isatty() else [json.dumps(card, indent=2)]
    print(*filter(None, told), sep="\n")
    _tell_left_out(problems, card["images"] + len(problems))
    return 0


def _compare(flags: argparse.Namespace) -> int:
    from captioning.evaluation.compare import compare

    print(compare([flags.first, *flags.others], flags.split, captions=flags.captions))
    return 0


def _check(flags: argparse.Namespace) -> int:
    from captioning.data.check import inspect
    from captioning.data.glove import known_words

    dataset, _ = _dataset(flags)
    print(inspect(dataset, known_words=known_words(Path(flags.glove)) if flags.glove else None).text())
    return 0


def _doctor(flags: argparse.Namespace) -> int:
    from captioning.evaluation.doctor import examine
    from captioning.evaluation.scoring import images_of

    split = images_of(_dataset(flags)[0], flags.split) if flags.data else None
    captioner = _load(flags)
    about = json.loads(Path(flags.bundle[0], "config.json").read_text("utf-8")).get("about", {})
    findings = examine(captioner, about, split)
    print(*(finding.text() for finding in findings), sep="\n")
    return 0 if all(finding.healthy for finding in findings) else 1


def _distill(flags: argparse.Namespace) -> int:
    from captioning.runtime.keras_import import import_keras

    how = from_flags(flags, DistillOptions())
    dataset, _ = _dataset(flags, how.seed)
    import_keras()
    from captioning.training.distill import distill

    distill(dataset, how)
    return 0
