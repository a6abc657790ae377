"""Of any caption file, however made, every line is kept or named, and nothing is raised but what can be told."""

import contextlib
import csv
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.data.dataset import read_dataset
from captioning.data.formats import Problem, Row, find_captions
from captioning.errors import DataError

oddities = st.sampled_from(["", " ", "a" * 6_000, "\u202e\u05e9\u05dc", '"', "a\tb"])
captions = st.text(st.characters(codec=None), max_size=20) | oddities
names, gaps = st.sampled_from(["a.jpg", "a.jpg#1", "gone.jpg", ""]), st.sampled_from(["\t", "", "\t\t"])
files = st.sampled_from(["captions.txt", "data.csv", "metadata.jsonl", "captions.json"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(names, gaps, captions)),
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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, gaps, captions)))
def test_of_any_folder_every_caption_is_kept_or_counted(tmp_path_factory, rows):
    folder = tmp_path_factory.getbasetemp() / "any_folder"
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").touch()
    lines = [f"{name}{tab}{text}".replace("\r", "").replace("\n", "") for name, tab, text in rows]
    lines = ["a.jpg#0\tA dog .", *lines]
    (folder / "any.token.txt").write_bytes("\n".join(lines).encode("utf-8", "replace"))
    dataset = read_dataset(folder)
    kept = sum(len(some) for split in dataset.splits.values() for some in split.values())
    lost = [re.search(r"captions left out: (\d+)$", problem.what) for problem in dataset.problems]
    assert kept + sum(int(count[1]) if count else 1 for count in lost) == sum(1 for line in lines if line.strip())


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
@given(data=st.binary(max_size=300), name=files)
def test_any_bytes_raise_nothing_but_data_error(tmp_path_factory, data, name):
    folder = tmp_path_factory.getbasetemp() / "any_bytes"
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").touch()
    (folder / name).write_bytes(b"image,caption\na.jpg,A dog\n" + data if data[:1] < b"\x80" else data)
    with contextlib.suppress(DataError):
        assert read_dataset(folder / name).splits
