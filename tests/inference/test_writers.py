"""Captions arrive whole and once, run nothing in a spreadsheet, and spare what was there before."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.errors import CaptioningError, DataError, StorageError
from captioning.inference.caption import Caption, Word
from captioning.inference.confidence import SURE
from captioning.inference.left_out import LeftOut
from captioning.inference.records import name_of
from captioning.inference.writers import OutputOptions, open_writer
from captioning.runtime.safe_csv import FORMULA, csv_row

WIDE = "".join(chr(ord(sign) + 0xFEE0) for sign in "=+-@")  # as they are typed in East Asia
GRID = np.array([[0.25, 0.5], [0.125, 0.125]], "float32")


def said(text: str, confidence: float | None = 0.8, others: tuple[str, ...] = (), **more: bool) -> Caption:
    words = tuple(Word(word, 0.5, GRID) for word in text.split())
    return Caption(text, words, -0.25, tuple(said(other) for other in others), confidence, **more)


def write(options: OutputOptions, captions: dict, *, several: bool = False) -> list[str]:
    with open_writer(options, several=several) as book:
        new = {Path(image): caption for image, caption in captions.items() if Path(image) not in book}
        return list(book.add(new).values()) if new else []


@pytest.fixture(autouse=True)
def _journals_go_elsewhere(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("current"))


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
        ({"output": Path("captions")}, "has no known format"),
        ({"output": Path("captions.xlsx")}, "has no known format"),
        ({"output": Path("a.csv"), "format": "text"}, "use txt"),
        ({"sidecar": True, "format": "text"}, "use txt"),
        ({"format": "json"}, "needs --output FILE or --sidecar"),
        ({"sidecar": True, "format": "csv"}, "txt, json or xmp, not csv"),
        ({"output": Path("a.txt"), "if_exists": "append"}, "use skip or overwrite"),
        ({"sidecar": True, "format": "json", "if_exists": "prepend"}, "use skip or overwrite"),
        ({"attention": True}, "--attention needs"),
        ({"output": Path("a.csv"), "attention": True}, "--attention needs"),
        ({"min_confidence": 1.5}, r"^--min-confidence 1.5 cannot be used: 0 to 1 was expected\.$"),
        ({"min_confidence": float("nan")}, "0 to 1 was expected"),
    ],
)
def test_what_does_not_go_together_is_refused(options, saying):
    with pytest.raises(CaptioningError, match=saying):
        OutputOptions(**options)


# The terminal


def test_the_terminal_gets_lines_and_a_mark_where_a_caption_is_unsure(capsys):
    captions = {"a.png": said("a dog", 0.8, ("the dog",)), "b.png": said("a cat", 0.3), "c.png": said("a man", None)}
    write(OutputOptions(), captions, several=True)
    assert capsys.readouterr().out == (
        "a.png\ta dog\na.png\tthe dog\nb.png\ta cat\tnot sure\nc.png\ta man\tconfidence unknown\n"
    )


def test_a_table_on_the_terminal_has_one_header(capsys):
    with open_writer(OutputOptions(format="csv"), several=False) as book:
        for name in ("a.png", "b.png"):
            book.add({Path(name): said("a dog")})
    assert capsys.readouterr().out.splitlines() == [
        '"image","caption","confidence","sure","verdict","score"',
        '"a.png","a dog",0.8,True,"sure",-0.25',
        '"b.png","a dog",0.8,True,"sure",-0.25',
    ]


# Files


def test_what_a_csv_holds(tmp_path):
    output = tmp_path / "deeper" / "captions.csv"
    write(OutputOptions(output=output), {"a.png": said('a "big" dog, 犬', None, ("x", "y"))}, several=True)
    with open(output, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = {"image": "a.png", "caption": 'a "big" dog, 犬', "confidence": "", "sure": "", "verdict": "unknown"}
    assert rows == [values | {"score": "-0.25", "alternatives": "x | y"}]


def test_what_a_json_line_holds(tmp_path):
    output = tmp_path / "captions.jsonl"
    write(OutputOptions(output=output, attention=True, alt_text=True), {"a.png": said("a dog", 0.81234)})
    record = json.loads(output.read_text("utf-8"))
    assert list(record) == ["image", "caption", "confidence", "sure", "verdict", "score", "words"]
    assert (record["caption"], record["confidence"], record["sure"]) == ("A dog.", 0.812, True)
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


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("columns", "cells"), [("", ""), (',"sure"', ',"False"')])
def test_a_csv_of_before_the_columns_sure_and_verdict_keeps_its_columns(tmp_path, several, columns, cells):
    output = tmp_path / "captions.csv"
    header = f'"image","caption","confidence"{columns},"score"' + (',"alternatives"' if several else "")
    old = header + f'\n"a.png","first",0.8{cells},-0.25' + (',"x"' if several else "") + "\n"
    output.write_text(old)
    captions = {"a.png": said("second", 0.3, ("y",)), "b.png": said("second", 0.3, ("y",))}
    write(OutputOptions(output=output), captions, several=several)
    fresh = f'"b.png","second",0.3{cells},-0.25'.replace('"False"', "False")
    assert output.read_text() == old + fresh + (',"y"' if several else "") + "\n"


# Captions of too low a confidence


@pytest.mark.parametrize(
    ("options", "threshold", "left_out"),
    [
        ({}, 0, None),
        ({"output": Path("a/b.csv"), "alt_text": True}, 0, None),
        ({"output": Path("a/b.json"), "min_confidence": 0.7}, 0.7, Path("a/b-left-out.csv")),
        ({"sidecar": True}, 0, None),
        ({"sidecar": True, "alt_text": True}, SURE, Path("left-out.csv")),
        ({"sidecar": True, "alt_text": True, "min_confidence": 0.0}, 0, None),
        ({"min_confidence": 0.7}, 0.7, None),
    ],
)
def test_alt_text_beside_images_is_held_to_a_threshold_and_others_where_asked(options, threshold, left_out):
    found = OutputOptions(**options)
    assert (found.threshold, found.left_out) == (threshold, left_out)


def low(tmp_path, writer=(), confidence=0.5, **options) -> LeftOut:
    return LeftOut(OutputOptions(output=tmp_path / "c.csv", min_confidence=confidence, **options), writer)


def test_what_is_too_low(tmp_path):
    judge = low(tmp_path).is_too_low
    assert [judge(value, "sure") for value in (0.49, 0.5, 1.0, None)] == [True, False, False, True]
    assert judge(1.0, "unfamiliar")
    assert not LeftOut(OutputOptions(), ()).is_too_low(None, "unfamiliar")


def test_captions_left_out_are_listed_in_a_file_which_is_resumed(tmp_path):
    captions = {Path("=a.png"): said("a dog", 0.2), Path("b.png"): said("a cat", 0.4), Path("c.png"): said("x", None)}
    low(tmp_path, alt_text=True).add(captions)
    file = tmp_path / "c-left-out.csv"
    header, *lines = file.read_text().splitlines()
    assert header == '"image","caption","confidence","sure","verdict","score"'
    assert lines[0] == '"\'=a.png","A dog.",0.2,False,"not sure",-0.25'
    file.write_bytes(file.read_bytes() + b'"half a li')
    again = low(tmp_path)
    assert [image in again for image in captions] == [True] * 3
    assert again.rows["c.png"] == ("X.", None, "unknown")
    again.add({Path("d.png"): said("a man", 0.1)})
    assert len(file.read_text().splitlines()) == 5


def test_an_unfamiliar_picture_stays_left_out_at_every_threshold(tmp_path):
    low(tmp_path).add({Path("a.png"): said("a dog", 0.9, familiar=False)})
    assert '0.9,False,"unfamiliar",-0.25' in (tmp_path / "c-left-out.csv").read_text()
    assert low(tmp_path, confidence=0.1).rows == {"a.png": ("a dog", 0.9, "unfamiliar")}


def test_a_row_of_before_the_column_verdict_is_judged_by_its_confidence(tmp_path):
    file = tmp_path / "c-left-out.csv"
    file.write_text('"image","caption","confidence","sure","score"\n"a.png","x",0.4,False,-1\n"b.png","y","","",-1\n')
    assert low(tmp_path).rows == {"a.png": ("x", 0.4, "not sure"), "b.png": ("y", None, "unknown")}
    assert list(low(tmp_path, confidence=0.3).rows) == ["b.png"]


def test_a_row_is_dropped_once_its_image_has_a_caption_or_its_confidence_will_do(tmp_path):
    low(tmp_path).add({Path(f"{name}.png"): said("a dog", share) for name, share in (("a", 0.2), ("b", 0.4))})
    file = tmp_path / "c-left-out.csv"
    whole = file.read_text()
    assert list(low(tmp_path, confidence=0.3).rows) == ["a.png"]
    file.write_text(whole)
    assert list(low(tmp_path, writer={Path("a.png")}).rows) == ["b.png"]
    assert "a.png" not in file.read_text()
    assert not low(tmp_path, writer={Path("b.png")}).rows
    assert not file.exists()
    file.write_text(whole)
    assert not low(tmp_path, if_exists="overwrite").rows
    assert not file.exists()


def test_another_file_of_that_name_is_refused_and_kept(tmp_path):
    file = tmp_path / "c-left-out.csv"
    file.write_text("name,price\n")
    with pytest.raises(DataError, match=r"c-left-out.csv is needed .*; rename it\.$"):
        low(tmp_path, if_exists="overwrite")
    assert file.read_text() == "name,price\n"
    file.write_text("")
    assert not low(tmp_path).rows


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
