"""Of any caption file, however made, every line is kept or named, and nothing is raised but what can be told."""

import contextlib
import csv
import os
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.data import dataset, formats
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


LAYOUTS = {
    "captions.csv": ("image,caption\n", "a.jpg,a dog number {} runs\n"),
    "quoted.csv": ("image,caption\n", '"a.jpg","a dog, number {}, runs"\n'),
    "captions.token.txt": ("", "a.jpg#0\ta dog number {} runs\n"),
    "metadata.jsonl": ("", '{{"file_name": "a.jpg", "text": "a dog number {} runs"}}\n'),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_large_file_is_not_held_as_a_whole(tmp_path, monkeypatch, name):
    monkeypatch.setattr(formats, "MAX_LINE", 5_000)
    head, line = LAYOUTS[name]
    count = 8_000
    (tmp_path / name).write_text(head + "".join(map(line.format, range(count))))
    tracemalloc.start()
    try:
        [source] = find_captions(tmp_path / name, [], set())
        rows = sum(isinstance(row, Row) for row in source.rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == count
    assert peak < 150_000  # and the file has twice as many bytes, its lines three times as many


def test_a_line_without_an_end_is_cut(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image,caption\na.jpg," + "a dog " * 1_000_000 + "\na.jpg,a dog runs")
    [long, row] = next(iter(find_captions(path, [], set()))).rows
    assert len(long.caption) <= 2 * formats.MAX_LINE
    assert row.caption == "a dog runs"


def test_lines_end_as_they_end_anywhere(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n\nfour\r\r\nfive\xe9")
    for most in (1, 2, 3, 7, 10**6):
        monkeypatch.setattr(formats, "MAX_LINE", max(most, 5))
        assert list(formats.read_lines(path)) == ["one", "two", "three", "", "four", "", "five\xe9"]


def test_a_json_document_of_too_many_bytes_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "captions.json").write_text('[{"image": "a.jpg", "caption": "a dog runs"}]')
    assert read_dataset(tmp_path / "captions.json").splits
    monkeypatch.setattr(formats, "MAX_JSON", 20)
    for path in (tmp_path, tmp_path / "captions.json"):
        with pytest.raises(DataError, match=r"of JSON at most .* MB are read; write it as \.jsonl"):
            read_dataset(path)


def test_what_is_no_file_is_passed_over(tmp_path):
    (tmp_path / "a.jpg").touch()
    os.mkfifo(tmp_path / "captions.txt")
    os.mkfifo(tmp_path / "train_images.txt")
    (tmp_path / "metadata.csv").write_text("image,caption\na.jpg,a dog runs\n")
    assert read_dataset(tmp_path).splits
    with pytest.raises(DataError, match="neither a folder nor a file"):
        read_dataset(tmp_path / "captions.txt")


def test_what_is_wrong_with_every_line_is_counted_and_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "MAX_PROBLEMS", 3)
    (tmp_path / "a.jpg").touch()
    lines = ["image,caption", "a.jpg,a dog runs", *["nothing"] * 10, *(f"gone{n}.jpg,a dog runs" for n in range(9))]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    problems = read_dataset(tmp_path).problems
    assert len(problems) == 3 + 1 + 3 + 1
    assert "lines of these kinds: 7" in problems[3].what
    assert "captions left out: 6" in problems[-1].what
