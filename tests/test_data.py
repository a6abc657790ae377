"""Every layout gives the same dataset; splits share no image; bad lines are named and cost nothing else."""

import contextlib
import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioning.data import MAX_WORDS, Dataset, read_dataset
from captioning.errors import DataError
from captioning.layouts import Problem, Row, find_captions

CAPTIONS = {
    "a.jpg": ["A dog runs , fast .", 'A dog says "woof" .'],
    "b.jpg": ["Two cats sleep .", "Cats ; asleep"],
    "c.png": ["A red ball ."],
    "d.jpg": ["A blue ball", "A ball", "Ein Bällchen"],
}
SPLIT = {"a.jpg": "train", "b.jpg": "train", "c.png": "dev", "d.jpg": "test"}
PAIRS = [(name, caption) for name, captions in CAPTIONS.items() for caption in captions]


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding, newline="")
    return path


def by_name(dataset: Dataset) -> dict[str, dict[str, list[str]]]:
    return {
        split: {image.name: captions for image, captions in pictures.items()}
        for split, pictures in dataset.splits.items()
    }


def all_captions(dataset: Dataset) -> dict[str, list[str]]:
    return {image.name: some for pictures in dataset.splits.values() for image, some in pictures.items()}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.fixture
def folder(tmp_path):
    draw(*(tmp_path / "pictures" / name for name in CAPTIONS))
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
        write(
            folder / f"annotations/instances_{word}.json", json.dumps({"images": images, "annotations": [{"bbox": 1}]})
        )


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
    write(
        folder / "boxes.json", json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"bbox": 1}]})
    )
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
    assert all_captions(dataset) == CAPTIONS
    assert {k: list(v) for k, v in by_name(dataset).items()} == {
        k: list(v) for k, v in by_name(read_dataset(reference)).items()
    }
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
    write(
        folder / "list.csv", 'image,caption\na.jpg,"A dog\nruns"\nb.jpg,"5"" pipe"\nc.png,"never closed\nd.jpg,A ball\n'
    )
    assert all_captions(read_dataset(folder)) == {
        "a.jpg": ["A dog runs"],
        "b.jpg": ['5" pipe'],
        "c.png": ['"never closed'],
        "d.jpg": ["A ball"],
    }


def test_linked_folders_are_followed_once(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("linked")
    (other / "images").symlink_to(folder / "pictures")
    (other / "again").symlink_to(other)
    kaggle(other)
    assert all_captions(read_dataset(other)) == CAPTIONS


# Splits


def numbered(folder, count, text="image,caption\n"):
    names = [f"{i:03}.jpg" for i in range(count)]
    draw(*(folder / name for name in names))
    return write(folder / "captions.csv", text + "".join(f"{name},A dog\n{name},Two dogs\n" for name in names))


def sizes(dataset):
    return {split: len(pictures) for split, pictures in dataset.splits.items()}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1,)), (2, (2,)), (3, (1, 1, 1)), (9, (7, 1, 1)), (50, (40, 5, 5))],
)
def test_where_no_split_is_given_it_is_80_10_10_by_image(tmp_path, count, expected):
    numbered(tmp_path, count)
    assert tuple(sizes(read_dataset(tmp_path)).values()) == expected


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
    draw(*(tmp_path / f"{i}.jpg" for i in range(30)))
    records = [{"file_name": f"{i}.jpg", "text": "A dog", "split": given[i % len(given)]} for i in range(30)]
    write(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, records)))
    dataset = read_dataset(tmp_path)
    train = 30 // len(given)
    assert len(dataset.splits["dev"]) == round(train / 10)
    assert len(dataset.splits["train"]) == train - round(train / 10)
    assert ("test" in dataset.splits) == ("test" in given)


def test_train_and_dev_alone_stay_as_they_are(folder):
    records = [{"file_name": n, "text": "A dog", "split": "val" if n == "c.png" else "train"} for n in CAPTIONS]
    write(folder / "metadata.jsonl", "\n".join(map(json.dumps, records)))
    assert sizes(read_dataset(folder)) == {"train": 3, "dev": 1}


@pytest.mark.parametrize("top", ["", "images"])
def test_top_folders_give_the_split(tmp_path, top):
    for split, name in (("train2017", "a"), ("valid", "b"), ("Test", "c")):
        draw(tmp_path / top / split / f"{name}.jpg")
        write(tmp_path / top / split / f"{name}.txt", "A dog\n")
    assert {s: list(p) for s, p in by_name(read_dataset(tmp_path)).items()} == {
        "train": ["a.jpg"],
        "dev": ["b.jpg"],
        "test": ["c.jpg"],
    }


def test_pictures_of_trains_are_no_split(tmp_path):
    for subject in ("train", "bus", "car"):
        draw(tmp_path / subject / "a.jpg")
        write(tmp_path / subject / "a.txt", f"A {subject}\n")
    assert sizes(read_dataset(tmp_path)) == {"train": 1, "dev": 1, "test": 1}


