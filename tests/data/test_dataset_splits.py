"""Splits are those that are stated, or follow from the seed; none shares an image with another."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from captioning.data.dataset import Dataset, read_dataset
from captioning.data.formats import Problem


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def numbered(folder: Path, count: int) -> Path:
    rows = [f"{number:03}.jpg,{text}" for number in range(count) for text in ("A dog", "Two dogs")]
    for row in rows:
        write(folder / row.partition(",")[0])
    return write(folder / "captions.csv", "\n".join(["image,caption", *rows]))


def stated(folder: Path, rows: Iterable[tuple[str, str]]) -> Dataset:
    """The dataset of a list of images that says for each its split, which is its caption too."""
    records = [{"file_name": name, "text": f"{split} dog", "split": split} for name, split in rows]
    for record in records:
        write(folder / record["file_name"])
    write(folder / "metadata.jsonl", "\n".join(map(json.dumps, records)))
    return read_dataset(folder)


def by_name(dataset: Dataset) -> dict[str, dict[str, list[str]]]:
    return {split: {image.name: some for image, some in own.items()} for split, own in dataset.splits.items()}


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [2]), (3, [1, 1, 1]), (9, [7, 1, 1]), (50, [40, 5, 5])])
def test_where_no_split_is_given_it_is_80_10_10_by_image(tmp_path, count, sizes):
    numbered(tmp_path, count)
    assert [len(pictures) for pictures in read_dataset(tmp_path).splits.values()] == sizes


def test_drawn_splits_depend_on_the_seed_and_not_on_the_order(tmp_path):
    file = numbered(tmp_path, 40)
    first = read_dataset(tmp_path)
    assert read_dataset(tmp_path, seed=1).splits != first.splits
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *sorted(rows, reverse=True)]))
    assert {k: set(v) for k, v in read_dataset(tmp_path).splits.items()} == {k: set(v) for k, v in first.splits.items()}


def test_adding_images_moves_few_others_into_evaluation(tmp_path):
    numbered(tmp_path, 100)
    before = set(read_dataset(tmp_path).splits["train"])
    numbered(tmp_path, 110)
    after = read_dataset(tmp_path).splits
    assert len(before & {*after["dev"], *after["test"]}) <= 5


@pytest.mark.parametrize("given", [("train", "test"), ("train",)])
def test_a_missing_dev_is_carved_from_train_and_test_is_never_made_up(tmp_path, given):
    dataset = stated(tmp_path, ((f"{number}.jpg", given[number % len(given)]) for number in range(30)))
    train = 30 // len(given)
    assert len(dataset.splits["dev"]) == round(train / 10)
    assert all(captions == ["train dog"] for captions in dataset.splits["dev"].values())
    assert len(dataset.splits["train"]) == train - round(train / 10)
    assert ("test" in dataset.splits) == ("test" in given)


def test_train_and_dev_alone_stay_as_they_are(tmp_path):
    rows = [("a.jpg", "train"), ("b.jpg", "train"), ("c.png", "val"), ("d.jpg", "train")]
    assert {split: len(own) for split, own in stated(tmp_path, rows).splits.items()} == {"train": 3, "dev": 1}


@pytest.mark.parametrize("top", ["", "images"])
def test_top_folders_give_the_split(tmp_path, top):
    for split, name in (("train2017", "a"), ("valid", "b"), ("Test", "c")):
        write(tmp_path / top / split / f"{name}.jpg")
        write(tmp_path / top / split / f"{name}.txt", "A dog\n")
    found = {split: list(own) for split, own in by_name(read_dataset(tmp_path)).items()}
    assert found == {"train": ["a.jpg"], "dev": ["b.jpg"], "test": ["c.jpg"]}


def test_pictures_of_trains_are_no_split(tmp_path):
    for subject in ("train", "bus", "car"):
        write(tmp_path / subject / "a.jpg")
        write(tmp_path / subject / "a.txt", f"A {subject}\n")
    assert [len(pictures) for pictures in read_dataset(tmp_path).splits.values()] == [1, 1, 1]


def test_metadata_in_each_split_folder(tmp_path):
    for split in ("train", "validation", "test"):
        write(tmp_path / split / "a.jpg")
        write(tmp_path / split / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "text": f"A dog in {split}"}))
    found = [own["a.jpg"] for own in by_name(read_dataset(tmp_path)).values()]
    assert found == [["A dog in train"], ["A dog in validation"], ["A dog in test"]]


def test_an_image_in_two_splits_is_kept_for_evaluation_only(tmp_path):
    rows = [("a.jpg", "train"), ("pictures/b.jpg", "train"), ("c.png", "dev"), ("d.jpg", "test")]
    rows += [("a.jpg", "test"), ("pictures/b.jpg", "val"), ("e.jpg", "train"), ("f.jpg", "train")]
    dataset = stated(tmp_path, rows)
    assert by_name(dataset)["test"] == {"a.jpg": ["test dog"], "d.jpg": ["test dog"]}
    assert by_name(dataset)["dev"] == {"b.jpg": ["val dog"], "c.png": ["dev dog"]}
    assert dataset.problems == (
        Problem("a.jpg", "is in test and train; kept in test only"),
        Problem("b.jpg", "is in dev and train; kept in dev only"),
    )


def test_a_dataset_whose_splits_share_an_image_cannot_be_made():
    with pytest.raises(AssertionError, match="share"):
        Dataset("x", {"train": {Path("a.jpg"): ["A dog"]}, "test": {Path("a.jpg"): ["A dog"]}})
