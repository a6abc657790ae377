"""What a command consists of, and the arguments that several commands share."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import captioning
from captioning.options import ENGINES, DataOptions, DecodeOptions
from captioning.runtime.flags import Parser, add_group

PROGRAM = "python -m captioning"  # works wherever the package does, installed or not
SPLITS = ("train", "dev", "test")
IN_THE_BOX = f"artifacts/{captioning.IN_THE_BOX}"


@dataclass(frozen=True)
class Command:
    """A command: its usage, its purpose, its examples, its arguments, and the function that returns its exit status."""

    usage: str
    purpose: str
    examples: tuple[str, ...]
    add: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]

    @property
    def name(self) -> str:
        """The word that it is called by."""
        return self.usage.split()[0]


def add_data(command: Parser) -> None:
    command.add_argument("data", metavar="DATA", help="a captioned folder or captions file")
    add_columns(command)


def add_columns(command: Parser) -> None:
    for name in ("images", "image_column", "caption_column"):
        help = DataOptions.__dataclass_fields__[name].metadata["help"]
        command.add_argument(f"--{name.replace('_', '-')}", default="", metavar=name.upper(), help=help)


def add_bundle(command: Parser, *, published: bool = True) -> None:
    """The bundle of a command; with `published`, another captioner can be named instead."""
    command.add_argument(
        "--bundle",
        action="append",
        metavar="FOLDER",
        help=f"the captioner; several times: an ensemble of captioners with the same words (default: {IN_THE_BOX})",
    )
    if published:
        add_captioner(command)


def add_captioner(command: Parser) -> None:
    """Another captioner than a bundle, wherever --bundle is given."""
    command.add_argument(
        "--captioner",
        default="",
        metavar="NAME",
        help="instead of --bundle: blip, blip2, git, vit-gpt2, florence-2, a bundle, the folder or the hub name of a "
        "published model; NAME,NAME: the first that is sure answers",
    )
    add_offline(command)


def add_captioners(command: Parser) -> None:
    """Captioners that are offered beside bundles."""
    command.add_argument(
        "--captioner",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also offer these: blip, blip2, git, vit-gpt2, florence-2, a folder or a hub name, or NAME,NAME",
    )
    add_offline(command)


PAGE_MODELS = ("translate", "questions", "labels_model", "segments")  # flags of add_translations


def page_models(flags: argparse.Namespace) -> dict[str, Any]:
    """What was asked for by PAGE_MODELS."""
    return {name: getattr(flags, name) for name in PAGE_MODELS}


def add_translations(command: Parser) -> None:
    """Languages that captions are translated into, and the models that answer questions and find segments."""
    command.add_argument(
        "--translate",
        nargs="+",
        default=[],
        metavar="LANGUAGE",
        help="also offer captions in these languages, translated from English: vi, or vi=MODEL for another model",
    )
    command.add_argument(
        "--questions",
        default="",
        metavar="NAME",
        help="answer questions about a picture on the page: blip-vqa, vilt, blip2, a folder or a hub name",
    )
    command.add_argument(
        "--labels-model", default="", metavar="NAME", help="find labels on the page by clip too, a folder or a hub name"
    )
    command.add_argument(
        "--segments",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also a tab with segments of a picture: mask2former, detr, segformer, another of `segment --help`",
    )


def add_offline(command: Parser) -> None:
    command.add_argument("--offline", action="store_true", help="never ask, never download a published model")


def add_translator(command: Parser) -> None:
    """What translates captions where the captioner does not have the --language."""
    command.add_argument(
        "--translator",
        default="",
        metavar="NAME",
        help="Marian model from English for a --language that the captioner lacks: a folder or a hub name "
        "(default: Helsinki-NLP/opus-mt-en-LANGUAGE)",
    )


def add_search(command: Parser) -> None:
    about = "How the words of a caption are chosen. Defaults are those of most bundles; a bundle's own come first."
    add_group(command, DecodeOptions, "search", about)


def add_engine(command: Parser) -> None:
    command.add_argument(
        "--engine",
        default="auto",
        choices=ENGINES,
        help="what computes captions; auto: ONNX Runtime where the bundle holds its graphs (default: %(default)s)",
    )


def add_encoder_weights(command: Parser) -> None:
    command.add_argument(
        "--encoder-weights",
        default="imagenet",
        metavar="FILE",
        help="weights of a published encoder (default: download)",
    )
