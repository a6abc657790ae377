"""No file of any format costs more time or memory than its pixels need, and the pixels stay right."""

import contextlib
import io
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from captioning.data import image_blocks
from captioning.data.image_containers import open_blocks
from captioning.data.images import read_image
from captioning.errors import ImageError
from tests.data.hostile_images import box, hostile_files, overlapping_exif, segment, tiff
from tests.data.test_images import ANIMATION, chunk, encoded, photo, png, reason


def seconds_to_read(data: bytes) -> float:
    """The processor time of one reading."""
    start = time.thread_time()
    with contextlib.suppress(ImageError):
        assert read_image(io.BytesIO(data), size=32).shape == (32, 32, 3)
    return time.thread_time() - start


def test_no_block_over_and_over_costs_time():
    seen = 0
    for name, data in hostile_files(0, size=200_000, large=160):
        assert any(seconds_to_read(data) < 0.5 for _ in range(3)), name  # a busy machine slows single readings
        seen += 1
    assert seen > 400


JPEG, PNG = encoded(photo(), "JPEG").getvalue(), encoded(photo(), "PNG").getvalue()
NINE_MEGABYTES = {
    "comments of a GIF": b"GIF89a\x40\0\x40\0\0\0\0" + b"!\xfe\x01a\0" * 1_900_000,
    "padding of a JPEG": JPEG[:2] + b"\xff" * 9_000_000 + JPEG[2:],
    "empty segments of a JPEG": JPEG[:2] + b"\xff\xe5\0\2" * 2_300_000 + JPEG[2:],
    "empty chunks of a PNG": PNG[:33] + chunk(b"prVt", b"") * 750_000 + PNG[33:],
}


@pytest.mark.parametrize("name", NINE_MEGABYTES)
def test_nine_megabytes_of_nothing_are_refused_at_once(name):
    start = time.thread_time()
    assert reason(io.BytesIO(NINE_MEGABYTES[name])) == "truncated"
    assert time.thread_time() - start < 0.5


