"""What is read as JSON is what any program could read, and no text makes the reader fail in another way."""

import json

import pytest

from captioning.runtime import strict_json


@pytest.mark.parametrize("value", [None, True, 7, -1.5, "ä\u2028", [], {}, {"a": [{"b": [1, 2]}]}])
def test_what_is_written_is_read(value):
    assert strict_json.loads(strict_json.dumps(value)) == value
    assert strict_json.loads(strict_json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ("1e999", "too large"),
        ("[" + "9" * 30 + "]", "64 bits"),
        ("9" * 5000, "."),
        ('"\\ud800"', "surrogates not allowed"),
        ('{"\\udfff": 1}', "surrogates not allowed"),
        (b'"\xed\xa0\x80"', "surrogates not allowed"),
        ("[" * 51 + "]" * 51, "nested more than 50"),
        ('{"a":' * 51 + "1" + "}" * 51, "nested more than 50"),
        ("[" * 100_000 + "]" * 100_000, "nested more than 50"),
        (b"\xff", "."),
        ("{", "."),
    ],
)
def test_what_other_programs_could_not_read_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        strict_json.loads(text)


def test_the_deepest_text_that_is_allowed():
    assert strict_json.loads("[" * 50 + "]" * 50)


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}])
def test_no_text_holds_a_number_that_json_has_not(value):
    assert "N" in json.dumps(value).upper()
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dumps(value)
