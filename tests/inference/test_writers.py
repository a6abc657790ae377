"""Captions arrive whole and once, run nothing in a spreadsheet, and spare what was there before."""

import contextlib
import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.errors import CaptioningError, DataError, StorageError
from captioning.inference.writers import ALT_LENGTH, OutputOptions, alt_text, name_of, open_writer
from captioning.runtime.safe_csv import FORMULA, csv_row

WIDE = "".join(chr(ord(sign) + 0xFEE0) for sign in "=+-@")  # as they are typed in East Asia
GRID = np.array([[0.25, 0.5], [0.125, 0.125]], "float32")


@dataclass
class Said:
    text: str
    words: list
    alternatives: tuple
    confidence: float | None
    score: float = -0.25

    def __str__(self):
        return self.text


def said(text: str, confidence: float | None = 0.8, others: tuple[str, ...] = ()) -> Said:
    words = [SimpleNamespace(text=word, probability=0.5, attention=GRID) for word in text.split()]
    return Said(text, words, tuple(said(other) for other in others), confidence)


def write(options: OutputOptions, captions: dict, *, several: bool = False) -> list[str]:
    with open_writer(options, several=several) as book:
        new = {Path(image): caption for image, caption in captions.items() if Path(image) not in book}
        return book.add(new) if new else []


# Which book


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "text"),
        ({"format": "csv"}, "csv"),
        ({"output": Path("a.b/captions.JSONL")}, "jsonl"),
        ({"output": Path("captions.dat"), "format": "csv"}, "csv"),
        ({"sidecar": True}, "txt"),
        ({"sidecar": True, "format": "json"}, "json"),
    ],
)
def test_the_format_follows_from_the_place(options, kind):
    assert OutputOptions(**options).kind == kind


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        ({"output": Path("a.csv"), "sidecar": True}, "exclude each other"),
        ({"output": Path("captions")}, "tells no format"),
        ({"output": Path("captions.xlsx")}, "tells no format"),
        ({"output": Path("a.csv"), "format": "text"}, "use txt"),
        ({"sidecar": True, "format": "text"}, "use txt"),
        ({"format": "json"}, "needs --output FILE or --sidecar"),
        ({"sidecar": True, "format": "csv"}, "txt or json, not csv"),
        ({"output": Path("a.txt"), "if_exists": "append"}, "use skip or overwrite"),
        ({"sidecar": True, "format": "json", "if_exists": "prepend"}, "use skip or overwrite"),
        ({"attention": True}, "--attention needs"),
        ({"output": Path("a.csv"), "attention": True}, "--attention needs"),
    ],
)
def test_what_does_not_go_together_is_refused(options, saying):
    with pytest.raises(CaptioningError, match=saying):
        OutputOptions(**options)


# The terminal


def test_the_terminal_gets_lines_and_a_mark_where_a_caption_is_unsure(capsys):
    captions = {"a.png": said("a dog", 0.8, ("the dog",)), "b.png": said("a cat", 0.3), "c.png": said("a man", None)}
    write(OutputOptions(), captions, several=True)
    assert capsys.readouterr().out == "a.png\ta dog\na.png\tthe dog\nb.png\ta cat\tnot sure\nc.png\ta man\n"


def test_a_table_on_the_terminal_has_one_header(capsys):
    with open_writer(OutputOptions(format="csv"), several=False) as book:
        for name in ("a.png", "b.png"):
            book.add({Path(name): said("a dog")})
    assert capsys.readouterr().out.splitlines() == [
        '"image","caption","confidence","score"',
        '"a.png","a dog",0.8,-0.25',
        '"b.png","a dog",0.8,-0.25',
    ]


# Files


def test_what_a_csv_holds(tmp_path):
    output = tmp_path / "deeper" / "captions.csv"
    write(OutputOptions(output=output), {"a.png": said('a "big" dog, 犬', None, ("x", "y"))}, several=True)
    with open(output, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"image": "a.png", "caption": 'a "big" dog, 犬', "confidence": "", "score": "-0.25", "alternatives": "x | y"}
    ]


def test_what_a_json_line_holds(tmp_path):
    output = tmp_path / "captions.jsonl"
    write(OutputOptions(output=output, attention=True, alt_text=True), {"a.png": said("a dog", 0.81234)})
    record = json.loads(output.read_text("utf-8"))
    assert list(record) == ["image", "caption", "confidence", "score", "words"]
    assert (record["caption"], record["confidence"]) == ("A dog.", 0.812)
    assert record["words"][1] == {"text": "dog", "probability": 0.5, "attention": [[0.25, 0.5], [0.125, 0.125]]}


