"""Which data set was asked for, fetched or drawn where it is missing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from captioning.data.dataset import Dataset, read_dataset
from captioning.data.download import fetch_flickr8k
from captioning.data.published import fetch_coco, find_flickr30k, karpathy_split
from captioning.data.scenes.dataset import write_scenes
from captioning.options import DataOptions

SMOKE_SIZES: Mapping[str, int] = MappingProxyType({"train": 48, "dev": 16, "test": 16})


def load_dataset(
    options: DataOptions, downloads: Path, *, seed: int = 0, smoke: bool = False, language: str = ""
) -> tuple[Dataset, Path]:
    """The data set, and its folder; with `smoke` only a few images of it, with `language` only captions in that."""
    name = options.dataset
    if name == "flickr30k" or (name.startswith("coco") and not options.data):
        dataset, root = _published(options, downloads)
        return (_few(dataset) if smoke else dataset), root.absolute()
    if options.data:
        folder = Path(options.data)
    elif name == "scenes":
        folder = write_scenes(downloads / ("scenes-smoke" if smoke else "scenes"), sizes=SMOKE_SIZES if smoke else None)
    else:
        folder = fetch_flickr8k(downloads / "flickr8k")
    dataset = read_dataset(
        folder,
        image_column=options.image_column,
        caption_column=options.caption_column,
        images=Path(options.images) if options.images else None,
        seed=seed,
        language=language,
    )
    root = folder if folder.is_dir() else folder.parent
    return (_few(dataset) if smoke else dataset), root.absolute()


def _published(options: DataOptions, downloads: Path) -> tuple[Dataset, Path]:
    """Flickr30k, from the folder that a person has, or COCO, with the captions and splits of Karpathy."""
    name, folder = options.dataset, Path(options.data or downloads / options.dataset)
    images = Path(options.images) if options.images else folder
    if name == "flickr30k":
        find_flickr30k(images)
    else:
        fetch_coco(name, folder)
    return replace(read_dataset(karpathy_split(name, folder, downloads), images=images), name=name), images


def _few(dataset: Dataset) -> Dataset:
    splits = {split: dict(list(images.items())[: SMOKE_SIZES[split]]) for split, images in dataset.splits.items()}
    return replace(dataset, splits=splits)
