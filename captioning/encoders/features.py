"""Images -> grids of feature vectors: the encoders, and a cache that keeps what they saw.

Knows nothing of captions. A grid is (L, D): L regions, row by row from the top left, of depth D.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from captioning.encoders.networks import pocket, tiny
from captioning.encoders.views import view
from captioning.errors import DataError, StorageError
from captioning.runtime.devices import undivided
from captioning.runtime.files import explain_disk_errors, require_space

if TYPE_CHECKING:
    import keras

BATCH = 32
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
    with undivided():
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


class Rows:
    """Arrays of one shape in one growing file, memory-mapped, each under its image's content hash.

    A row counts only once its name stands in the index; what a killed process left beyond that is cut off.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.row_bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._data, self._index = folder / "rows.bin", folder / "index.txt"
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._data.touch()
            self._index.touch()
            self._repair()

    def _repair(self) -> None:
        names = [line for line in self._index.read_text().splitlines(keepends=True) if line.endswith("\n")]
        names = names[: self._data.stat().st_size // self.row_bytes]
        os.truncate(self._index, sum(map(len, names)))
        os.truncate(self._data, len(names) * self.row_bytes)
        self.index = {name.strip(): row for row, name in enumerate(names)}

    def add(self, names: Sequence[str], rows: np.ndarray) -> None:
        """Appends rows; the data reach the file before their names do."""
        assert rows.shape[1:] == self.shape, f"{rows.shape[1:]} is not {self.shape}"
        with explain_disk_errors(self._data):
            with open(self._data, "ab") as file:
                file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
            with open(self._index, "a") as file:
                file.write("".join(f"{name}\n" for name in names))
        self.index.update({name: len(self.index) + offset for offset, name in enumerate(names)})

    def open(self) -> np.ndarray:
        """All rows, (N, *shape), read from the disk as they are used."""
        if not self.index:
            return np.zeros((0, *self.shape), self.dtype)
        return np.memmap(self._data, self.dtype, "r", shape=(len(self.index), *self.shape))


@dataclass(frozen=True)
class Features:
    """What the network is shown: `array[rows[image]]` for every image; `views` has the rows of its other looks."""

    array: np.ndarray
    rows: dict[Path, int]
    views: dict[Path, list[int]] = field(default_factory=dict)


Look = tuple[str, int]  # content hash of an image, number of the view
Seen = Iterator[tuple[list[Look], np.ndarray]]  # looks and their rows, (N, L, D) or (N, H, W, 3), in any order


def read_features(
    images: dict[Path, str],
    folder: Path,
    *,
    image_size: int,
    encoder: "keras.Model | None" = None,
    views: Mapping[Path, Sequence[int]] | None = None,
    elsewhere: Callable[[dict[Look, Path]], Seen] | None = None,
) -> Features:
    """The grids of images {file: content hash}, computed where the cache lacks them; without encoder, pixels.

    The images that `views` names are looked at in those other ways too; `elsewhere` does it, if not this process.
    """
    views = views or {}
    shape = encoder.output_shape[1:] if encoder else (image_size, image_size, 3)
    cache = Rows(folder, shape, "float16" if encoder else "uint8")
    wanted = {(digest, 0): image for image, digest in images.items()}
    wanted |= {(images[image], number): image for image, numbers in views.items() for number in numbers}
    missing = {look: image for look, image in wanted.items() if _name(look) not in cache.index}
    require_space(folder, len(missing) * cache.row_bytes)
    for looks, seen in elsewhere(missing) if elsewhere else look_at(missing, image_size, encoder):
        cache.add(list(map(_name, looks)), seen)
    rows = {image: cache.index[digest] for image, digest in images.items()}
    others = {
        image: [cache.index[_name((images[image], number))] for number in numbers] for image, numbers in views.items()
    }
    return Features(cache.open(), rows, others)


def _name(look: Look) -> str:
    return f"{look[0]}.{look[1]}" if look[1] else look[0]


def look_at(missing: dict[Look, Path], image_size: int, encoder: "keras.Model | None") -> Seen:
    """The grids of these looks, batch by batch, as the cache keeps them; without encoder, their pixels."""
    for looks, pixels in _decoded(missing, image_size):
        yield looks, _encoded(encoder, pixels) if encoder else pixels


def _decoded(missing: dict[Look, Path], image_size: int) -> Seen:
    """Batches of decoded images; the next batches are decoded while the caller works on this one."""
    looks = list(missing)
    batches = [looks[first : first + BATCH] for first in range(0, len(looks), BATCH)]
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(looks), desc="features", unit="image", disable=None if looks else True) as bar,
    ):
        begin = lambda batch: [pool.submit(view, missing[which], image_size, *which) for which in batch]  # noqa: E731
        waiting = [begin(batch) for batch in batches[:2]]
        for number, batch in enumerate(batches):
            if number + 2 < len(batches):
                waiting.append(begin(batches[number + 2]))
            yield batch, np.stack([future.result() for future in waiting.pop(0)])
            bar.update(len(batch))


def _encoded(encoder: "keras.Model", pixels: np.ndarray) -> np.ndarray:
    padded = np.concatenate([pixels, np.repeat(pixels[-1:], BATCH - len(pixels), axis=0)])  # one shape, compiled once
    grids = np.asarray(encoder.predict_on_batch(padded), dtype="float32")[: len(pixels)]
    if not np.isfinite(grids).all():
        raise StorageError("The encoder gave features that are not numbers; check --encoder-weights.")
    return np.clip(grids, -65504, 65504).astype("float16")
