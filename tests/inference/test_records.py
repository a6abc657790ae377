"""A caption as alternative text is one short sentence; its record says how sure it is, or that this is unknown."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.inference.records import ALT_LENGTH, COLUMNS, WRITTEN, alt_text, csv_cells, csv_header, record_of


def record(confidence, text="a dog"):
    caption = type("Said", (SimpleNamespace,), {"__str__": lambda self: text})
    found = caption(confidence=confidence, score=-0.25, alternatives=())
    return record_of(Path("a.png"), found, as_alt_text=False, several=False, attention=False)


@pytest.mark.parametrize(
    ("confidence", "sure", "text", "table", "line"),
    [
        (0.5, True, "", "0.5,True", '"confidence": 0.5, "sure": true'),
        (0.12345, False, "\tnot sure", "0.123,False", '"confidence": 0.123, "sure": false'),
        (None, None, "\tconfidence unknown", '"",""', '"confidence": null, "sure": null'),
    ],
)
def test_every_format_says_whether_a_caption_is_sure_or_that_this_is_unknown(confidence, sure, text, table, line):
    found = record(confidence)
    assert found["sure"] is sure
    assert WRITTEN["text"](found) == WRITTEN["txt"](found) == f"a.png\ta dog{text}\n"
    assert WRITTEN["csv"](found) == f'"a.png","a dog",{table},-0.25\n'
    assert line in WRITTEN["jsonl"](found)


def test_cells_come_back_as_they_were():
    assert csv_cells(WRITTEN["csv"](record(0.5, "=1+1"))) == ["a.png", "=1+1", "0.5", "True", "-0.25"]


def test_the_header_names_the_columns():
    assert csv_cells(csv_header(several=True)) == list(COLUMNS)
    assert csv_cells(csv_header(several=False, sure=False)) == ["image", "caption", "confidence", "score"]


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