def test_metadata_in_each_split_folder(tmp_path):
    for split in ("train", "validation", "test"):
        draw(tmp_path / split / "a.jpg")
        write(tmp_path / split / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "text": f"A dog in {split}"}))
    captions = {split: list(pictures.values()) for split, pictures in read_dataset(tmp_path).splits.items()}
    assert captions == {"train": [["A dog in train"]], "dev": [["A dog in validation"]], "test": [["A dog in test"]]}


def test_an_image_in_two_splits_is_kept_for_evaluation_only(folder):
    records = [{"file_name": name, "text": f"{split} dog", "split": split} for name, split in SPLIT.items()]
    records += [{"file_name": "a.jpg", "text": "test dog", "split": "test"}]
    records += [{"file_name": "pictures/b.jpg", "text": "val dog", "split": "val"}]
    records += [{"file_name": name, "text": "A dog", "split": "train"} for name in ("e.jpg", "f.jpg")]
    draw(folder / "e.jpg", folder / "f.jpg")
    write(folder / "metadata.jsonl", "\n".join(map(json.dumps, records)))
    dataset = read_dataset(folder)
    assert by_name(dataset)["test"] == {"a.jpg": ["test dog"], "d.jpg": ["test dog"]}
    assert by_name(dataset)["dev"] == {"b.jpg": ["val dog"], "c.png": ["dev dog"]}
    assert dataset.problems == (
        Problem("a.jpg", "is in test and train; kept in test only"),
        Problem("b.jpg", "is in dev and train; kept in dev only"),
    )


def test_images_in_no_list_are_counted_in_one_line(folder):
    flickr8k(folder)
    (folder / "Flickr8k_text/Flickr_8k.testImages.txt").unlink()
    write(folder / "Flickr8k_text/Flickr_8k.devImages.txt", "absent.jpg\n\n")
    dataset = read_dataset(folder)
    assert set(all_captions(dataset)) == {"a.jpg", "b.jpg"}
    assert dataset.problems == (Problem("c.png and 1 more", "in no split: left out"),)


def test_a_dataset_whose_splits_share_an_image_cannot_be_made():
    with pytest.raises(AssertionError, match="share"):
        Dataset("x", {"train": {Path("a.jpg"): ["A dog"]}, "test": {Path("a.jpg"): ["A dog"]}})


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
    rows = [
        *("image,caption,split", "a.jpg,A dog,train", "b.jpg,,train", "b.jpg", ",A dog,train", "", "d.jpg,A ball,"),
        *(
            "b.jpg,. !,train",
            "b.jpg,A \0 cat,train",
            f"b.jpg,{long},train",
            "b.jpg,Two cats,holdout",
            "c.png,A ball,dev",
        ),
    ]
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
    draw(folder / "x/same.jpg", folder / "y/same.jpg")
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


caption_text = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["", " ", "a" * 6_000, "\u202e\u05e9\u05dc", '"', "a\tb"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a.jpg", "a.jpg#1", "gone.jpg", ""]), st.sampled_from(["\t", "", "\t\t"]), caption_text
        )
    ),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_of_any_caption_file_every_line_is_kept_or_named(tmp_path_factory, rows, encoding, newline):
    path = tmp_path_factory.getbasetemp() / "any.token.txt"
    lines = [f"{name}{tab}{text}".replace("\r", "").replace("\n", "") for name, tab, text in rows]
    lines = ["a.jpg#0\tA dog .", *lines]
    path.write_bytes(newline.join(lines).encode(encoding, "replace"))
    [source] = find_captions(path, [], set())
    found = list(source.rows)
    assert {type(row) for row in found} <= {Row, Problem}
    assert sum(1 for line in lines if line.strip()) == len(found)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text('ab ",\n|\t;', min_size=1, max_size=12), min_size=1),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_well_formed_csv_is_read_as_it_was_written(tmp_path_factory, captions, quoting):
    path = tmp_path_factory.getbasetemp() / "well_formed.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=quoting).writerows([("image", "caption"), *(("a.jpg", text) for text in captions)])
    [source] = find_captions(path, [], set())
    assert [row.caption for row in source.rows] == captions


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=300), name=st.sampled_from(["captions.txt", "data.csv", "metadata.jsonl", "captions.json"])
)
def test_any_bytes_raise_nothing_but_data_error(tmp_path_factory, data, name):
    folder = tmp_path_factory.getbasetemp() / "any_bytes"
    draw(folder / "a.jpg")
    (folder / name).write_bytes(b"image,caption\na.jpg,A dog\n" + data if data[:1] < b"\x80" else data)
    with contextlib.suppress(DataError):
        assert read_dataset(folder / name).splits


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
