"""What programs are answered, and the search options that they may change."""

import json

import numpy as np
import pytest

from captioning.errors import CaptioningError
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import Calibration
from captioning.options import DecodeOptions
from captioning.serving import answers, session
from captioning.serving.pool import CaptionerPool


@pytest.fixture
def pool(saved, captioner, monkeypatch):
    """One bundle, whose captioner has a calibration."""
    calibration = Calibration(bias=9.0, likelihood=0.0, agreement=0.0)
    size, options = captioner.image_size, captioner.options
    sure = Captioner(captioner.engine, captioner.tokenizer, image_size=size, options=options, calibration=calibration)
    monkeypatch.setattr("captioning.load", lambda path, **_: sure)
    return CaptionerPool([saved])


def test_options_are_changed_by_name(pool):
    own = pool.search("small")
    assert answers.search_options(pool, "small", None) == answers.search_options(pool, "small", {}) == own
    assert answers.search_options(pool, "small", {"num_beams": 2}) == DecodeOptions(
        num_beams=2, num_captions=2, max_length=6
    )
    assert answers.search_options(pool, "small", {"num_captions": 1}).num_captions == 1
    assert answers.search_options(pool, "small", {"strategy": "greedy"}).num_captions == 1
    assert answers.search_options(pool, "small", {"force": ["dog"]}).force == ("dog",)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_beam": 2}, "no option num_beam; did you mean num_beams"),
        ({"options": 2}, "no option options; did you mean"),
        ({"num_beams": 10**9}, "1 to 50 was expected"),
        ({"num_beams": "2"}, "a whole number was expected"),
        ([], "options is a list; expected an object"),
        ("num_beams=2", "options is a str; expected an object"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_sentence(pool, changes, match):
    with pytest.raises(CaptioningError, match=match):
        answers.search_options(pool, "small", changes)


def test_both_answers_say_whether_a_caption_is_sure(pool, photo):
    options = answers.search_options(pool, "small", {"num_beams": 2})
    answer = answers.answer(session.describe(pool, "small", photo, options))
    [row] = answers.caption_each(pool, "small", [photo], options)
    assert answer["sure"] is row["sure"] is True
    assert answer["verdict"] == row["verdict"] == "sure"
    assert answer["caption"] == row["caption"]
    assert len(answer["alternatives"]) == 1
    assert json.loads(answers.rows_json([row])) == [row]
    assert answers.rows_csv([row]).splitlines()[0].replace('"', "") == "image,caption,confidence,sure,verdict,problem"


def test_no_row_is_written_with_a_number_that_json_has_not(pool):
    with pytest.raises(ValueError, match="not JSON compliant"):
        answers.rows_json([{"confidence": np.nan}])
