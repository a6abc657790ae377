"""An image captioner: train it, load it, caption with it.

import captioning

captioner = captioning.load()
print(captioner.caption("photo.jpg"))
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.errors import BundleError, CaptioningError

if TYPE_CHECKING:
    from captioning.inference.caption import Caption
    from captioning.inference.captioner import Captioner

__all__ = ["Caption", "Captioner", "CaptioningError", "load"]
__version__ = "0.2.0"

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
IN_THE_BOX = "flickr8k"  # the captioner that comes along

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's start-up messages


def __getattr__(name: str) -> object:
    """The classes, imported when they are first asked for: Captioner needs Keras, which takes seconds."""
    if name == "Caption":
        from captioning.inference.caption import Caption

        return Caption
    if name == "Captioner":
        from captioning.runtime.keras_import import import_keras

        import_keras()
        from captioning.inference.captioner import Captioner

        return Captioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(path: str | Path | None = None, *others: str | Path, encoder_weights: str = "imagenet") -> "Captioner":
    """The captioner of a bundle folder, or an ensemble of several; without one, the captioner that comes along.

    `encoder_weights` is a weights file for a frozen encoder, or "imagenet", which Keras downloads.
    """
    from captioning.runtime.keras_import import import_keras

    folder = _in_the_box() if path is None else path
    import_keras()
    from captioning.inference.bundle import load as load_bundle

    return load_bundle(folder, *others, encoder_weights=encoder_weights)


def _in_the_box() -> Path:
    if (ARTIFACTS / IN_THE_BOX / "config.json").is_file():
        return ARTIFACTS / IN_THE_BOX
    raise BundleError(
        f"No captioner was named and none lies in {ARTIFACTS}; give the folder of one: "
        'captioning.load("artifacts/flickr8k"), from a clone of the project.'
    )
