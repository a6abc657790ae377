"""A data set is the folder given, or is drawn, or is fetched; a smoke run has a few images of it."""

from pathlib import Path

import pytest
from PIL import Image

from captioning.data import load
from captioning.data.load import load_dataset
from captioning.options import DataOptions

FEW = {"train": 3, "dev": 1, "test": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(load, "SMOKE_SIZES", FEW)


@pytest.fixture(autouse=True)
def fetched(monkeypatch):
    """Where Flickr8k was asked for; nothing is fetched."""
    asked = []

    def fetch(folder: Path) -> Path:
        asked.append(folder)
        return write_table(folder, 20)

    monkeypatch.setattr(load, "fetch_flickr8k", fetch)
    return asked


def write_table(folder: Path, count: int, images: str = "Images", header: str = "image,caption") -> Path:
    (folder / images).mkdir(parents=True)
    rows = []
    for number in range(count):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / images / f"{number}.png")
        rows.append(f"{number}.png,a red thing of shade {number}")
    (folder / "captions.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def sizes(dataset) -> dict[str, int]:
    return {split: len(images) for split, images in dataset.splits.items()}


def test_scenes_are_drawn_into_the_downloads(tmp_path):
    dataset, folder = load_dataset(DataOptions(dataset="scenes"), tmp_path, smoke=True)
    assert folder == tmp_path / "scenes-smoke"
    assert (folder / "scenes.json").exists()
    assert sizes(dataset) == FEW
    assert all(image.is_relative_to(folder) for images in dataset.splits.values() for image in images)


def test_a_smoke_run_and_a_whole_one_have_folders_of_their_own(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        load, "write_scenes", lambda folder, sizes: (asked.append((folder, sizes)), write_table(folder, 20))[1]
    )
    whole, _ = load_dataset(DataOptions(dataset="scenes"), tmp_path)
    load_dataset(DataOptions(dataset="scenes"), tmp_path, smoke=True)
    assert asked == [(tmp_path / "scenes", None), (tmp_path / "scenes-smoke", FEW)]
    assert sum(sizes(whole).values()) == 20


def test_flickr8k_is_fetched_into_the_downloads(tmp_path, fetched):
    dataset, folder = load_dataset(DataOptions(), tmp_path)
    assert fetched == [tmp_path / "flickr8k"] == [folder]
    assert sum(sizes(dataset).values()) == 20


@pytest.mark.parametrize("name", ["flickr8k", "scenes"])
def test_a_folder_of_ones_own_comes_before_any_name(tmp_path, fetched, name):
    mine = write_table(tmp_path / "mine", 10)
    dataset, folder = load_dataset(DataOptions(dataset=name, data=str(mine)), tmp_path / "downloads")
    assert (dataset.name, folder) == ("mine", mine)
    assert not fetched
    assert not (tmp_path / "downloads").exists()


def test_a_file_of_captions_belongs_to_its_folder(tmp_path, monkeypatch):
    mine = write_table(tmp_path / "mine", 10)
    monkeypatch.chdir(mine)
    dataset, folder = load_dataset(DataOptions(data="captions.csv"), tmp_path)
    assert folder == mine
    assert all(image.is_relative_to(folder) for images in dataset.splits.values() for image in images)


def test_a_smoke_run_takes_the_first_few(tmp_path):
    options = DataOptions(data=str(write_table(tmp_path / "mine", 40)))
    (few, _), (whole, _) = (load_dataset(options, tmp_path, smoke=smoke) for smoke in (True, False))
    assert sizes(few) == FEW
    for split, images in few.splits.items():
        assert list(images) == list(whole.splits[split])[: FEW[split]]


def test_the_seed_chooses_the_splits(tmp_path):
    options = DataOptions(data=str(write_table(tmp_path / "mine", 40)))
    one, same, other = (load_dataset(options, tmp_path, seed=seed)[0].splits for seed in (1, 1, 2))
    assert one == same != other


def test_columns_and_the_images_folder_are_handed_on(tmp_path):
    write_table(tmp_path / "mine", 10, "../pictures", "photo,words")
    options = {"data": str(tmp_path / "mine"), "image_column": "photo", "caption_column": "words"}
    dataset, _ = load_dataset(DataOptions(**options, images=str(tmp_path / "pictures")), tmp_path)
    assert {image.parent for images in dataset.splits.values() for image in images} == {tmp_path / "pictures"}