def test_notes_do_not_cost_the_picture():
    plain = encoded(photo(), "JPEG").getvalue()
    for block in (segment(0xFE, b"a"), segment(0xE1, overlapping_exif(5_000)), segment(0xED, bytes(60_000))):
        noted = io.BytesIO(plain[:2] + 100 * block + plain[2:])
        np.testing.assert_array_equal(read_image(noted), read_image(io.BytesIO(plain)))
    comments = encoded(photo(), "GIF").getvalue()
    start = comments.index(b"!") if b"!" in comments[:800] else comments.index(b",", 13 + 768)
    noted = io.BytesIO(comments[:start] + b"!\xfe\x01a\0" * 1000 + comments[start:])
    np.testing.assert_array_equal(read_image(noted), read_image(io.BytesIO(comments)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"])
def test_pillow_is_handed_no_notes(kind):
    exif = Image.Exif()
    exif[0x010E] = "canary"
    notes = {"comment": b"canary"} if kind in ("JPEG", "GIF") else {}
    notes |= {} if kind == "GIF" else {"exif": exif, "icc_profile": b"canary", "xmp": b"canary"}
    file = encoded(photo(), kind, **notes)
    assert b"canary" in file.getvalue()
    opened = Image.open(open_blocks(file, "a picture")[1].kept)
    opened.load()
    assert not {"exif", "comment", "icc_profile", "xmp", "XML:com.adobe.xmp"} & opened.info.keys() - (
        {"icc_profile", "xmp"} if kind == "AVIF" else set()  # AVIF's are at places that must not move
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_xmp_turns_a_picture_that_has_no_exif(kind):
    note = b'<x tiff:Orientation="6"/>'
    whole = encoded(photo(), kind, **({} if kind == "PNG" else {"xmp": note})).getvalue()
    if kind == "PNG":
        whole = whole[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + note) + whole[33:]
    assert read_image(io.BytesIO(whole)).shape == (40, 30, 3)


HEADS = {
    "profile of a PNG": b"\x89PNG\r\n\x1a\n" + png(64, 64)[8:33] + struct.pack(">I", 2**31 - 1) + b"iCCP",
    "text of a PNG": b"\x89PNG\r\n\x1a\n" + png(64, 64)[8:33] + struct.pack(">I", 10**9) + b"tEXt",
    "WebP": b"RIFF\xff\xff\xff\xbfWEBPVP8 \xf0\xff\xff\xbf",
    "GIF": encoded(photo(), "GIF").getvalue()[:13],
    "JPEG": encoded(photo(), "JPEG").getvalue()[:20],
    "TIFF": encoded(photo(), "TIFF").getvalue(),
    "AVIF": encoded(photo(), "AVIF", speed=10).getvalue(),
    "BMP": encoded(photo(), "BMP").getvalue(),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("megabytes", [60, 3_000])
def test_a_sparse_file_is_refused_at_once(tmp_path, name, megabytes):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.write(HEADS[name])
        file.truncate(megabytes * 10**6)
    start = time.thread_time()
    if megabytes == 3_000:
        with pytest.raises(ImageError, match=r"sparse\.png is a file of 3,000 MB, at most 200 MB were expected"):
            read_image(path, size=224)
        assert time.thread_time() - start < 0.1
    elif name in ("TIFF", "BMP", "AVIF"):  # that the picture is followed by nothing of use does not harm it
        assert read_image(path, size=224).shape == (224, 224, 3)
    else:
        assert reason(path) == "truncated"
    assert time.thread_time() - start < 1


def test_more_blocks_than_any_picture_has_are_refused(monkeypatch):
    many = png(64, 64, *[chunk(b"prVt", b"")] * 100)
    assert reason(io.BytesIO(many)) == "truncated"
    monkeypatch.setattr(image_blocks, "MAX_READS", 50)
    with pytest.raises(ImageError, match="cut short or damaged"):
        open_blocks(io.BytesIO(many), "a picture")


TIFFS = [(mode, kind) for mode in ("L", "P", "RGB", "RGBA", "CMYK") for kind in ("raw", "packbits", "tiff_lzw")]
TIFFS += [("1", "group4"), ("LA", "raw"), ("CMYK", "tiff_deflate")]


@pytest.mark.parametrize(("mode", "compression"), TIFFS)
def test_tiff_is_read_in_every_usual_form(mode, compression):
    picture = photo().quantize(256) if mode == "P" else photo().convert(mode)
    pixels = read_image(encoded(picture, "TIFF", compression=compression)).astype(int)
    wanted = read_image(picture)
    assert np.abs(pixels - wanted).mean() < 3


def test_a_camera_s_raw_file_is_no_picture_of_its_thumbnail():
    size = [(256, 4, 1, 64), (257, 4, 1, 64), (273, 4, 1, 8)]
    assert reason(io.BytesIO(tiff(*size, (50706, 1, 4, 1)))) == "unsupported_format"  # a DNG
    assert reason(io.BytesIO(tiff(*size, (254, 4, 1, 1)))) == "unsupported_format"
    assert reason(io.BytesIO(tiff(*size, (259, 3, 1, 34712)))) == "unsupported_format"  # JPEG 2000 within


def test_what_pillow_12_does_not_read_safely_is_refused():
    size = [(256, 4, 1, 64), (257, 4, 1, 64), (273, 4, 1, 8)]
    for entry in ((259, 3, 1, 7), (262, 3, 1, 6), (324, 4, 1, 8)):  # JPEG within, YCbCr, tiles
        assert reason(io.BytesIO(tiff(*size, entry))) == "unsupported_format"
    plain = encoded(photo(), "JPEG").getvalue()
    frame = plain[plain.index(b"\xff\xc0") :][:19]
    assert reason(io.BytesIO(plain[:2] + frame + plain[2:])) == "truncated"


def test_a_tiff_has_no_more_strips_than_cover_it():
    rows = [(256, 4, 1, 7_000), (257, 4, 1, 7_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (278, 4, 1, 6_999)]
    assert reason(io.BytesIO(tiff(*rows, (273, 4, 19_000, 8)) + bytes(10**6))) == "truncated"


def test_an_avif_of_many_items_is_refused_from_its_size():
    plain = encoded(photo(), "AVIF", speed=10).getvalue()
    start = int.from_bytes(plain[:4], "big")
    items = box(b"infe", b"\2\0\0\0\0\1\0\0av01\0") * 20_000
    many = plain[:start] + box(b"meta", plain[start + 8 : start + 300], items) + plain[start:]
    assert reason(io.BytesIO(many)) == "truncated"


def test_formats_whose_decoders_take_more_memory_have_a_lower_limit():
    avif = (
        encoded(photo(), "AVIF", speed=10)
        .getvalue()
        .replace(struct.pack(">II", 40, 30), struct.pack(">II", 6000, 5500))
    )
    webp = encoded(photo(), "WEBP", save_all=True, append_images=[photo().rotate(90)]).getvalue()
    webp = webp[:24] + struct.pack("<I", 5999)[:3] + struct.pack("<I", 3999)[:3] + webp[30:]
    for file, words in ((avif, "30 megapixels, the most that is read of AVIF"), (webp, "18 megapixels, .* of WebP")):
        with pytest.raises(ImageError, match=words):
            read_image(io.BytesIO(file))


def test_heic_is_read_where_its_library_is_installed():
    library = pytest.importorskip("pillow_heif", reason="needs pip install '.[heic]'")
    library.register_heif_opener()
    seen = read_image(encoded(photo().resize((400, 300)), "HEIF", quality=95))
    assert np.abs(seen.astype(int) - np.asarray(photo().resize((400, 300)))).mean() < 3


@pytest.mark.parametrize("side", [7_100, 10_000, 20_000, 60_000, 2**31 - 1])
@pytest.mark.parametrize("animation", [b"", ANIMATION], ids=["still", "animated"])
def test_a_bomb_is_refused_from_its_header(side, animation):
    resource = pytest.importorskip("resource")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert reason(io.BytesIO(png(side, side, animation))) == "too_large"
    assert time.perf_counter() - start < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB on Linux


def test_a_bomb_behind_a_harmless_header_is_refused():
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    assert reason(io.BytesIO(png(64, 64, ANIMATION, second))) == "too_large"


def test_other_formats_are_measured_too():
    file = encoded(photo(), "BMP").getbuffer()
    file[18:26] = struct.pack("<ii", 9_000, 9_000)
    assert reason(io.BytesIO(file)) == "too_large"


def test_a_picture_too_big_for_the_machine_is_refused(monkeypatch):
    def exhausted(self):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", exhausted)
    assert reason(np.zeros((9, 9), np.uint8)) == "too_large"


WARNING = """
import warnings
from captioning.data.images import read_image
from tests.data.test_image_containers import extended
try:
    read_image(extended(10_000, 12_000))
except Exception as error:
    print(error)
"""


def extended(width: int, height: int) -> io.BytesIO:
    """A GIF whose frame reaches over its canvas, which Pillow alone can tell."""
    data = bytearray(encoded(photo().convert("P"), "GIF").getvalue())
    start = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[start + 5 : start + 9] = struct.pack("<HH", width, height)
    return io.BytesIO(data)


def test_pillow_s_own_warning_of_bombs_never_appears():
    done = subprocess.run([sys.executable, "-W", "default", "-c", WARNING], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the picture has more than 50 megapixels")
    assert done.stderr == ""
