"""An image captioner: train it, load it, caption with it.

import captioning

captioner = captioning.load()
print(captioner.caption("photo.jpg"))
"""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.errors import BundleError, CaptioningError

if TYPE_CHECKING:
    from captioning.inference.caption import Caption
    from captioning.inference.captioner import Captioner

__all__ = ["Caption", "Captioner", "CaptioningError", "load"]
__version__ = "0.2.0"

IN_THE_BOX = "flickr8k"  # the captioner that comes along
ARTIFACTS = Path(__file__).parents[1] / "artifacts"  # of a checkout
PACKAGED = Path(__file__).parent / "in_the_box"  # where an installed wheel has it

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's start-up messages


def __getattr__(name: str) -> object:
    """The classes, imported when they are first asked for: they need NumPy."""
    if name == "Caption":
        from captioning.inference.caption import Caption

        return Caption
    if name == "Captioner":
        from captioning.inference.captioner import Captioner

        return Captioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    path: str | Path | None = None, *others: str | Path, encoder_weights: str = "imagenet", engine: str = "auto"
) -> "Captioner":
    """The captioner of a bundle folder, or an ensemble of several; without one, the captioner that comes along.

    It computes on ONNX Runtime where the bundle holds its graphs, else on Keras; `engine` "onnx" or "keras" decides.
    `encoder_weights` is a weights file for a frozen encoder, or "imagenet", which Keras downloads.
    """
    from captioning.inference.bundle import load as load_bundle
    from captioning.inference.bundle_files import describe

    folder = in_the_box() if path is None else path
    captioner = load_bundle(folder, *others, encoder_weights=encoder_weights, engine=engine)
    captioner.read_about = functools.partial(describe, Path(folder), *map(Path, others))
    return captioner


def in_the_box() -> Path:
    """The folder of the captioner that comes along, in a checkout or in an installed package."""
    for folder in (ARTIFACTS / IN_THE_BOX, PACKAGED):
        if (folder / "config.json").is_file():
            return folder
    raise BundleError(
        f"No captioner was named and none lies in {ARTIFACTS}; give the folder of one: "
        'captioning.load("artifacts/flickr8k"), from a clone of the project.'
    )
