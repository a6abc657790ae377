"""COCO and Flickr30k: fetched or found, in each layout the same captions in Karpathy's splits; copies are named."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from captioning.data import download, published
from captioning.data.check import inspect
from captioning.data.load import load_dataset
from captioning.errors import DataError, DownloadError, StorageError
from captioning.options import DataOptions
from tests.data.published_slices import (
    CAPTIONS,
    SPLITS,
    archive_of,
    coco_archives,
    coco_name,
    flickr30k_captions,
    flickr30k_karpathy,
    flickr30k_results,
    flickr30k_token,
    jpeg,
    karpathy_archive,
    published_set,
    write_flickr30k,
)
from tests.data.test_download import Handler, offline, server  # noqa: F401

YEARS = {"coco": "2017", "coco2014": "2014"}
LAYOUTS = [flickr30k_token, flickr30k_results, flickr30k_captions, flickr30k_karpathy]
BUFFER = 8192  # bytes that a killed process may not have written yet
KARPATHY_PATH = "/people/karpathy/caption_datasets.zip"
WORDS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}
FETCH = """
import sys
from pathlib import Path
from captioning.data import published
from captioning.data.published import PublishedSet
published.PUBLISHED = {"coco": eval(sys.argv[1])}
published.fetch_coco("coco", Path(sys.argv[2]))
"""
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def served(server, monkeypatch):  # noqa: F811
    """Both years of COCO and Karpathy's splits on a server; `paths` are those that were asked for."""
    base = server.url.removesuffix("/file.bin")
    contents = {KARPATHY_PATH: karpathy_archive(), **coco_archives("2014"), **coco_archives("2017")}
    sets = {name: published_set(base, year, contents) for name, year in YEARS.items()}
    monkeypatch.setattr(published, "PUBLISHED", sets | {"flickr30k": published.FLICKR30K})
    monkeypatch.setattr(published, "KARPATHY", archive_of(base, KARPATHY_PATH, contents[KARPATHY_PATH]))
    true_get, server.contents, server.paths, server.hangs_at = Handler.do_GET, contents, [], ""

    def get(handler):
        server.paths.append(handler.path)
        server.content = server.contents[handler.path]
        if handler.path == server.hangs_at:
            server.hang.clear()
        true_get(handler)

    monkeypatch.setattr(Handler, "do_GET", get)
    return server


def load(tmp_path, **options):
    return load_dataset(DataOptions(**options), tmp_path)


def by_content(dataset):
    """The captions of each picture, by split and by what the picture's file holds."""
    return {
        split: {hashlib.sha256(image.read_bytes()).hexdigest(): captions for image, captions in images.items()}
        for split, images in dataset.splits.items()
    }


def karpathy():
    """What every layout holds of the slice in Karpathy's splits."""
    expected = {"train": {}, "dev": {}, "test": {}}
    for number, split in SPLITS.items():
        expected[WORDS[split]][hashlib.sha256(jpeg(number)).hexdigest()] = CAPTIONS[number]
    return expected


@pytest.mark.parametrize("name", YEARS)
def test_coco_is_fetched_with_the_split_of_karpathy(served, tmp_path, name):
    dataset, folder = load(tmp_path, dataset=name)
    assert (dataset.name, dataset.layout, dataset.problems) == (name, "Karpathy's split", ())
    assert folder == tmp_path / name
    assert by_content(dataset) == karpathy()
    year = YEARS[name]
    expected = {f"/zips/train{year}.zip", f"/zips/val{year}.zip", f"/annotations/annotations_trainval{year}.zip"}
    assert sorted(served.paths) == sorted(expected | {KARPATHY_PATH})
    assert {path.name for path in (folder / "annotations").iterdir()} == {
        f"captions_{split}{year}.json" for split in ("train", "val")
    }
    assert not list(tmp_path.rglob("*.part*")) + list(tmp_path.rglob("*.unpacking"))


@pytest.mark.parametrize("name", YEARS)
def test_what_was_fetched_is_not_fetched_again(served, tmp_path, name):
    first, _ = load(tmp_path, dataset=name)
    asked = len(served.paths)
    for archive in (tmp_path / name).glob("*.zip"):  # a person may delete them
        archive.unlink()
    again, _ = load(tmp_path, dataset=name)
    assert (again, len(served.paths)) == (first, asked)
    assert published.bytes_to_fetch(name, tmp_path / name) == (0, 0)


@pytest.mark.parametrize("name", YEARS)
def test_the_official_split_needs_no_file_of_karpathy(served, tmp_path, name):
    load(tmp_path, dataset=name)
    shutil.rmtree(tmp_path / "karpathy")
    dataset, _ = load(tmp_path, data=str(tmp_path / name))
    official = {split: {int(image.stem[-12:]) for image in images} for split, images in dataset.splits.items()}
    train = {number for number in SPLITS if "train" in coco_name("2014", number)} | {
        number for number in (42, 61) if YEARS[name] == "2017"
    }
    assert official == {"train": train, "dev": SPLITS.keys() - train}
    assert dataset.problems == ()


def test_pictures_that_a_person_has_are_not_fetched(served, tmp_path):
    have = tmp_path / "coco" / "images" / "train2017"
    have.mkdir(parents=True)
    for number in (9, 25, 30, 42, 61):
        (have / coco_name("2017", number)).write_bytes(jpeg(number))
    dataset, _ = load(tmp_path, dataset="coco")
    assert by_content(dataset) == karpathy()
    assert "/zips/train2017.zip" not in served.paths


