"""Captions are worded as asked for: as alternative text of a length, with a text before and after."""

import pytest

from captioning.errors import CaptioningError
from captioning.inference.records import alt_text
from captioning.inference.wording import Wording

CAPTION = "a picture of a brown dog that runs through the tall green grass beside a river"


@pytest.mark.parametrize("length", [30, 50, 125, 420, 1000])
def test_alternative_text_keeps_to_its_length_with_prefix_and_suffix(length):
    wording = Wording(alt_text=True, alt_length=length, prefix="AI: ", suffix=" *")
    text = wording(CAPTION)
    assert len(text) <= length
    assert text.startswith("AI: A brown dog")
    assert text.endswith(". *")
    assert (text == "AI: A brown dog that runs through the tall green grass beside a river. *") == (length >= 125)


def test_a_caption_that_is_no_alternative_text_is_never_cut():
    wording = Wording(alt_length=40, suffix=" (machine-written)")
    assert wording(CAPTION * 3) == CAPTION * 3 + " (machine-written)"
    assert len(wording.alternative(CAPTION)) <= 40


def test_without_options_nothing_is_added():
    assert Wording()(CAPTION) == CAPTION
    assert Wording(alt_text=True)(CAPTION) == Wording().alternative(CAPTION) == alt_text(CAPTION)


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        ({"alt_length": 19}, r"^--alt-length 19 cannot be used: 20 or more was expected"),
        ({"suffix": "x" * 110}, r"--alt-length 125 cannot be used: 130 or more was expected"),
        ({"prefix": "two\nlines"}, r"--prefix two\\nlines cannot be used: one line"),
        ({"suffix": "\udcff"}, "--suffix .* cannot be used"),
        ({"suffix": "x" * 2001, "alt_length": 9000}, "at most 2,000 printable characters"),
    ],
)
def test_what_cannot_be_used_is_refused(options, saying):
    with pytest.raises(CaptioningError, match=saying):
        Wording(**options)
