"""What several commands do first: open captioners and data sets, and say what was left out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import captioning
from captioning.commands.arguments import IN_THE_BOX
from captioning.errors import CaptioningError
from captioning.options import ENGINES, DataOptions

if TYPE_CHECKING:
    from captioning.inference.captioner import Captioner
    from captioning.inference.protocol import AnyCaptioner


def tell(sentence: str) -> None:
    print(f"captioning: {sentence}", file=sys.stderr)


def tell_left_out(problems: Sequence[str], total: int) -> None:
    if problems:
        tell("\n".join([f"{len(problems):,} of {total:,} images left out:", *(f"  {each}" for each in problems)]))


def bundles_of(flags: argparse.Namespace) -> list[Path]:
    nearby = Path(IN_THE_BOX)  # in a checkout, and shorter to read
    return [Path(each) for each in flags.bundle or [nearby if nearby.exists() else captioning.in_the_box()]]


def load(flags: argparse.Namespace, *bundles: Path) -> Any:
    """The captioner of the flags, or the one of these bundles."""
    if getattr(flags, "captioner", "") and not bundles:
        if flags.bundle:
            raise CaptioningError("--bundle and --captioner exclude each other; give one of them.")
        return load_named(flags, flags.captioner)
    return _load_bundles(flags, *bundles)


def load_named(flags: argparse.Namespace, name: str) -> "AnyCaptioner":
    """The captioner of a name: a bundle, a published model, or several with commas between them."""
    from captioning.extras.captioners import open_captioner

    def load_one(folder: Path) -> "AnyCaptioner":
        return _load_bundles(flags, folder)

    return open_captioner(name, load=load_one, offline=flags.offline)


def load_speaking(flags: argparse.Namespace) -> Any:
    """The captioner of the flags; where it lacks the --language, with a translator of its English captions."""
    language = flags.language or ""
    if flags.translator and not language:
        raise CaptioningError("--translator is for a --language, such as --language vi; give one, or leave it out.")
    captioner = load(flags)
    if not language:
        return captioner
    from captioning.extras.translation import translated_captioner

    return translated_captioner(captioner, language, flags.translator, offline=flags.offline, tell=tell)


def tell_cascade(captioner: "AnyCaptioner") -> None:
    """Says how many pictures went on from one captioner of a cascade to the next."""
    if report := getattr(captioner, "report", None):
        tell(report())


def _load_bundles(flags: argparse.Namespace, *bundles: Path) -> "Captioner":
    from captioning.inference.bundle import runs_on_onnx
    from captioning.runtime.keras_import import import_keras_alone

    folders = bundles or bundles_of(flags)
    engine = flags.engine if flags.engine in ENGINES else "auto"  # not given, or ray
    if not runs_on_onnx(folders, engine):
        import_keras_alone()
    return captioning.load(*folders, encoder_weights=flags.encoder_weights, engine=engine)


def dataset_of(flags: argparse.Namespace) -> Any:
    """The data set that the flags describe, and the folder that its images are named in."""
    from captioning.data.load import load_dataset

    columns = {name: getattr(flags, name) for name in ("images", "image_column", "caption_column")}
    options, language = DataOptions(data=flags.data or ".", **columns), getattr(flags, "language", None) or ""
    return load_dataset(options, Path("data"), seed=0, language=language)