def test_an_archive_of_other_bytes_is_refused(served, tmp_path):
    path = "/zips/train2017.zip"
    served.contents[path] = (
        served.contents[path][:-30] + bytes([served.contents[path][-30] ^ 1]) + served.contents[path][-29:]
    )
    with pytest.raises(DownloadError, match=r"its sha256 is .* where .* was expected.*folders that are there"):
        load(tmp_path, dataset="coco")
    assert not (tmp_path / "coco" / "train2017").exists()


def test_killed_in_an_archive_and_in_its_unpacking_it_goes_on(served, tmp_path):
    folder, path = tmp_path / "coco", "/zips/train2017.zip"
    part, size = folder / "train2017.zip.part", len(served.contents[path])
    place = size * 3 // 4
    served.hangs_at = path
    served.cuts = iter([None, None, place])  # captions, val, and of train the first bytes
    arguments = [repr(published.PUBLISHED["coco"]), str(folder)]
    root = Path(download.__file__).parents[2]
    fetching = subprocess.Popen([sys.executable, "-c", FETCH, *arguments], cwd=root)
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > place - BUFFER) and time.monotonic() < deadline:
        time.sleep(0.01)
    fetching.send_signal(signal.SIGKILL)
    fetching.wait(60)
    served.hangs_at = ""
    served.hang.set()
    kept = part.stat().st_size
    assert published.bytes_to_fetch("coco", folder) == (size - kept, size)
    leftover = folder / "train2017.unpacking"  # of a kill while unpacking
    leftover.mkdir()
    (leftover / "half.jpg").write_bytes(b"half")
    sent = served.sent
    published.fetch_coco("coco", folder)
    assert served.sent - sent == size - kept
    assert not leftover.exists()
    assert len(list((folder / "train2017").iterdir())) == 5


def test_a_disk_too_small_is_told_before_anything_is_fetched(served, tmp_path, monkeypatch):
    need = sum(published.bytes_to_fetch("coco", tmp_path / "coco"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(need, 1, need - 1))
    with pytest.raises(StorageError, match=r"needs .* MB more.*--downloads FOLDER"):
        load(tmp_path, dataset="coco")
    assert served.paths == []


@pytest.mark.usefixtures("offline")
def test_without_a_network_a_sentence_says_what_to_do(tmp_path):
    with pytest.raises(DownloadError, match=r"annotations_trainval2017\.zip could not be fetched .*save it by hand as"):
        load(tmp_path, dataset="coco")
    folder = write_flickr30k(tmp_path / "flickr30k", flickr30k_results)
    with pytest.raises(DownloadError) as caught:
        load(tmp_path, dataset="flickr30k")
    assert "caption_datasets.zip" in str(caught.value)
    assert f"`--data {folder}` without --dataset" in str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flickr30k_in_its_layouts_has_the_split_of_karpathy(served, tmp_path, layout):
    folder = write_flickr30k(tmp_path / "mine", layout)
    dataset, root = load(tmp_path, dataset="flickr30k", data=str(folder))
    assert by_content(dataset) == karpathy()
    assert (dataset.name, root) == ("flickr30k", folder)
    assert served.paths == ([] if layout is flickr30k_karpathy else [KARPATHY_PATH])
    assert load(tmp_path, dataset="flickr30k", data=str(folder))[0] == dataset
    assert len(served.paths) < 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flickr30k_without_that_split_is_a_folder_as_any(tmp_path, layout):
    dataset, _ = load(tmp_path, data=str(write_flickr30k(tmp_path / "mine", layout)))
    found = {digest: some for images in by_content(dataset).values() for digest, some in images.items()}
    assert found == {digest: some for images in karpathy().values() for digest, some in images.items()}
    problems = [problem.where for problem in dataset.problems]
    assert problems == (["results.csv:14"] if layout is flickr30k_results else [])


def test_flickr30k_that_is_not_there_says_where_to_ask(tmp_path):
    with pytest.raises(DataError) as caught:
        load(tmp_path, dataset="flickr30k")
    message = str(caught.value)
    for part in (
        "https://forms.illinois.edu",
        "--data FOLDER",
        "results.csv",
        "results_20130124.token",
        "captions.txt",
    ):
        assert part in message
    assert str(tmp_path / "flickr30k") in message


def test_copies_across_splits_are_named(served, tmp_path):
    load(tmp_path, dataset="coco")
    copy = tmp_path / "coco" / "val2017" / coco_name("2017", 73)  # of test
    copy.write_bytes(jpeg(25, quality=60))  # a picture of train, saved anew
    report = inspect(load(tmp_path, dataset="coco")[0], progress=False)
    [leak] = report.leaks
    assert (leak.image, leak.split, leak.twin.name, leak.twin_split) == (copy, "test", coco_name("2017", 25), "train")
    assert f"{copy.name} in test  the same picture as {coco_name('2017', 25)} in train" in report.text()


def test_published_archives():
    coco = [published.COCO_2014, published.COCO_2017]
    archives = [archive for one in coco for archive in (one.texts, *one.pictures)] + [published.KARPATHY]
    for url, checksum, size in archives:
        algorithm, digits = checksum.split(":")
        assert (algorithm, len(bytes.fromhex(digits))) == ("sha256", 32)
        assert url.endswith(".zip")
        assert size > 30e6
    pictures = [sum(size for _, _, size in one.pictures) for one in coco]
    assert all(abs(size - 20.15e9) < 0.01e9 for size in pictures)  # the same pictures
