"""Every layout gives the same dataset; bad lines are named and cost nothing else."""

import json
import os
import shutil
from pathlib import Path

import pytest

from captioning.data.dataset import MAX_WORDS, Dataset, read_dataset
from captioning.data.formats import Problem
from captioning.errors import DataError

CAPTIONS = {
    "a.jpg": ["A dog runs , fast .", 'A dog says "woof" .'],
    "b.jpg": ["Two cats sleep .", "Cats ; asleep"],
    "c.png": ["A red ball ."],
    "d.jpg": ["A blue ball", "A ball", "Ein Bällchen"],
}
SPLIT = {"a.jpg": "train", "b.jpg": "train", "c.png": "dev", "d.jpg": "test"}
PAIRS = [(name, caption) for name, captions in CAPTIONS.items() for caption in captions]


def write(path: Path, text: str = "", encoding: str = "utf-8") -> Path:
    """Writes a file; a picture may be empty, since no image is opened here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding, newline="")
    return path


def by_name(dataset: Dataset) -> dict[str, dict[str, list[str]]]:
    return {split: {image.name: some for image, some in own.items()} for split, own in dataset.splits.items()}


def all_captions(dataset: Dataset) -> dict[str, list[str]]:
    return {image.name: some for pictures in dataset.splits.values() for image, some in pictures.items()}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.fixture
def folder(tmp_path):
    for name in CAPTIONS:
        write(tmp_path / "pictures" / name)
    return tmp_path


# Layouts that state the splits


def flickr8k(folder):
    tokens = [f"{name}#{i}\t{caption}" for name, some in CAPTIONS.items() for i, caption in enumerate(some)]
    write(folder / "Flickr8k_text/Flickr8k.token.txt", "\n".join(tokens) + "\n")
    write(folder / "Flickr8k_text/Flickr8k.lemma.token.txt", "\n".join(tokens).replace("runs", "run") + "\n")
    write(folder / "Flickr8k_text/ExpertAnnotations.txt", "a.jpg\tb.jpg#2\t1\t1\t1\n")
    write(folder / "Flickr8k_text/readme.txt", "If you use this, cite us.\n")
    for split in ("train", "dev", "test"):
        names = [name for name in CAPTIONS if SPLIT[name] == split]
        write(folder / f"Flickr8k_text/Flickr_8k.{split}Images.txt", "\n".join(names) + "\n")


def csv_with_split(folder):
    rows = [f"{name},{SPLIT[name]},{quoted(caption)}" for name, caption in PAIRS]
    write(folder / "pictures/data.csv", "\r\n".join(["File Name,Split,Alt Text", *rows]), "utf-8-sig")


def csv_of_lists(folder):
    rows = [f"{SPLIT[name]},{quoted(json.dumps(some))},{name}" for name, some in CAPTIONS.items()]
    write(folder / "annotations_30k.csv", "\n".join(["split,raw,filename", *rows]) + "\n")


def tsv_for_each_split(folder):
    for split, word in (("train", "training"), ("dev", "validation"), ("test", "test")):
        rows = [f"pictures/{name}\t{caption}" for name, caption in PAIRS if SPLIT[name] == split]
        write(folder / f"{word}.tsv", "\n".join(["path\tcaption", *rows]), "utf-16")


def karpathy(folder):
    words = {"a.jpg": "train", "b.jpg": "restval", "c.png": "val", "d.jpg": "test"}
    images = [
        {"filepath": "pictures", "filename": name, "split": words[name], "sentences": [{"raw": text} for text in some]}
        for name, some in CAPTIONS.items()
    ]
    write(folder / "dataset_flickr8k.json", json.dumps({"dataset": "x", "images": images}))


def coco(folder):
    for split, word in (("train", "train2017"), ("dev", "val2017"), ("test", "test2017")):
        names = [name for name in CAPTIONS if SPLIT[name] == split]
        images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
        notes = [{"image_id": i, "caption": text} for i, name in enumerate(names) for text in CAPTIONS[name]]
        write(folder / f"annotations/captions_{word}.json", json.dumps({"images": images, "annotations": notes}))
        boxes = {"images": images, "annotations": [{"bbox": 1}]}
        write(folder / f"annotations/instances_{word}.json", json.dumps(boxes))


def metadata_with_split(folder):
    records = [{"file_name": name, "captions": some, "split": SPLIT[name]} for name, some in CAPTIONS.items()]
    write(folder / "pictures/metadata.jsonl", "\n".join(map(json.dumps, records)))


def json_list(folder):
    records = [{"image": name, "caption": text, "split": SPLIT[name]} for name, text in PAIRS]
    write(folder / "captions.json", json.dumps(records))


@pytest.mark.parametrize(
    "layout",
    [flickr8k, csv_with_split, csv_of_lists, tsv_for_each_split, karpathy, coco, metadata_with_split, json_list],
)
def test_layouts_with_splits_all_give_the_same_dataset(folder, layout):
    layout(folder)
    dataset = read_dataset(folder)
    expected = {split: {n: CAPTIONS[n] for n in CAPTIONS if SPLIT[n] == split} for split in ("train", "dev", "test")}
    assert by_name(dataset) == expected
    assert dataset.problems == ()
    assert dataset.layout
    assert dataset.name == folder.name
    assert all(image.is_file() for pictures in dataset.splits.values() for image in pictures)


# Layouts that state none


def kaggle(folder):
    return write(folder / "captions.txt", "\n".join(["image,caption", *(f"{n},{text}" for n, text in PAIRS)]) + "\n")


def kaggle_quoted(folder):
    return write(folder / "captions.txt", "\n".join(["image,caption", *(f"{n},{quoted(text)}" for n, text in PAIRS)]))


def flickr30k(folder):
    rows = [f"{name}| {i}| {text}" for i, (name, text) in enumerate(PAIRS)]
    return write(folder / "results.csv", "\n".join(["image_name| comment_number| comment", *rows]))


def no_header(folder):
    return write(folder / "mine.txt", "\n".join(f"{name}\t{text}" for name, text in PAIRS))


def semicolons(folder):
    rows = [f"{name};{quoted(text)}" for name, text in PAIRS]
    return write(folder / "list.csv", "\n".join(["image;description", *rows]), "cp1252")


def numbered_columns(folder):
    rows = [",".join([name, *map(quoted, [*some, "", ""][:3])]) for name, some in CAPTIONS.items()]
    return write(folder / "list.csv", "\n".join(["image,caption_1,caption_2,caption_3", *rows]))


def without_suffixes(folder):
    return write(folder / "list.csv", "\n".join(["image_id,text", *(f"{n[0]},{quoted(text)}" for n, text in PAIRS)]))


def json_mapping(folder):
    return write(folder / "all.json", json.dumps(CAPTIONS))


def text_beside(folder):
    write(folder / "log.jsonl", '{"file": "run.log", "loss": 3}\n')
    boxes = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"bbox": 1}]}
    write(folder / "boxes.json", json.dumps(boxes))
    for name, some in CAPTIONS.items():
        write((folder / "pictures" / name).with_suffix(".txt"), "\n\n".join(some) + "\n")
    return folder


UNSPLIT = [
    *(kaggle, kaggle_quoted, flickr30k, no_header, semicolons),
    *(numbered_columns, without_suffixes, json_mapping, text_beside),
]


@pytest.mark.parametrize("layout", UNSPLIT)
def test_layouts_without_splits_all_give_the_same_dataset(folder, layout, tmp_path_factory):
    reference = tmp_path_factory.mktemp("elsewhere") / "other_name"
    shutil.copytree(folder, reference)
    records = [{"file_name": f"pictures/{name}", "text": text} for name, text in reversed(PAIRS)]
    write(reference / "metadata.jsonl", "\n".join(map(json.dumps, records)))
    path = layout(folder)
    dataset = read_dataset(folder)
    drawn, wanted = ({k: list(v) for k, v in by_name(one).items()} for one in (dataset, read_dataset(reference)))
    assert all_captions(dataset) == CAPTIONS
    assert drawn == wanted
    assert dataset.problems == ()
    assert by_name(read_dataset(path)) == by_name(dataset)


def test_images_may_be_elsewhere(folder, tmp_path_factory):
    captions = kaggle(tmp_path_factory.mktemp("captions"))
    assert all_captions(read_dataset(captions, images=folder / "pictures")) == CAPTIONS
    assert all_captions(read_dataset(captions.parent, images=folder)) == CAPTIONS


def test_a_file_in_coco_annotations_finds_the_images_beside_the_folder(folder):
    coco(folder)
    dataset = read_dataset(folder / "annotations/captions_train2017.json")
    assert set(all_captions(dataset)) == {"a.jpg", "b.jpg"}


def test_absolute_and_windows_paths_are_understood(folder, tmp_path_factory):
    away = tmp_path_factory.mktemp("away")
    rows = [f"{folder / 'pictures' / 'a.jpg'}\tA dog", "pictures\\b.jpg\tTwo cats", "C.PNG\tA ball"]
    write(folder / "list.tsv", "\n".join(["path\tcaption", *rows]))
    assert set(all_captions(read_dataset(folder))) == {"a.jpg", "b.jpg", "c.png"}
    shutil.copy(folder / "list.tsv", away)
    assert set(all_captions(read_dataset(away))) == {"a.jpg"}


def test_columns_can_be_named(folder):
    write(folder / "list.csv", "image,Das Bild,Was man sieht\nx,a.jpg,Ein Hund\n")
    dataset = read_dataset(folder, image_column="Das Bild", caption_column="was man sieht")
    assert all_captions(dataset) == {"a.jpg": ["Ein Hund"]}


def test_a_quoted_caption_may_span_lines(folder):
    rows = 'a.jpg,"A dog\nruns"\nb.jpg,"5"" pipe"\nc.png,"never closed\nd.jpg,A ball\n'
    write(folder / "list.csv", "image,caption\n" + rows)
    found = all_captions(read_dataset(folder))
    assert found == {"a.jpg": ["A dog runs"], "b.jpg": ['5" pipe'], "c.png": ['"never closed'], "d.jpg": ["A ball"]}


def test_linked_folders_are_followed_once(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("linked")
    (other / "images").symlink_to(folder / "pictures")
    (other / "again").symlink_to(other)
    kaggle(other)
    assert all_captions(read_dataset(other)) == CAPTIONS


# Images left out


def test_images_in_no_list_are_counted_in_one_line(folder):
    flickr8k(folder)
    (folder / "Flickr8k_text/Flickr_8k.testImages.txt").unlink()
    write(folder / "Flickr8k_text/Flickr_8k.devImages.txt", "absent.jpg\n\n")
    dataset = read_dataset(folder)
    assert set(all_captions(dataset)) == {"a.jpg", "b.jpg"}
    assert dataset.problems == (Problem("c.png and 1 more", "in no split: left out"),)


def test_without_names_what_it_drops(folder):
    flickr8k(folder)
    dataset = read_dataset(folder)
    dropped = dataset.without({folder / "pictures/a.jpg": "damaged"})
    assert set(all_captions(dropped)) == {"b.jpg", "c.png", "d.jpg"}
    assert dropped.problems == (Problem("a.jpg", "damaged"),)
    assert set(all_captions(dataset)) == set(CAPTIONS)


# Bad lines


def test_bad_lines_are_skipped_each_with_its_place_and_reason(folder):
    long = "word " * (MAX_WORDS + 1)
    rows = ["image,caption,split", "a.jpg,A dog,train", "b.jpg,,train", "b.jpg", ",A dog,train", "", "d.jpg,A ball,"]
    rows += ["b.jpg,. !,train", "b.jpg,A \0 cat,train", f"b.jpg,{long},train", "b.jpg,Two cats,holdout"]
    rows += ["c.png,A ball,dev"]
    write(folder / "captions.csv", "\n".join(rows))
    dataset = read_dataset(folder)
    assert all_captions(dataset) == {"a.jpg": ["A dog"], "c.png": ["A ball"]}
    places = {problem.where: problem.what for problem in dataset.problems}
    assert places == {
        "captions.csv:3": "no caption",
        "captions.csv:4": "1 columns where 3 were expected",
        "captions.csv:5": "no image name",
        "captions.csv:8": "the caption is empty",
        "captions.csv:9": "a control character or half a character",
        "captions.csv:10": places["captions.csv:10"],
        "captions.csv:11": "the split holdout is none of train, dev (or val), test",
        "d.jpg": "in no split: left out",
        "b.jpg": "no caption: left out",
    }
    assert places["captions.csv:10"].startswith("201 words in 1,005 characters: word word")


def test_missing_and_ambiguous_images_are_named_once(folder):
    write(folder / "x/same.jpg")
    write(folder / "y/same.jpg")
    kaggle(folder)
    with (folder / "captions.txt").open("a") as file:
        file.write("gone.jpg,A dog\ngone.jpg,Two dogs\nsame.jpg,A cat\ny/same.jpg,A cow\na.jpg.1,A bird\n")
    dataset = read_dataset(folder)
    assert [(problem.where, problem.what[:34]) for problem in dataset.problems] == [
        ("gone.jpg", "there is no such image; captions l"),
        ("same.jpg", f"could be {folder / 'x/same.jpg'}"[:34]),
        ("a.jpg.1", "there is no such image; captions l"),
        ("same.jpg", "no caption: left out"),
    ]
    assert dataset.problems[0].what.endswith("left out: 2")
    assert all_captions(dataset)["same.jpg"] == ["A cow"]


@pytest.mark.parametrize(
    "line",
    [
        *("nonsense", "[1]", "null", "{}", '{"file_name": "a.jpg"}', '{"file_name": [], "text": "A dog"}'),
        *('{"file_name": "a.jpg", "text": 7}', '{"file_name": "a.jpg", "text": [[], {}, {"raw": 1}]}', "[" * 99_999),
        *('{"file_name": "a.jpg", "text": "half \\ud800"}', '{"file_name": "a\\u0000.jpg", "text": "A dog"}'),
    ],
)
def test_bad_records_are_skipped(folder, line):
    write(folder / "metadata.jsonl", '{"file_name": "b.jpg", "text": "Two cats"}\n' + line)
    dataset = read_dataset(folder)
    assert all_captions(dataset) == {"b.jpg": ["Two cats"]}
    assert dataset.problems[0].where == "metadata.jsonl:2"


@pytest.mark.parametrize(
    "content",
    [
        {"images": [3, {}, {"id": []}], "annotations": [3, {}, {"image_id": {}, "caption": "x"}]},
        {"images": [3, {}, {"filename": 3, "sentences": 4}, {"filename": "a.jpg", "sentences": [{}, 3, {"raw": 3}]}]},
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]},
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": [[[]]]}]},
        [3, None, {"image": "gone.jpg", "caption": "A dog"}],
        {"gone.jpg": 3},
    ],
)
def test_hostile_json_raises_nothing_but_data_error(folder, content):
    path = write(folder / "captions.json", json.dumps(content))
    with pytest.raises(DataError, match="no caption"):
        read_dataset(path)


# Nothing to be read


def refusal(path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_dataset(path, **options)
    return str(caught.value)


def test_refusals_say_what_was_found_and_what_is_understood(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    assert "does not exist" in refusal(folder / "absent")
    assert "holds no images" in refusal(empty)
    assert "found no file beside the images; understood are Flickr8k.token.txt" in refusal(folder)
    write(folder / "notes.txt", "hello\n")
    assert "found notes.txt" in refusal(folder)
    write(folder / "list.csv", "Bildname,Beschreibung\na.jpg,Ein Hund\n")
    assert "with the columns Bildname, Beschreibung" in refusal(folder)
    assert "image_column and caption_column" in refusal(folder / "list.csv")
    assert "image_column" in refusal(folder, image_column="picture", caption_column="Beschreibung")


def test_images_that_are_all_missing_are_one_clear_error(folder):
    path = kaggle(folder)
    shutil.rmtree(folder / "pictures")
    message = refusal(path)
    assert "first: a.jpg: there is no such image" in message
    assert "images=" in message


@pytest.mark.skipif("CAPTIONING_FLICKR8K" not in os.environ, reason="CAPTIONING_FLICKR8K does not name a folder")
def test_the_real_flickr8k():
    dataset = read_dataset(Path(os.environ["CAPTIONING_FLICKR8K"]))
    assert len(dataset.splits["train"]) == 6_000
    assert len(dataset.splits["dev"]) == 1_000
    assert {len(some) for split in ("train", "dev") for some in dataset.splits[split].values()} == {5}
