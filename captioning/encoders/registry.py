"""Builds the encoders of options.ENCODERS by name, with their weights, and tells two encoders apart.

An encoder maps images (B, H, W, 3), 0 to 255, to grids (B, L, D): L regions, row by row from the top left.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.encoders.networks import tiny
from captioning.errors import DataError
from captioning.options import ENCODERS
from captioning.runtime.devices import without_distribution

if TYPE_CHECKING:
    import keras


PROBES = 8
NETWORKS = {"tiny": tiny}  # our own, which nobody can download


RESNET = (("conv1_",), ("conv2_",), ("conv3_",), ("conv4_",), ("conv5_",))
MOBILENET = (
    ("Conv1", "bn_Conv1", "expanded_conv_"),
    ("block_1_", "block_2_"),
    ("block_3_", "block_4_", "block_5_"),
    ("block_6_", "block_7_", "block_8_", "block_9_"),
    ("block_10_", "block_11_", "block_12_", "block_13_"),
    ("block_14_", "block_15_", "block_16_", "Conv_1"),
)
EFFICIENTNET = (("stem_",), ("block1",), ("block2",), ("block3",), ("block4",), ("block5",), ("block6", "top_"))
STAGES = {  # first to last: what the names of a stage's layers begin with; an encoder that is not here has one stage
    "resnet50": RESNET,
    "resnet101": RESNET,
    "mobilenetv2": MOBILENET,
    "efficientnetv2b0": EFFICIENTNET,
}
ONE_STAGE = (("",),)


def image_size_of(name: str, image_size: int = 0) -> int:
    """The side of an encoder's square input: the one asked for, or its usual one."""
    return image_size or ENCODERS[name].image_size


def build_encoder(name: str, weights: str = "imagenet", image_size: int = 0) -> "keras.Model":
    """The network from (B, H, W, 3) images, 0 to 255, to (B, L, D) grids, with its own preprocessing inside."""
    import keras

    size = image_size_of(name, image_size)
    images = keras.Input((size, size, 3), name="images")
    if name in NETWORKS:
        grid = NETWORKS[name](keras.layers.Rescaling(1 / 127.5, offset=-1, dtype="float32")(images))
    else:
        module, _, constructor = ENCODERS[name].application.partition(".")
        network = _application(module, constructor, weights, size)
        grid = network(_preprocessing(module)(images))
    encoder = keras.Model(images, keras.layers.Reshape((-1, grid.shape[-1]))(grid), name=name)
    encoder.jit_compile = keras.backend.backend() == "jax"
    with without_distribution():
        encoder.make_predict_function()
    return encoder


def build_classifier(name: str, weights: str = "imagenet") -> "keras.Model":
    """The whole published network of an encoder: images (B, S, S, 3), 0 to 255, to probabilities (B, 1000)."""
    import keras

    module, _, constructor = ENCODERS[name].application.partition(".")
    size = image_size_of(name)
    images = keras.Input((size, size, 3), name="images")
    network = _application(module, constructor, weights, size, top=True)
    return keras.Model(images, network(_preprocessing(module)(images)), name=f"{name}_classifier")


def _preprocessing(module: str) -> "keras.layers.Layer":
    import keras

    preprocess = getattr(keras.applications, module).preprocess_input
    return keras.layers.Lambda(preprocess, dtype="float32", name="preprocessing")


def _application(module: str, constructor: str, weights: str, size: int, *, top: bool = False) -> "keras.Model":
    import keras

    build = getattr(getattr(keras.applications, module), constructor)
    options = {"include_top": top, "input_shape": (size, size, 3)}
    if weights == "none":
        return build(weights=None, **options)
    if weights == "imagenet":
        return _fetched(build, constructor, options)
    network = build(weights=None, **options)
    _load(network, weights, f"{constructor} {'with' if top else 'without'} its top")
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
        hint = "" if options["include_top"] else "; --dataset scenes needs none"
        raise DataError(
            f"The ImageNet weights of {constructor} could not be downloaded ({str(error).splitlines()[0]}); go online "
            f"once, or give a file with --encoder-weights FILE{hint}."
        ) from error


def open_stages(encoder: "keras.Model", count: int = 1) -> int:
    """Make the last `count` stages of an encoder trainable, all of them with 0; return how many weights that are.

    Batch norms stay frozen. Published encoders drop no residual branch.
    """
    import keras

    names = tuple(name for stage in STAGES.get(encoder.name, ONE_STAGE)[-count:] for name in stage)
    encoder.trainable = True
    for layer in _network(encoder).layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name.startswith(names) and not is_norm
        if isinstance(layer, keras.layers.Dropout) and encoder.name in STAGES:
            layer.rate = 0  # its random state would be missing from torch's checkpoints
    return len(encoder.trainable_weights)


def rate_factors(encoder: "keras.Model") -> dict[str, float]:
    """The fraction of the learning rate for each weight, by its path: halved with every stage before the last."""
    return {
        weight.path: 0.5**depth
        for depth, stage in enumerate(reversed(STAGES.get(encoder.name, ONE_STAGE)))
        for layer in _network(encoder).layers
        if layer.name.startswith(stage)
        for weight in layer.weights
    }


def earlier_weights(encoder: "keras.Model") -> list["keras.Variable"]:
    """The weights before the last stage of an encoder, which fine-tuning of that stage alone does not change."""
    last_stage = STAGES.get(encoder.name, ONE_STAGE)[-1]
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
    """The output of an encoder for one fixed picture, as eight numbers that differ between encoders."""
    return probe_numbers(encoder.predict_on_batch(probe_picture(encoder.input_shape[1])[None])[0])


def probe_picture(size: int) -> np.ndarray:
    """One fixed picture (size, size, 3)."""
    ramp = np.linspace(0, 255, size, dtype="float32")
    return np.stack([np.add.outer(ramp, ramp) / 2, np.tile(ramp, (size, 1)), np.tile(255 - ramp, (size, 1)).T], axis=-1)


def probe_numbers(grid: np.ndarray) -> list[float]:
    """A grid as eight numbers."""
    values = np.asarray(grid, dtype="float32").reshape(-1)
    return [float(part.mean()) for part in np.array_split(values, PROBES)]
