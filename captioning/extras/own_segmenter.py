"""The segmenter that `captioning segment-train` trains: a small convolutional network, and its folder.

The network is a U-Net with three outputs: categories, centres of objects, and offsets to the centres.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.errors import BundleError
from captioning.extras.segment_grouping import group
from captioning.extras.segments import OWN, Segment
from captioning.runtime import strict_json
from captioning.runtime.files import atomic_file, atomic_write

if TYPE_CHECKING:
    import keras

WEIGHTS = "segmenter.weights.h5"
FORMAT = 1
STRIDE = 2  # pixels of the network's picture for one cell of its maps
SIZES = range(32, 513, 16)
LONGEST_TEXT = 4 * 2**20
DAMAGE = (ValueError, TypeError, OSError, KeyError, RuntimeError)


@dataclass(frozen=True)
class SegmenterConfig:
    """The shape of a network. `widths` are the channels at a half, a quarter, an eighth and a sixteenth of a side."""

    categories: tuple[str, ...]
    image_size: int = 96
    widths: tuple[int, int, int, int] = (24, 32, 64, 128)

    @property
    def grid(self) -> int:
        """The side of the maps in cells."""
        return self.image_size // STRIDE


def build_network(config: SegmenterConfig) -> "keras.Model":
    """The network: pictures (N, S, S, 3) from 0 to 255 -> logits (N, G, G, 1 + K), centres (N, G, G, 1), offsets."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    import keras
    from keras import layers

    first, *deeper = config.widths
    inputs = keras.Input((config.image_size, config.image_size, 3))
    level = layers.Rescaling(1 / 127.5, -1.0, name="scale")(inputs)
    level = _convolve(level, first, "stem", strides=2)
    levels = [level]
    for number, width in enumerate(deeper):
        level = _convolve(level, width, f"down{number}", strides=2)
        for repeat in range(1 if number == 0 else 2):
            level = layers.add([level, _convolve(level, width, f"down{number}_{repeat}")])
        levels.append(level)
    level = levels.pop()
    for number, skipped in enumerate(reversed(levels)):
        width = skipped.shape[-1]
        level = layers.UpSampling2D(2, interpolation="bilinear")(_convolve(level, width, f"side{number}", kernel=1))
        level = _convolve(layers.add([level, skipped]), width, f"up{number}")
    outputs = [
        layers.Conv2D(1 + len(config.categories), 1, name="categories")(level),
        layers.Conv2D(1, 1, name="centres")(level),
        layers.Conv2D(2, 1, name="offsets")(level),
    ]
    network = keras.Model(inputs, outputs, name="segmenter")
    network.jit_compile = keras.backend.backend() == "jax"  # on TensorFlow it takes half a minute to begin
    return network


def _convolve(
    level: "keras.KerasTensor", width: int, name: str, *, kernel: int = 3, strides: int = 1
) -> "keras.KerasTensor":
    from keras import layers

    level = layers.Conv2D(width, kernel, strides, padding="same", use_bias=False, name=name)(level)
    level = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(level)
    return layers.ReLU()(level)


class OwnSegmenter:
    """A network and the names of its categories."""

    def __init__(self, network: "keras.Model", config: SegmenterConfig, name: str) -> None:
        self.network, self.config, self.name = network, config, name

    def segments(self, image: np.ndarray, *, threshold: float = 0.5) -> list[Segment]:
        """The segments of an RGB picture (H, W, 3) of uint8 with at least this score, the best first."""
        [found] = self.segments_of([image])
        return [segment for segment in found if segment.score >= threshold]

    def segments_of(self, images: Sequence[np.ndarray]) -> list[list[Segment]]:
        """All segments of some pictures, whatever their score."""
        from captioning.data.images import read_image

        side = self.config.image_size
        batch = np.stack([read_image(image, size=side) for image in images]).astype(np.float32)
        maps = [np.asarray(each, np.float32) for each in self.network.predict_on_batch(batch)]
        return [
            group(softmax(logits), centres[..., 0], offsets, image.shape[:2], self.config.categories)
            for image, logits, centres, offsets in zip(images, *maps, strict=True)
        ]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def save_segmenter(folder: Path, network: "keras.Model", config: SegmenterConfig, about: dict[str, Any]) -> None:
    """Writes the weights, then segmenter.json with their SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / f"new.{WEIGHTS}"
    plain = build_network(config)  # without an optimizer, whose variables Keras would save too
    plain.set_weights(network.get_weights())
    plain.save_weights(saved)
    data = saved.read_bytes()
    saved.unlink()
    with atomic_file(folder / WEIGHTS) as file:
        file.write(data)
    record = {"format": FORMAT, "config": asdict(config), "about": about, "sha256": hashlib.sha256(data).hexdigest()}
    atomic_write(folder / OWN, strict_json.dumps(record, indent=2))


def load_own_segmenter(folder: Path) -> OwnSegmenter:
    """The segmenter of a folder that `captioning segment-train` has written. Raises BundleError where it is altered."""
    from captioning.inference.bundle_files import check_files

    folder = Path(folder)
    config, digest = _read_config(folder)
    check_files(folder, {WEIGHTS: digest}, [WEIGHTS])
    network = build_network(config)
    _load_weights(folder, network)
    return OwnSegmenter(network, config, folder.resolve().name)


def _load_weights(folder: Path, network: "keras.Model") -> None:
    from captioning.inference.weights_file import validate_hdf5

    try:
        validate_hdf5(folder / WEIGHTS, sum(math.prod(variable.shape) for variable in network.variables))
        network.load_weights(folder / WEIGHTS)
    except DAMAGE as error:
        raise BundleError(f"{folder}/{WEIGHTS} does not fit its {OWN}: {str(error).splitlines()[0]}") from error
    if not all(np.isfinite(weight).all() for weight in network.get_weights()):
        raise BundleError(f"{folder}/{WEIGHTS} holds NaN or infinite weights; train it again.")


def _read_config(folder: Path) -> tuple[SegmenterConfig, str]:
    from captioning.inference.bundle_files import open_own

    with open_own(folder, OWN) as file:
        text = file.read(LONGEST_TEXT + 1)
    try:
        record = strict_json.loads(text)
        entries, digest = record["config"], record["sha256"]
        names, widths, size = entries["categories"], entries["widths"], entries["image_size"]
        if record["format"] != FORMAT or not isinstance(digest, str) or len(text) > LONGEST_TEXT:
            raise ValueError(f"its format is {str(record['format'])[:20]}, {FORMAT} was expected")
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) for name in names)
            or len(names) > 10_000
        ):
            raise ValueError("its categories are not a list of names")
        if size not in SIZES or len(widths) != 4 or not all(type(w) is int and 0 < w <= 2048 for w in widths):
            raise ValueError("its image_size or widths are not those of a network")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}/{OWN} does not describe a segmenter ({error}); copy the folder again.") from None
    return SegmenterConfig(tuple(names), size, tuple(widths)), digest
