"""The 1,000 classes of ImageNet in a picture, by the whole published network.

The encoder of the captioner in the box began as that network without its top, and was trained further without the
classes. So it cannot name them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning.data.images import read_image
from captioning.encoders.registry import build_classifier, image_size_of
from captioning.errors import CaptioningError, DataError
from captioning.inference.captioner import Image, source_of
from captioning.inference.labels import Label, Labels

if TYPE_CHECKING:
    import keras

ENCODER = "efficientnetv2b0"  # 78.7 % of ImageNet's pictures right
NUM_CLASSES = 1000
CACHED = ("efficientnetv2-b0.h5", "imagenet_class_index.json")  # as Keras names what it fetches


class ImageNetClassifier:
    """Tells the class of a picture, among those of ImageNet."""

    def __init__(self, network: "keras.Model", names: Sequence[str]) -> None:
        self.names, self._network = tuple(names), network

    def label(self, image: Image) -> Labels:
        """All classes with their probabilities, the most probable first; see Captioner.caption for images."""
        pixels = read_image(source_of(image), size=image_size_of(ENCODER))
        shares = np.asarray(self._network.predict_on_batch(pixels[None].astype("float32")), "float64")[0]
        if not np.isfinite(shares).all():
            raise CaptioningError(
                "The network produced NaN for this image; its weights may be corrupt, get them again."
            )
        order = np.argsort(-shares, kind="stable")
        return Labels(tuple(Label(self.names[place], float(shares[place])) for place in order))


def load_classifier(weights: str = "imagenet", *, offline: bool = False) -> ImageNetClassifier:
    """The classifier; Keras fetches its weights (29 MB), unless they are a file, and the names once."""
    if offline:
        _require_cached(CACHED if weights == "imagenet" else CACHED[1:])
    return ImageNetClassifier(build_classifier(ENCODER, weights), class_names())


def class_names() -> list[str]:
    """The names of the classes in the order of the network's output, fetched once by Keras."""
    from keras.applications.imagenet_utils import decode_predictions

    ascending = np.arange(NUM_CLASSES, dtype="float32")[None]
    try:
        [ranked] = decode_predictions(ascending, top=NUM_CLASSES)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        reason = str(error).splitlines()[0]
        raise DataError(
            f"The names of ImageNet's classes could not be downloaded ({reason}); go online once."
        ) from error
    return [name.replace("_", " ") for _, name, _ in reversed(ranked)]


def _require_cached(names: Sequence[str]) -> None:
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} has no {' and no '.join(missing)}; leave --offline out once, so that Keras fetches it."
        )
