"""The preview of a camera's raw file is read, upright; a raw file without one is refused in a sentence."""

import shutil
import subprocess
import time

import numpy as np
import pytest

from captioning.data.dataset import find_images
from captioning.data.images import read_image
from captioning.errors import CaptioningError, ImageError
from captioning.inference.metadata import picture
from captioning.inference.metadata.splices import source_of
from tests.data import raw_files
from tests.data.raw_files import RAW, SMALL

EXIFTOOL = shutil.which("exiftool")


@pytest.mark.parametrize("name", RAW)
def test_the_preview_is_read(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(RAW[name]())
    pixels = read_image(path)
    assert pixels.shape == (*(raw_files.LARGE if name == "a.nef" else SMALL)[::-1], 3)
    assert abs(pixels[100, 100].astype(int) - (0, 128, 0)).max() < 6
    assert read_image(path, size=64)[30, 60].min() > 250


@pytest.mark.skipif(not EXIFTOOL, reason="ExifTool is not installed")
@pytest.mark.parametrize("name", RAW)
def test_exiftool_finds_the_same_preview(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(RAW[name]())
    found = subprocess.run([EXIFTOOL, "-b", "-PreviewImage", "-JpgFromRaw", path], capture_output=True).stdout
    wanted = raw_files.jpeg(raw_files.LARGE if name == "a.nef" else SMALL)
    assert found.startswith(wanted[:2])
    assert wanted[-5000:] in found


@pytest.mark.parametrize("name", ["a.nef", "a.cr2", "a.raf", "a.cr3"])
def test_a_picture_held_upright_is_upright(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(RAW[name](orientation=6))
    pixels = read_image(path, longest=300)
    assert pixels.shape == (300, 200, 3)
    assert pixels[20, 100, 0] < 20, "the left half is the upper one"
    assert pixels[280, 100].min() > 240


def test_the_smallest_preview_that_is_large_enough_is_taken(tmp_path):
    path = tmp_path / "a.arw"
    path.write_bytes(RAW["a.arw"]())
    assert read_image(path).shape[:2] == SMALL[::-1]


@pytest.mark.parametrize("name", RAW)
def test_one_without_a_preview_is_refused_with_advice(name, tmp_path, monkeypatch):
    monkeypatch.setattr(raw_files, "SMALL", (200, 150))
    monkeypatch.setattr(raw_files, "LARGE", (210, 150))
    path = tmp_path / name
    path.write_bytes(RAW[name]())
    with pytest.raises(ImageError, match=r"raw file without a preview.*; export it as JPEG") as refused:
        read_image(path)
    assert refused.value.reason == "unsupported_format"


@pytest.mark.parametrize("name", RAW)
def test_damage_is_refused_and_takes_no_time(name, tmp_path):
    whole, rng = RAW[name](), np.random.default_rng(0)
    path = tmp_path / name
    began = time.process_time()
    for number in range(24):
        data = bytearray(whole)
        for place in rng.integers(0, 700, 6):
            data[place] = rng.integers(256)
        path.write_bytes(data[: rng.integers(4, len(data))] if number % 3 == 0 else data)
        try:
            read_image(path, size=32)
        except ImageError as error:
            assert str(error).startswith(name)  # noqa: PT017
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", RAW)
def test_metadata_never_goes_into_one(name):
    data = RAW[name]()
    with pytest.raises(CaptioningError, match=r"raw file|no JPEG"):
        picture.splices(source_of(data), {"description": "a dog"})


def test_folders_list_them(tmp_path):
    for name in ("a.CR2", "b.dng", "c.jpg", "d.txt", "e.xmp"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.CR2", "b.dng", "c.jpg"]
