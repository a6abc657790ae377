"""The commands of the command line with their arguments, in order of use, and their examples."""

import argparse
from pathlib import Path

import captioning
from captioning.options import ENGINES, RECORDS, CaptionEngineOptions, DataOptions, DecodeOptions
from captioning.runtime.flags import Parser, add_flags, add_group

PROGRAM = "python -m captioning"  # works wherever the package does, installed or not
SPLITS = ("train", "dev", "test")
FORMATS = ("onnx", "openvino")
IN_THE_BOX = f"artifacts/{captioning.IN_THE_BOX}"
EXAMPLES = {
    "train": (
        "                                      # Flickr8k with ResNet50; downloads what is missing",
        "--dataset scenes                      # the built-in drawn scenes; downloads nothing",
        "--data my-pictures                    # your own captioned pictures, in any common layout",
        "--data my-pictures --bundle artifacts/flickr8k  # the same, starting from a trained captioner",
    ),
    "caption": (
        "photo.jpg holiday/",
        "photo.jpg --num-beams 5 --forbid man woman",
        "holiday/ --output captions.csv                 # the same again after a stop: it resumes",
        "holiday/ --sidecar --alt-text                  # photo.jpg -> photo.txt beside it, where the caption is sure",
        "holiday/ --metadata --suffix ' (machine-written)'      # into the pictures' own metadata",
        "holiday/ --sidecar --format xmp --if-exists append     # photo.jpg.xmp, for Lightroom or digiKam",
        "holiday/ --output captions.csv --min-confidence 0.7   # less sure ones go to captions-left-out.csv",
        "/shared/photos --output captions.jsonl --engine ray   # by the workers of a Ray cluster",
    ),
    "undo": (
        "captions-journal.jsonl                # the last run's changes",
        "captions-journal.jsonl                # the same again: those of the run before",
    ),
    "attention": ("photo.jpg", "photo.jpg --output walk.gif --strategy greedy"),
    "app": (
        "                                      # every bundle in artifacts/, on http://127.0.0.1:7860",
        "--bundle artifacts/flickr8k           # this one alone",
        "--share                               # also a public link, behind a password that is made up",
    ),
    "evaluate": (
        "my-pictures",
        "my-pictures --split dev --json",
        "my-pictures --split dev --strategy greedy --predictions greedy.jsonl",
        "captions.csv --images photos --image-column file --caption-column text",
    ),
    "calibrate": ("artifacts/flickr8k my-pictures", "artifacts/mine captions.csv --images photos --split test"),
    "compare": (
        "artifacts/flickr8k artifacts/mine",
        "artifacts/flickr8k artifacts/mine --data my-pictures --split dev   # captions the images first",
        "new/scores.json old/scores.json older/scores.json --split dev",
        "mine.jsonl blip.jsonl --captions               # predictions of evaluate, or of another program",
    ),
    "check": ("my-pictures", "captions.csv --images photos --glove glove.6B.zip"),
    "doctor": ("artifacts/flickr8k", "artifacts/mine --data my-pictures --split dev"),
    "export": (
        "artifacts/mine                        # caption it without TensorFlow from now on",
        "artifacts/mine --format onnx --output phone          # files that need no bundle",
        "artifacts/mine --format onnx --int8 --output web --data my-pictures   # smaller; scores both",
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the flags that it returns name the `command`."""
    parser = Parser(
        PROGRAM,
        description="Captions for photographs, and how good they are.",
        epilog=f"{PROGRAM} COMMAND --help shows its examples.",
    )
    parser.add_argument("-V", "--version", action="version", version=captioning.__version__)
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    add_flags(_command(commands, "train", "train a captioner on captioned images"), *RECORDS)
    _add_caption(_command(commands, "caption PATH [PATH ...]", "caption images, or folders of them"))
    undo = _command(commands, "undo JOURNAL", "take back what caption wrote into pictures and files beside them")
    undo.add_argument("journal", type=Path, metavar="JOURNAL", help="the journal that caption named")
    _add_attention(_command(commands, "attention IMAGE", "draw the attention map of every word"))
    _add_app(_command(commands, "app", "open a page in the browser: caption, see attention, correct"))
    _add_evaluate(_command(commands, "evaluate DATA", "score a bundle on a split of captioned data"))
    _add_calibrate(_command(commands, "calibrate BUNDLE DATA", "measure a bundle's confidence, and write it into it"))
    _add_compare(_command(commands, "compare CARD CARD [CARD ...]", "find out which bundle is better"))
    check = _command(commands, "check DATA", "report on captioned data before training on it")
    _add_data(check)
    check.add_argument("--glove", default="", metavar="FILE", help="a glove.*.txt or .zip: report which words it has")
    _add_doctor(_command(commands, "doctor BUNDLE", "check a bundle for the usual failures"))
    _add_export(_command(commands, "export BUNDLE", "write a bundle's graphs, for ONNX Runtime or other programs"))
    return parser


def _command(commands: "argparse._SubParsersAction[Parser]", usage: str, purpose: str) -> Parser:
    name, _, places = usage.partition(" ")
    examples = "".join(f"\n  {PROGRAM} {name} {example}" for example in EXAMPLES[name])
    command = commands.add_parser(
        name,
        usage=f"%(prog)s [options] {places}".rstrip(),
        help=purpose,
        description=purpose,
        epilog=f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=name, refuse=command.error)
    return command


def _add_caption(command: Parser) -> None:
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of images")
    _add_bundle(command)
    place = command.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, metavar="FILE", help="file to write, instead of the terminal")
    place.add_argument("--sidecar", action="store_true", help="a file beside each image: photo.jpg -> photo.txt")
    place.add_argument("--metadata", action="store_true", help="into the metadata of JPEG, PNG, WebP and TIFF files")
    command.add_argument(
        "--alt-text",
        action="store_true",
        help="a sentence of at most --alt-length characters that does not begin with “a picture of”",
    )
    command.add_argument("--alt-length", type=int, default=125, metavar="N", help="(default: %(default)s)")
    command.add_argument(
        "--min-confidence",
        type=float,
        metavar="X",
        help="leave out captions of a lower confidence, and list them (0.65 for alt text beside or in images, else 0)",
    )
    command.add_argument(
        "--format",
        default="",
        choices=("text", "csv", "json", "jsonl", "txt", "xmp"),
        help="default: the ending of --output, txt for sidecars, text on the terminal",
    )
    command.add_argument(
        "--if-exists",
        default="skip",
        choices=("skip", "overwrite", "append", "prepend"),
        help="what happens to captions already there; append and prepend: in sidecars, metadata (default: %(default)s)",
    )
    _add_text(command)
    _add_changes(command)
    command.add_argument(
        "--attention", action="store_true", help="json, jsonl: each word with its probability and attention too"
    )
    _add_encoder_weights(command)
    _add_search(command)
    add_group(command, CaptionEngineOptions, "engine", "What computes captions.")


def _add_text(command: Parser) -> None:
    add = command.add_argument
    add("--begin", default="", metavar="TEXT", help="words that every caption begins with; the captioner goes on")
    add("--prefix", default="", metavar="TEXT", help="text before every caption, as it is")
    add("--suffix", default="", metavar="TEXT", help="text after every caption, as it is")


def _add_changes(command: Parser) -> None:
    add = command.add_argument
    names = "name of XMP sidecars: photo.jpg.xmp or photo.xmp (default: %(default)s)"
    add("--xmp-name", default="full", choices=("full", "stem"), help=names)
    add("--keep-times", action="store_true", help="files whose metadata is written keep their times")
    add("--journal", type=Path, metavar="FILE", help="where undo finds it (default: captions-journal.jsonl)")


def _add_attention(command: Parser) -> None:
    command.add_argument("image", type=Path, metavar="IMAGE", help="an image")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a .png with a panel for each word, or a .gif that walks through the words (default: IMAGE-attention.png)",
    )
    _add_bundle(command)
    _add_encoder_weights(command)
    _add_engine(command)
    _add_search(command)


def _add_app(command: Parser) -> None:
    add = command.add_argument
    add("--bundle", nargs="+", type=Path, metavar="FOLDER", help="bundles to offer (default: all in --artifacts)")
    add("--artifacts", type=Path, default=Path("artifacts"), help="folder of the bundles (default: %(default)s)")
    _add_encoder_weights(command)
    _add_engine(command)
    add("--host", help="0.0.0.0: everybody in the network (default: GRADIO_SERVER_NAME, else 127.0.0.1)")
    add("--port", type=int, help="(default: GRADIO_SERVER_PORT, else 7860)")
    add("--share", action="store_true", help="also a public link through Gradio's tunnel, for a week at most")
    add("--auth", default="", metavar="USER:PASSWORD", help="user and password (default: a public app makes one up)")
    add("--feedback", type=Path, default=Path("feedback/feedback.db"), help="what people say (default: %(default)s)")


def _add_evaluate(command: Parser) -> None:
    _add_data(command)
    _add_bundle(command)
    command.add_argument("--split", default="test", choices=SPLITS, help="split to score (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="print the score card as JSON, not as a table")
    command.add_argument(
        "--predictions",
        type=Path,
        default=Path("predictions.jsonl"),
        metavar="FILE",
        help="file that is written and scored (default: %(default)s)",
    )
    command.add_argument("--java", action="store_true", help="METEOR 1.5 too (needs Java and the extra eval)")
    _add_encoder_weights(command)
    _add_engine(command)
    _add_search(command)


def _add_calibrate(command: Parser) -> None:
    command.add_argument("bundle", nargs=1, metavar="BUNDLE", help="folder of the bundle, whose config.json is changed")
    _add_data(command)
    split = "split to measure on, whose images it was not trained on (default: %(default)s)"
    command.add_argument("--split", default="dev", choices=SPLITS, help=split)
    _add_encoder_weights(command)
    _add_engine(command)


def _add_compare(command: Parser) -> None:
    cards = "folders of bundles, their scores.json with predictions-*.jsonl beside, or predictions files (.jsonl) alone"
    command.add_argument("first", type=Path, metavar="CARD", help=cards)
    command.add_argument("others", type=Path, metavar="CARD", nargs="+", help="all are compared with the first")
    command.add_argument("--split", default="", choices=SPLITS, help="default: test, or dev where there is no test")
    command.add_argument("--captions", action="store_true", help="also every image's captions, below its references")
    command.add_argument(
        "--data", default="", metavar="PATH", help="caption and score these captioned images with every bundle first"
    )
    _add_columns(command)
    _add_encoder_weights(command)
    _add_engine(command)


def _add_doctor(command: Parser) -> None:
    command.add_argument("bundle", nargs=1, metavar="BUNDLE", help="folder of the bundle")
    command.add_argument(
        "--data", default="", metavar="PATH", help="test on captioned images of yours, not on drawings"
    )
    _add_columns(command)
    command.add_argument("--split", default="dev", choices=SPLITS, help="split of --data (default: %(default)s)")
    _add_encoder_weights(command)
    _add_engine(command)


def _add_export(command: Parser) -> None:
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    command.add_argument(
        "--format",
        choices=FORMATS,
        help="write files for other programs, weights included; default: graphs into the bundle",
    )
    command.add_argument("--output", type=Path, metavar="DIR", help="folder of the files of --format")
    command.add_argument("--int8", action="store_true", help="--format onnx: step and encoder in 8 bits where it pays")
    command.add_argument("--data", default="", metavar="PATH", help="--int8: score both on captioned images of yours")
    _add_columns(command)
    command.add_argument("--split", default="dev", choices=SPLITS, help="split of --data (default: %(default)s)")


def _add_data(command: Parser) -> None:
    command.add_argument("data", metavar="DATA", help="a captioned folder or captions file")
    _add_columns(command)


def _add_columns(command: Parser) -> None:
    for name in ("images", "image_column", "caption_column"):
        help = DataOptions.__dataclass_fields__[name].metadata["help"]
        command.add_argument(f"--{name.replace('_', '-')}", default="", metavar=name.upper(), help=help)


def _add_bundle(command: Parser) -> None:
    command.add_argument(
        "--bundle",
        action="append",
        metavar="FOLDER",
        help=f"the captioner; several times: an ensemble of captioners with the same words (default: {IN_THE_BOX})",
    )


def _add_search(command: Parser) -> None:
    about = "How the words of a caption are chosen. Defaults are those of most bundles; a bundle's own come first."
    add_group(command, DecodeOptions, "search", about)


def _add_engine(command: Parser) -> None:
    command.add_argument(
        "--engine",
        default="auto",
        choices=ENGINES,
        help="what computes captions; auto: ONNX Runtime where the bundle holds its graphs (default: %(default)s)",
    )


def _add_encoder_weights(command: Parser) -> None:
    command.add_argument(
        "--encoder-weights",
        default="imagenet",
        metavar="FILE",
        help="weights of a published encoder (default: download)",
    )