@pytest.mark.parametrize("kind", ["csv", "txt", "jsonl", "json"])
def test_a_file_is_gone_on_with(tmp_path, kind):
    options = OutputOptions(output=tmp_path / f"captions.{kind}")
    write(options, {"a.png": said("first"), "=b.png": said("first")})
    write(options, {"a.png": said("second"), "=b.png": said("second"), "c.png": said("second")})
    text = options.output.read_text("utf-8")
    assert (text.count("first"), text.count("second"), text.count("a.png")) == (2, 1, 1)
    if kind == "json":
        assert [record["image"] for record in json.loads(text)] == ["a.png", "=b.png", "c.png"]


@pytest.mark.parametrize("kind", ["csv", "txt", "jsonl"])
def test_half_a_line_that_a_killed_run_left_is_written_anew(tmp_path, kind):
    options = OutputOptions(output=tmp_path / f"captions.{kind}")
    write(options, {"a.png": said("a dog"), "ü.png": said("a cat")})
    whole = options.output.read_bytes()
    for cut in range(1, len(whole) - whole.index(b"\n", -40)):
        options.output.write_bytes(whole[:-cut])
        write(options, {"a.png": said("a dog"), "ü.png": said("a cat")})
        assert options.output.read_bytes() == whole


@pytest.mark.parametrize("kind", ["csv", "txt", "jsonl", "json"])
def test_overwriting_waits_for_the_first_caption(tmp_path, kind):
    output = tmp_path / f"captions.{kind}"
    output.write_text("something of value")
    options = OutputOptions(output=output, if_exists="overwrite")
    with open_writer(options, several=False):
        pass
    assert output.read_text() == "something of value"
    write(options, {"a.png": said("a dog")})
    assert "value" not in output.read_text()
    assert "a dog" in output.read_text()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv", b"name,price\nlamp,3\n"),
        ("csv", b'"image","caption","confidence","score","alternatives"\n'),
        ("txt", b"a shopping list\n"),
        ("txt", b"a shopping\tlist"),
        ("jsonl", b'{"name": "lamp"}\n'),
        ("jsonl", b"[3]\n"),
        ("jsonl", b"\xff\xd8\n"),
        ("json", b"{}\n1"),
        ("json", b'[{"name": "lamp"}]'),
    ],
)
def test_a_file_of_another_kind_is_refused_and_kept(tmp_path, kind, content):
    output = tmp_path / f"captions.{kind}"
    output.write_bytes(content)
    with pytest.raises(DataError, match=r"--if-exists overwrite\.$"):
        write(OutputOptions(output=output), {"a.png": said("a dog")})
    assert output.read_bytes() == content


def test_a_json_file_is_there_only_when_it_is_whole(tmp_path):
    output = tmp_path / "captions.json"
    with contextlib.suppress(KeyboardInterrupt), open_writer(OutputOptions(output=output), several=False) as book:
        book.add({Path("a.png"): said("a dog")})
        raise KeyboardInterrupt
    with open_writer(OutputOptions(output=output, if_exists="overwrite"), several=False):
        pass  # what the interrupted run left is not wanted any more
    assert list(tmp_path.iterdir()) == []
    write(OutputOptions(output=output, if_exists="overwrite"), {"b.png": said("a cat")})
    assert [record["image"] for record in json.loads(output.read_text())] == ["b.png"]


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        write(OutputOptions(output=tmp_path / "file" / "captions.csv"), {"a.png": said("a dog")})


# Spreadsheets and names


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.text(alphabet=st.sampled_from(WIDE + "=+-@'\"\t\r\n a,;|é"), max_size=6), min_size=1))
def test_no_cell_is_a_formula_and_all_come_back(cells):
    [row] = csv.reader(io.StringIO(csv_row(cells), newline=""))
    assert not any(cell.startswith(tuple(WIDE + "=+-@\t\r\n")) for cell in row)
    assert [cell.removeprefix("'") for cell in row] == cells


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@a", "\t=1", " =1", WIDE[0] + "1", "'=1"])
def test_what_a_spreadsheet_could_run_is_marked(cell):
    assert csv_row([cell]).startswith("\"'")


