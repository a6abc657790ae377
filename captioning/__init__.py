"""A captioner for photographs: train it, load it, caption with it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captioning.inference.captioner import Captioner

__all__ = ["load"]
__version__ = "0.1.0"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings are not for our users


def load(path: str | Path, *others: str | Path, encoder_weights: str = "imagenet") -> "Captioner":
    """The captioner of a bundle folder, or of several that caption together.

    `encoder_weights` is a file where Keras should not fetch a frozen encoder's.
    """
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from captioning.inference.bundle import load as load_bundle

    return load_bundle(path, *others, encoder_weights=encoder_weights)
