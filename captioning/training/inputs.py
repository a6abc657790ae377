"""What a training reads: a data set without its unreadable images, and features of the images that are left."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.data.check import clean, inspect
from captioning.data.dataset import require_one_language
from captioning.data.image_index import ImageFacts, index_images
from captioning.data.load import SMOKE_SIZES, load_dataset
from captioning.data.published import PUBLISHED, bytes_to_fetch
from captioning.encoders.features import Compute, Features, read_features
from captioning.encoders.registry import NETWORKS, build_encoder, digest_of, image_size_of, weights_key
from captioning.errors import DataError
from captioning.options import ENCODERS, RecipeOptions
from captioning.runtime.files import is_same_disk, require_space
from captioning.training.sentences import read_sentences

if TYPE_CHECKING:
    import keras

    from captioning.inference.captioner import Captioner

STRIDE = 32  # pixels to a side of a region of the published encoders
Split = Mapping[Path, list[str]]  # images with their captions


@dataclass(frozen=True)
class TrainingData:
    """A data set of readable images: train, dev (train again where the data has none) and, if there is one, test."""

    name: str
    source: Path  # the folder that images are named in
    splits: Mapping[str, Split]
    index: Mapping[Path, ImageFacts]
    language: str = ""  # of its captions, where it is stated
    sentences: Sequence[str] = ()  # without images, to train the decoder on

    def digests(self, images: Iterable[Path]) -> dict[Path, str]:
        """Return the content hash of each image, which names it in the cache."""
        return {image: self.index[image].sha256 for image in images}


@dataclass(frozen=True)
class Inputs:
    """An encoder and what it is trained or run on."""

    encoder: "keras.Model"
    grids: Features | None  # the encoder's output; None where it is trained from scratch
    pixels: Features | None  # None where the encoder stays frozen


def load_data(options: RecipeOptions, *, others: Iterable[Path] = ()) -> TrainingData:
    """Read the data set, print what the check found, and leave out what cannot be read.

    The index of images is built here, once; `others` are images besides those of the data set.
    """
    run = options.run
    if options.words.sentences and (not options.training.epochs or options.model.encoder in NETWORKS):
        raise DataError("--sentences belongs to epochs on a frozen encoder; choose such an --encoder and --epochs 1.")
    sentences = read_sentences(options.words.sentences)
    say_disk_need(options)
    dataset, source = load_dataset(
        options.data,
        Path(run.downloads),
        seed=options.training.seed,
        smoke=run.smoke,
        language=options.decoding.language,
    )
    require_one_language(dataset)
    images = [image for split in dataset.splits.values() for image in split]
    index = index_images([*images, *others], Path(run.cache))
    findings = inspect(dataset, index=index)
    print(findings.text())
    dataset = clean(dataset, findings, run.max_unreadable)
    train = dataset.splits.get("train")
    if not train:
        found = ", ".join(split for split in dataset.splits if split != "train")
        raise DataError(f"{source} has no image to train on, only {found}; put some in a train split.")
    splits = {"dev": train} | {name: split for name, split in dataset.splits.items() if split}
    return TrainingData(dataset.name, source, splits, index, dataset.language, sentences)


def say_disk_need(options: RecipeOptions) -> None:
    """Print what a large published data set takes up, before anything is fetched; refuse disks that are too small."""
    name, downloads, cache = options.data.dataset, Path(options.run.downloads), Path(options.run.cache)
    if name not in PUBLISHED or (options.data.data and name != "flickr30k"):
        return
    num_images = sum(SMOKE_SIZES.values()) if options.run.smoke else PUBLISHED[name].num_images
    folder = downloads / name
    archives, pictures = bytes_to_fetch(name, folder)
    features = num_images * bytes_per_image(options)
    fetched = f"{_in_gb(archives)} of archives to fetch and {_in_gb(pictures)} to unpack in {folder}, "
    told = f"{fetched if pictures else ''}{_in_gb(features)} of features in {cache}"
    print(f"--dataset {name}: {num_images:,} images, {told}; the features of earlier runs are kept and used again.")
    if pictures:
        shared = features if is_same_disk(folder, cache) else 0
        require_space(folder, archives + pictures + shared, flag="--downloads")


def bytes_per_image(options: RecipeOptions) -> int:
    """Return about how many bytes of features a training image takes up in the cache."""
    name, training = options.model.encoder, options.training
    size, views = image_size_of(name, options.model.image_size), training.views
    pixels, grid = size * size * 3, 2 * ENCODERS[name].depth * ceil(size / STRIDE) ** 2
    if name in NETWORKS:
        return views * pixels
    is_tuned = bool(training.fine_tune_epochs)
    is_read_again = is_tuned and bool(training.reinforce_epochs)
    return is_tuned * pixels + (bool(training.epochs) + is_read_again) * views * grid


def _in_gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def load_features(data: TrainingData, options: RecipeOptions, base: "Captioner | None" = None) -> Inputs:
    """Build the encoder, or take that of `base`, and load the features of all images."""
    name, weights = options.model.encoder, options.model.encoder_weights
    size = image_size_of(name, options.model.image_size)
    is_from_scratch, pixels = name == "tiny", None
    if is_from_scratch or options.training.fine_tune_epochs:
        folder = Path(options.run.cache, f"pixels-{size}")
        views = options.training.views if is_from_scratch else 1  # fine-tuning crops anew in every epoch
        pixels = _read_splits(data, options, folder, compute=remote_compute(options, size), views=views)
    encoder = base.encoder if base else build_encoder(name, weights, size)
    if is_from_scratch or (pixels and not options.training.epochs):
        return Inputs(encoder, None, pixels)
    key = weights_key(weights) if base is None or base.model.encoder is None else digest_of(encoder)
    compute = remote_compute(options, size, (name, weights))
    grids = _read_splits(data, options, grids_folder(options, encoder, key), encoder, compute)
    return Inputs(encoder, grids, pixels)


def reload_grids(data: TrainingData, options: RecipeOptions, encoder: "keras.Model") -> Features:
    """Compute the grids of an encoder whose weights have changed."""
    return _read_splits(data, options, grids_folder(options, encoder, digest_of(encoder)), encoder)


def grids_folder(options: RecipeOptions, encoder: "keras.Model", key: str) -> Path:
    """Return the folder that caches the grids of an encoder with these weights."""
    return Path(options.run.cache, f"{encoder.name}-{encoder.input_shape[1]}-{key}")


def remote_compute(options: RecipeOptions, size: int, encoder: tuple[str, str] | None = None) -> Compute | None:
    """Return what computes features on a Ray cluster; None where this process does it.

    `encoder` is a name and its weights; None: pixels.
    """
    if options.engine.engine == "local":
        return None
    from captioning.extras import ray_engine

    return lambda missing: ray_engine.compute_features(
        missing, size=size, encoder=encoder, workers=options.engine.workers
    )


def _read_splits(
    data: TrainingData,
    options: RecipeOptions,
    folder: Path,
    encoder: "keras.Model | None" = None,
    compute: Compute | None = None,
    views: int | None = None,
) -> Features:
    """Read the features of all images; those to train on in several views."""
    images = data.digests(image for split in data.splits.values() for image in split)
    others = dict.fromkeys(data.splits["train"], range(1, views or options.training.views))
    size = image_size_of(options.model.encoder, options.model.image_size)
    return read_features(images, folder, image_size=size, encoder=encoder, views=others, compute=compute)