def test_numbers_stay_numbers():
    assert csv_row(["a", -0.25, None]) == '"a",-0.25,""\n'
    assert not FORMULA.match("a dog's = sign")


@pytest.mark.parametrize("kind", ["csv", "txt", "jsonl", "json"])
def test_strange_names_are_gone_on_with_too(tmp_path, kind):
    names = [
        "=a.png",
        "'b.png",
        "tab\there.png",
        "two\nlines.png",
        "naïve 犬\u2028.png",
        *map(os.fsdecode, (b"\xff.png", b"\xfe.png")),
    ]
    options = OutputOptions(output=tmp_path / f"captions.{kind}")
    for time in ("first", "second"):
        write(options, {name: said(time) for name in names})
    text = options.output.read_text("utf-8")
    assert (text.count("first"), text.count("second")) == (len(names), 0)
    assert len({name_of(Path(name)) for name in names}) == len(names)


# Sidecars


@pytest.mark.parametrize(
    ("if_exists", "expected"),
    [
        ("skip", "old\n"),
        ("overwrite", "a dog\nthe dog\n"),
        ("append", "old\na dog\nthe dog\n"),
        ("prepend", "a dog\nthe dog\nold\n"),
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_what_happens_to_a_sidecar_that_is_there(tmp_path, if_exists, expected, end):
    (tmp_path / "a.txt").write_text(f"old{end}")
    options = OutputOptions(sidecar=True, if_exists=if_exists)
    for _ in range(2):  # the second time as after an interruption
        write(options, {tmp_path / "a.png": said("a dog", 0.1, ("the dog",))}, several=True)
    assert (tmp_path / "a.txt").read_text() == (f"old{end}" if if_exists == "skip" else expected)


def test_a_sidecar_of_json_is_one_record(tmp_path):
    write(OutputOptions(sidecar=True, format="json"), {tmp_path / "a.b.png": said("a dog")})
    assert json.loads((tmp_path / "a.b.json").read_text())["caption"] == "a dog"


def test_two_images_never_share_a_sidecar(tmp_path):
    problems = write(
        OutputOptions(sidecar=True), {tmp_path / "a.jpg": said("a dog"), tmp_path / "a.png": said("a cat")}
    )
    assert problems == [f"{tmp_path / 'a.png'} would share a.txt with a.jpg; use --output for it."]
    assert (tmp_path / "a.txt").read_text() == "a dog\n"


@pytest.mark.parametrize("if_exists", ["skip", "overwrite", "append"])
def test_an_image_is_never_its_own_sidecar(tmp_path, if_exists):
    (tmp_path / "photo.txt").write_bytes(b"pixels")
    write(OutputOptions(sidecar=True, if_exists=if_exists), {tmp_path / "photo.txt": said("a dog")})
    assert (tmp_path / "photo.txt").read_bytes() == b"pixels"


# Alternative text


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a dog runs", "A dog runs."),
        ("A dog runs .", "A dog runs."),
        ("a picture of a dog", "A dog."),
        ("The photo showing two dogs", "Two dogs."),
        ("this is an image of a photograph of a dog", "A dog."),
        ("a close-up photo of a dog", "A dog."),
        ("black and white pictures of dogs", "Dogs."),
        ("a man holds a picture of a dog", "A man holds a picture of a dog."),
        ("a photo of", "A photo of."),
        ("photographer of dogs", "Photographer of dogs."),
        ("", ""),
        ("x" * 200, "X" + "x" * 123 + "."),
        ("a dog " * 30, ("A dog" + " a dog" * 20)[:124].rsplit(" ", 1)[0] + "."),
    ],
)
def test_alternative_text(caption, expected):
    assert alt_text(caption) == expected


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet=st.sampled_from("ab of.,!photo"), max_size=300))
def test_alternative_text_is_one_short_sentence(caption):
    text = alt_text(caption)
    assert len(text) <= ALT_LENGTH
    assert text == "" or (text.endswith(".") and not text.endswith(("..", " .")))
    assert text[:1] == text[:1].upper()


@pytest.mark.parametrize("length", [123, 124, 125, 126])
def test_alternative_text_is_cut_no_sooner_than_needed(length):
    words = ("ab " * 50)[: length - 2] + "cd"
    assert len(alt_text(words)) == (
        length + 1 if length < 125 else 125 - (125 - len(words[:124].rsplit(" ", 1)[0]) - 1)
    )
