"""Captions go into a picture's metadata, and nothing else of the file changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.errors import DataError
from captioning.inference.metadata import picture
from captioning.inference.metadata.splices import reverse, source_of, spliced
from captioning.inference.metadata.tiff import Directory
from tests.inference.metadata import samples
from tests.inference.metadata.samples import FORMATS, TEXTS, kept


def written(data: bytes, texts: dict) -> bytes:
    return spliced(data, picture.splices(source_of(data), texts))


def read(data: bytes) -> dict:
    return picture.read(source_of(data))


@pytest.mark.parametrize("kind", FORMATS)
def test_texts_are_read_back_and_the_pixels_are_the_same(kind):
    data = samples.picture(kind)
    assert read(data) == {}
    new = written(data, TEXTS)
    assert read(new) == kept(kind)
    assert np.array_equal(samples.pixels(new), samples.pixels(data))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_change_has_its_reverse(kind):
    data = samples.picture(kind)
    for texts in (TEXTS, dict.fromkeys(TEXTS, "x"), dict.fromkeys(TEXTS), {"description": "y" * 5000}):
        splices = picture.splices(source_of(data), texts)
        back = reverse(source_of(data), splices)
        assert spliced(spliced(data, splices), back) == data
        data = spliced(data, splices)


@pytest.mark.parametrize("kind", FORMATS)
def test_texts_are_replaced_and_removed(kind):
    data = written(samples.picture(kind), TEXTS)
    shorter, longer = (dict.fromkeys(kept(kind), text) for text in ("犬", "a dog " * 200 + "end"))
    for texts in (shorter, longer, shorter):
        data = written(data, texts)
        assert read(data) == texts
    data = written(data, dict.fromkeys(TEXTS))
    assert read(data) == {}
    assert np.array_equal(samples.pixels(data), samples.pixels(samples.picture(kind)))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_text_again_changes_nothing_but_what_is_said_twice(kind):
    once = written(samples.picture(kind), TEXTS)
    assert written(once, TEXTS) == once


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_an_exif_block_keeps_its_places(kind):
    block = samples.exif_block()
    data = samples.picture(kind, exif=b"Exif\0\0" + block if kind != "webp" else block)
    for text in ("A dog.", "A dog " * 50, "x", None):
        data = written(data, {"exif": text})
        assert read(data).get("exif") == (text.strip() if text else None)
        found = block_of(data)
        assert found[8 : len(block)].startswith(block[8:])  # the header alone differs: it points to a new directory
        directory, old = Directory(source_of(found)), Directory(source_of(block))
        assert {tag: directory.value(tag) for tag in (0x010F, 0x0110, 0x0112, 0x8769, 0x8825)} == {
            tag: old.value(tag) for tag in (0x010F, 0x0110, 0x0112, 0x8769, 0x8825)
        }


def block_of(data: bytes) -> bytes:
    container = picture._container(source_of(data))
    assert container
    return container.exif


@pytest.mark.parametrize(
    ("data", "saying"),
    [
        (b"", "is no JPEG, PNG, WebP or TIFF"),
        (b"GIF89a" + bytes(40), "is no JPEG, PNG, WebP or TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(16), "is no JPEG, PNG, WebP or TIFF"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "is no JPEG, PNG, WebP or TIFF"),
        (b"II*\0\x08\0\0\0\1\0" + b"\x12\xc6\1\0\4\0\0\0\1\4\0\0" + bytes(4), "is a raw file"),
        (b"II*\0\x08\0\0\0\1\0" + b"\xfe\0\4\0\1\0\0\0\1\0\0\0" + bytes(4), "is a raw file"),
        (b"MM\0*\0\0\0\x08\0\1" + b"\0\xfe\0\4\0\0\0\1\0\0\0\1" + bytes(4), "is a raw file"),
        (b"II+\0" + bytes(40), "is no JPEG, PNG, WebP or TIFF"),
        (b"II*\0\xff\xff\0\0" + bytes(8), "ends too early"),
        (b"\xff\xd8\xff\xe1\0\1", "segments are broken"),
        (b"\xff\xd8\xff\xe1\0\x20" + bytes(5), "ends too early"),
        (b"\xff\xd8\xff\xff" + b"\xff" * 5000, "segments are broken"),
        (b"\xff\xd8" + b"\xff\xe0\0\2" * 10_001 + b"\xff\xda", "more than 10,000 segments"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIDAT", "ends too early"),
        (b"RIFF\xff\0\0\0WEBPVP8 ", "is a WebP that ends too early"),
        (b"RIFF\x0c\0\0\0WEBPVP8 \xff\0\0\0", "chunks are broken"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(data, saying):
    with pytest.raises(DataError, match=saying) as told:
        written(data, TEXTS)
    assert str(told.value).endswith(".")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_refused_or_read_and_never_crashes(kind):
    data = written(samples.picture(kind), TEXTS)
    rng = np.random.default_rng(1)
    refused = 0
    for cut in range(0, len(data), max(1, len(data) // 60)):
        refused += not survives(data[:cut])
    for _ in range(150):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            changed[place] = rng.integers(256)
        survives(bytes(changed))
    assert refused


def survives(data: bytes) -> bool:
    try:
        splices = picture.splices(source_of(data), TEXTS)
        new = spliced(data, splices)
    except DataError:
        return False
    assert spliced(new, reverse(source_of(data), splices)) == data
    return True


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60), st.sampled_from(FORMATS))
def test_any_text_of_one_line_comes_back(text, kind):
    if text.strip() == text and not any(sign in text for sign in "\ufffe\uffff"):
        texts = dict.fromkeys(kept(kind), text)
        assert read(written(samples.picture(kind), texts)) == texts
