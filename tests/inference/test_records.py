"""A caption as alternative text is one short sentence; its record says how sure it is, or that this is unknown."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.inference.caption import Caption
from captioning.inference.records import ALT_LENGTH, COLUMNS, WRITTEN, alt_text, csv_cells, csv_header, record_of


def record(confidence, text="a dog", familiar=None):
    found = Caption(text, (), -0.25, confidence=confidence, familiar=familiar)
    return record_of(Path("a.png"), found, several=False, attention=False)


@pytest.mark.parametrize(
    ("confidence", "familiar", "sure", "text", "table", "line"),
    [
        (0.7, True, True, "", '0.7,True,"sure"', '"confidence": 0.7, "sure": true, "verdict": "sure"'),
        (0.12345, None, False, "\tnot sure", '0.123,False,"not sure"', '0.123, "sure": false, "verdict": "not sure"'),
        (0.9, False, False, "\tunfamiliar picture", '0.9,False,"unfamiliar"', '"sure": false, "verdict": "unfamiliar"'),
        (None, None, None, "\tconfidence unknown", '"","","unknown"', 'null, "sure": null, "verdict": "unknown"'),
    ],
)
def test_every_format_has_the_verdict_on_a_caption(confidence, familiar, sure, text, table, line):
    found = record(confidence, familiar=familiar)
    assert found["sure"] is sure
    assert WRITTEN["text"](found) == WRITTEN["txt"](found) == f"a.png\ta dog{text}\n"
    assert WRITTEN["csv"](found) == f'"a.png","a dog",{table},-0.25\n'
    assert line in WRITTEN["jsonl"](found)


def test_cells_come_back_as_they_were():
    assert csv_cells(WRITTEN["csv"](record(0.7, "=1+1"))) == ["a.png", "=1+1", "0.7", "True", "sure", "-0.25"]


def test_the_header_names_the_columns():
    assert csv_cells(csv_header(several=True)) == list(COLUMNS)
    before = csv_header(several=False, absent=("sure", "verdict"))
    assert csv_cells(before) == ["image", "caption", "confidence", "score"]


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
