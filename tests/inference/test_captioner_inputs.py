"""What a program may give to a captioner: bytes, streams, single options; and what it gets where something is wrong."""

import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image

from captioning.errors import CaptioningError, ImageError
from captioning.inference import captioner as room
from captioning.inference.confidence import SURE
from captioning.options import DecodeOptions
from tests.inference.test_captioner import GREEDY, THREE, assert_same


@pytest.fixture(scope="module")
def captions(captioner, pictures):
    return captioner.caption(pictures, THREE)


def test_bytes_streams_and_open_files_are_as_the_file(captioner, captions, pictures, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pictures[3]).save(path)
    data = path.read_bytes()
    with path.open("rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file, io.BufferedReader(Pipe(data))):
            assert_same(captioner.caption(source, THREE), captions[3])


class Pipe(io.RawIOBase):
    """A stream that cannot be read twice, such as that of a download."""

    def __init__(self, data: bytes) -> None:
        self.rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self.rest.readinto(buffer)


@pytest.mark.parametrize("address", ["http://here.example/a.jpg", "HTTPS://x/y.png", Path("https://x/y.png")])
def test_a_web_address_is_refused_with_what_to_do(captioner, address):
    with pytest.raises(ImageError, match=r"is a web address; download the image and give its file\.$") as refused:
        captioner.caption(address)
    assert str(address) in str(refused.value)


@pytest.mark.parametrize("thing", [None, 7, {"a": 1}, io.StringIO("text")])
def test_what_cannot_be_an_image_is_refused_in_a_sentence(captioner, thing):
    with pytest.raises(ImageError, match=r"is no image; give a path|open as text; open it with"):
        captioner.caption(thing)


def test_single_options_are_changed_by_name(captioner, pictures, captions):
    assert_same(captioner.caption(pictures[0], num_captions=3), captions[0])
    assert_same(captioner.caption(pictures[0], GREEDY, strategy="beam", max_length=6, num_captions=3), captions[0])
    found = captioner.caption(pictures[:2], num_beams=5, num_captions=5)
    assert [len(each.alternatives) for each in found] == [4, 4]
    assert captioner.options == DecodeOptions(max_length=6)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"num_beam": 5}, "no option num_beam; did you mean num_beams or"),
        ({"num_beams": 1000}, "--num-beams 1000 cannot be used: 1 to 50"),
        ({"num_beams": "5"}, "--num-beams '5' cannot be used: a whole number"),
        ({"on_error": "ignore"}, "on_error is 'ignore'; expected 'raise' or 'return'"),
        (
            {"max_length": 20, "force": ["a the two red blue big dog cat ball man sits"]},
            "--force has 11 words; give at",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_a_sentence(captioner, pictures, setting, match):
    with pytest.raises(CaptioningError, match=match):
        captioner.caption(pictures[0], **setting)


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return path


def test_errors_stand_in_the_place_of_their_images(captioner, captions, pictures, broken, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 2)
    images = [broken, pictures[0], broken.with_name("none.jpg"), b"", pictures[1], pictures[2], "http://a/b.jpg"]
    found = captioner.caption(images, THREE, on_error="return")
    for place, number in ((1, 0), (4, 1), (5, 2)):
        assert_same(found[place], captions[number])
    reasons = [each.reason for each in found if isinstance(each, ImageError)]
    assert reasons == ["truncated", "missing", "empty", "unreadable"]
    assert "broken.png" in str(found[0])
    assert str(found[3]).startswith("images[3]: ")


def test_where_no_image_can_be_read_there_are_errors_alone(captioner, broken):
    [one, _] = captioner.caption([broken, broken], on_error="return")
    assert isinstance(one, ImageError)
    assert isinstance(captioner.caption(broken, on_error="return"), ImageError)
    assert captioner.caption([], on_error="return") == []


def test_an_error_that_is_raised_names_the_image(captioner, pictures, broken):
    with pytest.raises(ImageError, match=r"broken\.png"):
        captioner.caption([pictures[0], broken])
    with pytest.raises(ImageError, match=r"^images\[1\]: "):
        captioner.caption([pictures[0], broken.read_bytes()])
    with pytest.raises(ImageError, match=r"broken\.png"):
        captioner.features([broken])


def test_a_caption_is_shown_in_a_line(captions):
    caption = dataclasses.replace(captions[0], confidence=0.456)
    assert repr(caption) == f"Caption({caption.text!r}, confidence=0.46, {len(caption.words)} words)"
    assert "confidence=unknown" in repr(captions[0])
    word = caption.words[0]
    assert repr(word) == f"Word({word.text!r}, probability={word.probability:.2f})"
    assert len(repr([caption] * 3)) < 3 * 120


@pytest.mark.parametrize(
    ("confidence", "familiar", "sure", "verdict"),
    [
        (SURE - 0.01, None, False, "not sure"),
        (SURE, None, True, "sure"),
        (SURE, True, True, "sure"),
        (0.99, False, False, "unfamiliar"),
        (None, False, False, "unfamiliar"),
        (None, True, None, "unknown"),
        (None, None, None, "unknown"),
    ],
)
def test_what_is_said_of_a_caption(captions, confidence, familiar, sure, verdict):
    caption = dataclasses.replace(captions[0], confidence=confidence, familiar=familiar)
    assert (caption.sure, caption.verdict) == (sure, verdict)
