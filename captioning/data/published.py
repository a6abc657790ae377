"""COCO, Flickr30k and Karpathy's splits of both: where they are published, how large they are, where they go.

The captions are those in the file of Karpathy's split. COCO has 113,287 images of train, 5,000 of dev, 5,000 of test
there, Flickr30k 29,000, 1,014 and 1,000.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from captioning.data.dataset import find_images
from captioning.data.download import Archive, advise, fetch_archive, picture_name, unpack
from captioning.errors import DataError
from captioning.runtime.files import explain_disk_errors, require_space


@dataclass(frozen=True)
class PublishedSet:
    """A data set with Karpathy's split: the name of its split's file, its images in that split, its archives."""

    split_file: str
    num_images: int
    texts: Archive | None = None  # None: nothing of it may be fetched
    pictures: tuple[Archive, ...] = ()


def _coco(path: str, sha256: str, size: int) -> Archive:
    return f"http://images.cocodataset.org/{path}", f"sha256:{sha256}", size  # https has another host's certificate


# COCO publishes no hashes; those here are TensorFlow Datasets' (url_checksums/coco.txt and coco_captions.txt)
COCO_2017 = PublishedSet(
    "dataset_coco.json",
    123_287,
    _coco(
        "annotations/annotations_trainval2017.zip",
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        252_907_541,
    ),
    (
        _coco("zips/val2017.zip", "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05", 815_585_330),
        _coco("zips/train2017.zip", "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929", 19_336_861_798),
    ),
)
COCO_2014 = PublishedSet(
    "dataset_coco.json",
    123_287,
    _coco(
        "annotations/annotations_trainval2014.zip",
        "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
        252_872_794,
    ),
    (
        _coco("zips/val2014.zip", "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0", 6_645_013_297),
        _coco("zips/train2014.zip", "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775", 13_510_573_713),
    ),
)
FLICKR30K = PublishedSet("dataset_flickr30k.json", 31_014)
PUBLISHED: Mapping[str, PublishedSet] = MappingProxyType(
    {"coco": COCO_2017, "coco2014": COCO_2014, "flickr30k": FLICKR30K}
)
KARPATHY: Archive = (
    "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
    "sha256:4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817",
    36_745_453,
)
FLICKR30K_FORM = "https://forms.illinois.edu/sec/229675"
FLICKR30K_LAYOUTS = (
    "its pictures beside dataset_flickr30k.json, results_20130124.token, results.csv or captions.txt, in any sub-folder"
)


def bytes_to_fetch(name: str, folder: Path) -> tuple[int, int]:
    """Return the bytes that a data set still needs in its folder: of archives, and of what is unpacked from them.

    Pictures shrink by next to nothing in an archive, so as many bytes are unpacked.
    """
    archives = unpacked = 0
    for url, _, size in PUBLISHED[name].pictures:
        if not _has_pictures(folder, _stem(url)):
            part = folder / f"{_stem(url)}.zip.part"
            there = part.with_suffix("") if part.with_suffix("").exists() else part
            archives += size - min(size, there.stat().st_size if there.exists() else 0)
            unpacked += size
    return archives, unpacked


def fetch_coco(name: str, folder: Path) -> Path:
    """Fetch COCO into `annotations/` and a folder for each archive of pictures, but for what is there.

    Size and SHA-256 of every archive are checked, and the CRC of every unpacked file.
    """
    published = PUBLISHED[name]
    assert published.texts is not None, f"{name} may not be fetched"
    require_space(folder, sum(bytes_to_fetch(name, folder)), flag="--downloads")
    advice = f"the archives belong into {folder}, and folders that are there already are not fetched"
    with advise(advice), explain_disk_errors(folder):
        captions = [f"captions_{_stem(url)}.json" for url, _, _ in published.pictures]
        _fetch_texts(published.texts, folder, folder / "annotations", captions)
        for archive in published.pictures:
            if not _has_pictures(folder, _stem(archive[0])):
                target = folder / _stem(archive[0])
                unpack(fetch_archive(archive, folder), target, members=picture_name, largest=2 * archive[2])
    return folder


def find_flickr30k(folder: Path) -> Path:
    """Return the folder of a person's Flickr30k, which only its owners may give out."""
    if not find_images(folder):
        raise DataError(
            f"{folder} holds no picture of Flickr30k, which cannot be fetched: ask for it at {FLICKR30K_FORM}, then "
            f"put it there or name its folder with --data FOLDER ({FLICKR30K_LAYOUTS})."
        )
    return folder


def karpathy_split(name: str, folder: Path, downloads: Path) -> Path:
    """Return the file of Karpathy's split of a data set: one in its folder, else it is fetched (37 MB)."""
    file = PUBLISHED[name].split_file
    for place in (folder, folder / "karpathy", folder / "annotations"):
        if (place / file).exists():
            return place / file
    target = downloads / "karpathy"
    advice = f"{file} may also lie in {folder}, and `--data {folder}` without --dataset needs none"
    with advise(advice), explain_disk_errors(target):
        _fetch_texts(KARPATHY, target, target, [file])
    return target / file


def _fetch_texts(archive: Archive, folder: Path, target: Path, names: list[str]) -> None:
    """Fetch an archive into a folder and take files of these names out of it, unless they are there."""
    if all((target / name).exists() for name in names):
        return
    path = fetch_archive(archive, folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".") as scratch:
        wanted = {name: name for name in names}
        texts = unpack(path, Path(scratch, "texts"), members=lambda name: wanted.get(PurePosixPath(name).name))
        for name in names:
            os.replace(texts / name, target / name)


def _has_pictures(folder: Path, stem: str) -> bool:
    return any((folder / place / stem).is_dir() for place in ("", "images"))


def _stem(url: str) -> str:
    return PurePosixPath(url).stem
