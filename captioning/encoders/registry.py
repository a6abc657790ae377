"""The encoders by name: what builds each, its input size, its last stage, its weights.

An encoder maps images (B, H, W, 3), 0 to 255, to grids (B, L, D): L regions, row by row from the top left.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.encoders.networks import pocket, tiny
from captioning.errors import DataError
from captioning.runtime.devices import without_distribution

if TYPE_CHECKING:
    import keras


PROBES = 8


@dataclass(frozen=True)
class EncoderKind:
    """One network of keras.applications: where it is, its usual input side, how its last stage's layers are called."""

    module: str
    constructor: str
    image_size: int
    last_stage: tuple[str, ...]


APPLICATIONS = {
    "resnet50": EncoderKind("resnet", "ResNet50", 224, ("conv5_",)),
    "resnet101": EncoderKind("resnet", "ResNet101", 224, ("conv5_",)),
    "mobilenetv2": EncoderKind("mobilenet_v2", "MobileNetV2", 224, ("block_14", "block_15", "block_16", "Conv_1")),
    "efficientnetv2b0": EncoderKind("efficientnet_v2", "EfficientNetV2B0", 224, ("block6", "top_")),
}


@dataclass(frozen=True)
class OwnKind:
    """One network of our own: what builds it, its usual input side; all of its layers are its last stage."""

    network: Callable[[Any], Any]
    image_size: int
    is_taught: bool  # by a teacher, before a captioner is trained on it
    last_stage: tuple[str, ...] = ("",)


OWN = {"tiny": OwnKind(tiny, 132, False), "pocket": OwnKind(pocket, 128, True)}


KINDS: dict[str, EncoderKind | OwnKind] = APPLICATIONS | OWN


def image_size_of(name: str, image_size: int = 0) -> int:
    """The side of the square an encoder looks at: the one asked for, or its usual one."""
    return image_size or KINDS[name].image_size


def build_encoder(name: str, weights: str = "imagenet", image_size: int = 0) -> "keras.Model":
    """The network from (B, H, W, 3) images, 0 to 255, to (B, L, D) grids, with its own preprocessing inside."""
    import keras

    size = image_size_of(name, image_size)
    images = keras.Input((size, size, 3), name="images")
    if name in OWN:
        grid = OWN[name].network(keras.layers.Rescaling(1 / 127.5, offset=-1, dtype="float32")(images))
    else:
        grid = _application(APPLICATIONS[name], weights, size)(_preprocessing(name)(images))
    encoder = keras.Model(images, keras.layers.Reshape((-1, grid.shape[-1]))(grid), name=name)
    encoder.jit_compile = keras.backend.backend() == "jax"
    with without_distribution():
        encoder.make_predict_function()
    if name in OWN and OWN[name].is_taught and weights != "none":
        _load_own(encoder, weights)
    return encoder


def _load_own(encoder: "keras.Model", weights: str) -> None:
    if weights == "imagenet":
        raise DataError(
            f"The {encoder.name} encoder has no ImageNet weights; `captioning distill DATA` makes its weights, "
            "give the file with --encoder-weights FILE."
        )
    _load(encoder, weights, f"the {encoder.name} encoder")


def _preprocessing(name: str) -> Any:
    import keras

    module = getattr(keras.applications, APPLICATIONS[name].module)
    return keras.layers.Lambda(module.preprocess_input, dtype="float32", name="preprocessing")


def _application(kind: EncoderKind, weights: str, size: int) -> "keras.Model":
    import keras

    build = getattr(getattr(keras.applications, kind.module), kind.constructor)
    options = {"include_top": False, "input_shape": (size, size, 3)}
    if weights == "none":
        return build(weights=None, **options)
    if weights == "imagenet":
        return _fetched(build, kind.constructor, options)
    network = build(weights=None, **options)
    _load(network, weights, f"{kind.constructor} without its top")
    return network


def _load(network: "keras.Model", weights: str, whose: str) -> None:
    if not Path(weights).is_file():
        raise DataError(f"There is no weights file {weights}; give a .weights.h5 of {whose}, or none.")
    try:
        network.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise DataError(f"{weights} does not hold the weights of {whose}: {str(error).splitlines()[0]}") from error


def _fetched(build: Callable, constructor: str, options: dict[str, Any]) -> "keras.Model":
    try:
        return build(weights="imagenet", **options)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        raise DataError(
            f"The ImageNet weights of {constructor} could not be fetched ({str(error).splitlines()[0]}); go online "
            f"once, or give a file with --encoder-weights FILE; --dataset scenes needs none."
        ) from error


def open_last_stage(encoder: "keras.Model") -> int:
    """Makes only the last stage of an encoder trainable, batch norms excepted; returns how many weights that frees."""
    import keras

    encoder.trainable = True
    for layer in _network(encoder).layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name.startswith(KINDS[encoder.name].last_stage) and not is_norm
    return len(encoder.trainable_weights)


def earlier_weights(encoder: "keras.Model") -> list[Any]:
    """The weights before the last stage of an encoder, which no training of ours changes."""
    last_stage = KINDS[encoder.name].last_stage
    layers = [layer for layer in _network(encoder).layers if not layer.name.startswith(last_stage)]
    return [weight for layer in layers for weight in layer.weights]


def _network(encoder: "keras.Model") -> "keras.Model":
    import keras

    return next((layer for layer in encoder.layers if isinstance(layer, keras.Model)), encoder)


def weights_key(weights: str) -> str:
    """A name for an encoder's weights that changes when a weights file's content does."""
    if weights in ("imagenet", "none"):
        return weights
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest_of(model: "keras.Model") -> str:
    """A name for a model's weights as they are now."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()[:16]


def probe(encoder: "keras.Model") -> list[float]:
    """What an encoder answers to one fixed picture: eight numbers by which two encoders can be told apart."""
    size = encoder.input_shape[1]
    ramp = np.linspace(0, 255, size, dtype="float32")
    picture = np.stack(
        [np.add.outer(ramp, ramp) / 2, np.tile(ramp, (size, 1)), np.tile(255 - ramp, (size, 1)).T], axis=-1
    )
    grid = np.asarray(encoder.predict_on_batch(picture[None]), dtype="float32")[0]
    return [float(part.mean()) for part in np.array_split(grid.reshape(-1), PROBES)]
