"""The loader gives the right pixels for every kind of picture it accepts, and a reason code for everything else."""

import io
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from captioning.data import images
from captioning.data.images import read_image
from captioning.errors import ImageError

WIDTH, HEIGHT = 40, 30
PEAK = """
import re, sys
from pathlib import Path
from captioning.data.images import read_image
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
print(read_image(sys.argv[1], size=224).min(), peak() - before)
"""
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def photo() -> Image.Image:
    """A smooth RGB picture without symmetry, never quite black or white."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return Image.fromarray(np.stack([30 + 180 * x, 40 + 150 * y, 60 + 100 * x * y], axis=-1).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return file


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


ANIMATION = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
    b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 1, 1, 0)
)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def reason(source) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source)
    assert str(caught.value).endswith(".")
    return caught.value.reason


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_every_format_gives_the_picture(kind):
    pixels = read_image(encoded(photo(), kind))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(photo())).mean() < 6


def test_all_sources_agree(tmp_path):
    path = tmp_path / "photo.wrong_suffix"
    path.write_bytes(encoded(photo(), "PNG").getvalue())
    array = np.asarray(photo())
    for source in (path, str(path), encoded(photo(), "PNG"), photo(), array, (array / 255).astype(np.float32)):
        np.testing.assert_array_equal(read_image(source, size=16), read_image(array, size=16))


def test_a_stream_that_cannot_seek_is_read():
    class Socket(io.BytesIO):
        def seekable(self):
            return False

    np.testing.assert_array_equal(read_image(Socket(encoded(photo(), "PNG").getvalue())), np.asarray(photo()))


def test_size_squashes_the_whole_picture():
    halves = np.zeros((20, 60, 3), np.uint8)
    halves[:, 30:] = 250
    small = read_image(halves, size=10)
    assert small.shape == (10, 10, 3)
    assert small[:, :4].max() < 5 < 245 < small[:, 6:].min()


def test_fast_decoding_of_a_big_photograph_hardly_changes_it():
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    big = encoded(Image.fromarray(noise).resize((2000, 1500), Image.Resampling.BICUBIC), "JPEG", quality=95)
    slow = Image.open(big).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    assert np.abs(read_image(big, size=224).astype(int) - np.asarray(slow)).mean() < 1


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation, kind, size):
    stored = photo().transpose(STORED_AS[orientation]) if orientation > 1 else photo()
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    pixels = read_image(encoded(stored, kind, exif=exif, **lossless.get(kind, {})), size=size)
    difference = np.abs(pixels.astype(int) - read_image(photo(), size=size))
    assert difference.max() <= (12 if kind in ("JPEG", "AVIF") else 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_broken_exif_note_does_not_cost_the_picture(kind):
    file = encoded(photo(), kind, exif=b"Exif\0\0nonsense")
    assert read_image(file).shape == (HEIGHT, WIDTH, 3)


def grey16() -> Image.Image:
    return Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 256 + 77)


@pytest.mark.parametrize(
    "file",
    [
        encoded(photo().convert("L"), "PNG"),
        encoded(photo().convert("L"), "JPEG"),
        encoded(photo().convert("LA"), "PNG"),
        encoded(grey16(), "PNG"),
        encoded(grey16(), "TIFF"),
        encoded(Image.fromarray(np.asarray(photo().convert("L")).astype(np.float32)), "TIFF"),
        Image.fromarray(np.asarray(photo().convert("L")).astype(np.int32)),
        Image.fromarray(np.asarray(photo().convert("L")).astype(np.int32) * 257),
        Image.fromarray(np.asarray(photo().convert("L")).astype(np.float32)),
        Image.fromarray(np.asarray(photo().convert("L")).astype(np.float32) / 255),
        np.asarray(photo().convert("L")),
    ],
    ids=[
        "L",
        "L-jpeg",
        "LA",
        "16-bit",
        "16-bit-tiff",
        "float-tiff",
        "int32",
        "int32-wide",
        "float",
        "float-unit",
        "array",
    ],
)
def test_grey_in_any_depth_keeps_its_brightness(file):
    pixels = read_image(file).astype(int)
    assert np.abs(pixels - np.asarray(photo().convert("L"))[..., None]).max() <= 4


@pytest.mark.parametrize("mode", ["P", "CMYK", "RGBA"])
def test_coloured_modes_keep_their_colours(mode):
    picture = photo().quantize(256) if mode == "P" else photo().convert(mode)
    assert picture.mode == mode
    file = encoded(picture, "JPEG" if mode == "CMYK" else "PNG")
    assert np.abs(read_image(file).astype(int) - np.asarray(photo())).mean() < 8


def test_one_bit_pictures_are_black_and_white():
    bits = Image.fromarray(np.asarray(photo())[..., 0] > 120)
    assert bits.mode == "1"
    np.testing.assert_array_equal(read_image(encoded(bits, "PNG"))[..., 1], np.asarray(bits) * 255)


def test_transparency_is_shown_on_white():
    clear = photo().convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    half = photo().convert("RGBA")
    half.putalpha(128)
    palette = photo().convert("P")
    hidden = palette.getpixel((0, 0))
    assert read_image(encoded(clear, "PNG")).min() == 255
    assert read_image(encoded(clear, "PNG"), size=8).min() == 255
    assert np.abs(read_image(np.asarray(half)).astype(int) - (np.asarray(photo()) // 2 + 127)).max() <= 2
    assert read_image(encoded(palette, "PNG", transparency=hidden))[0, 0].tolist() == [255, 255, 255]
    assert read_image(encoded(photo(), "PNG", transparency=photo().getpixel((0, 0))))[0, 0].tolist() == [255, 255, 255]


def test_colours_by_number_without_their_table():
    data = encoded(photo().convert("P"), "PNG").getvalue().replace(b"PLTE", b"pLTE")
    assert reason(io.BytesIO(data)) == "truncated"


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("side", [41, 230])
def test_white_comes_first_and_strips_leave_no_trace(monkeypatch, mode, side):
    picture = grey16() if mode == "I;16" else photo().convert(mode)
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size).point(lambda level: level * (level > 90)))
    picture = picture.resize((side, side + 30), Image.Resampling.NEAREST)
    picture.info = {"transparency": 7} if mode == "P" else {}
    seen = read_image(picture)
    for size in (8, 50):
        wanted = Image.fromarray(seen).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
        for strip in (1, 2_000, 10**6):
            monkeypatch.setattr("captioning.data.images.STRIP", strip)
            np.testing.assert_array_equal(read_image(picture), seen)
            np.testing.assert_array_equal(read_image(picture, size=size), wanted)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak of memory there")
@pytest.mark.parametrize(("kind", "depth"), [(3, 1), (4, 4), (6, 4)], ids=["P", "LA", "RGBA"])
def test_a_huge_transparent_picture_is_in_the_memory_once(tmp_path, kind, depth):
    row = bytes(1 + 4000 * {3: 1, 4: 2, 6: 4}[kind])
    packer, header = zlib.compressobj(1), struct.pack(">IIBBBBB", 4000, 4000, 8, kind, 0, 0, 0)
    body = b"".join(packer.compress(row) for _ in range(4000)) + packer.flush()
    palette = chunk(b"PLTE", b"\0\0\0") + chunk(b"tRNS", b"\0") if kind == 3 else b""
    chunks = chunk(b"IHDR", header) + palette + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    command, root = [sys.executable, "-c", PEAK, path], Path(images.__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    white, kilobytes = map(int, done.stdout.split())
    assert white == 255
    assert kilobytes < 4000 * 4000 * depth / 1024 + 40_000


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(read_image(file).astype(int) - [255, 0, 0]).max() < 5


def test_the_longer_side_can_be_bounded():
    exif = Image.Exif()
    exif[0x0112] = 6
    large = encoded(photo().resize((800, 600)), "JPEG", exif=exif, quality=95)
    seen = read_image(large, longest=100)
    assert seen.shape == (100, 75, 3)
    assert np.abs(seen.astype(int) - np.asarray(photo().rotate(-90, expand=True).resize((75, 100)))).mean() < 3
    assert read_image(photo(), longest=100).shape == (HEIGHT, WIDTH, 3)


def test_pixels_of_the_right_size_are_not_read_again(monkeypatch):
    pixels = read_image(photo(), size=16)
    monkeypatch.delattr("captioning.data.images._pixels")
    assert read_image(pixels, size=16) is pixels


def test_the_callers_picture_is_not_changed():
    opened = Image.open(encoded(photo().resize((800, 600)), "JPEG"))
    read_image(opened, size=16)
    assert opened.size == (800, 600)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", "empty"),
        (b"name,caption\n" * 9, "not_an_image"),
        (b"\0" * 500, "not_an_image"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "unsupported_format"),
        (b"\0\0\0\x18ftypavif" + bytes(99), "truncated"),
        (b"\0\0\0\x18ftypmp42" + bytes(99), "unsupported_format"),
        (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"%PDF-1.7\n", "unsupported_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unsupported_format"),
        (b"II+\0" + bytes(99), "unsupported_format"),
        (encoded(photo(), "ICO").getvalue(), "unsupported_format"),
        (encoded(photo(), "JPEG").getvalue()[:15], "truncated"),
        (encoded(photo(), "PNG").getvalue()[:20], "truncated"),
    ],
)
def test_what_is_no_readable_picture_is_refused_with_its_reason(head, expected):
    assert reason(io.BytesIO(head)) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_half_a_picture_is_refused(kind, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole = encoded(noise, kind).getvalue()
    assert reason(io.BytesIO(whole[: int(share * len(whole))])) == "truncated"
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_refusal_names_the_file_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(ImageError, match=r"phone\.heic is HEIC, .*pip install '\.\[heic\]', or export it as JPEG"):
        read_image(tmp_path / "phone.heic")


def test_files_that_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert reason(tmp_path / "absent.jpg") == "missing"
    assert reason(tmp_path / "nul\0.jpg") == "missing"
    assert reason(tmp_path / ("long" * 100)) == "missing"
    assert reason(tmp_path) == "unreadable"
    assert reason(tmp_path / "pipe") == "unreadable"


def test_a_forbidden_file_is_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    photo().save(path)

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", forbidden)
    assert reason(path) == "unreadable"


@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (200, 7), (8, 161), (161, 8)])
def test_slivers_are_refused(shape):
    assert reason(np.zeros(shape, np.uint8)) == "extreme_shape"
    assert read_image(np.zeros((8, 160), np.uint8)).shape == (8, 160, 3)


@pytest.mark.parametrize(
    "array", [np.zeros((9, 9, 2), np.uint8), np.zeros(9, np.uint8), np.zeros((9, 9), np.int64), np.full((9, 9), 200.0)]
)
def test_arrays_that_are_no_pictures_are_refused(array):
    assert reason(array) == "not_an_image"


def test_an_empty_array_is_refused():
    assert reason(np.zeros((0, 9, 3), np.uint8)) == "empty"


def with_valid_checksums(data: bytearray) -> bytearray:
    """So that altered PNG chunks reach their readers."""
    start = 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        start = end + 4
    return data


def mutated(data: bytes, dice: random.Random) -> bytearray:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        place = int(dice.random() ** 2 * len(changed))  # headers more often than pixels
        changed[place] = dice.choice((0, 255, dice.randrange(256), changed[place] ^ 1 << dice.randrange(8)))
    if dice.random() < 0.15:
        del changed[dice.randrange(len(changed)) :]
    return with_valid_checksums(changed) if dice.random() < 0.7 and data.startswith(b"\x89PNG") else changed


def originals() -> list[bytes]:
    """A file of every kind that is read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [photo().rotate(90)]}
    return [
        *(encoded(photo(), kind, exif=exif).getvalue() for kind in ("JPEG", "PNG", "WEBP")),
        *(encoded(photo(), kind, **frames).getvalue() for kind in ("GIF", "PNG", "WEBP", "MPO")),
        *(encoded(photo().convert("P"), kind).getvalue() for kind in ("GIF", "BMP")),
        encoded(photo().convert("P"), "PNG", transparency=3).getvalue(),
        encoded(photo().convert("CMYK"), "JPEG").getvalue(),
        encoded(photo().convert("RGBA"), "WEBP", lossless=True).getvalue(),
        *(encoded(photo(), "TIFF", compression=kind, exif=exif).getvalue() for kind in ("raw", "jpeg", "tiff_lzw")),
        encoded(photo(), "AVIF", exif=exif, speed=10).getvalue(),
        encoded(grey16(), "PNG").getvalue(),
    ]


@pytest.mark.filterwarnings("ignore")
def test_hostile_bytes_raise_nothing_but_image_error():
    dice, reasons, accepted, sources = random.Random(0), set(), 0, originals()
    deadline = time.perf_counter() + 2
    while time.perf_counter() < deadline:
        try:
            read_image(io.BytesIO(mutated(dice.choice(sources), dice)), size=16)
            accepted += 1
        except ImageError as error:
            reasons.add(error.reason)
    assert accepted
    assert {"truncated", "not_an_image"} <= reasons
