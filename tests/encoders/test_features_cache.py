"""The cache gives what the encoder gave, whatever happened to it."""

import errno
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.data.images import read_image
from captioning.encoders import features
from captioning.encoders.features import read_features
from captioning.encoders.registry import build_encoder
from captioning.errors import ImageError, StorageError
from captioning.runtime import files


class CountingEncoder:
    """An encoder that remembers what it was shown: pictures of 8 x 8 pixels, told apart by their first one."""

    output_shape = (None, 4, 6)
    factor = 0.01

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()
        self.seen: list[int] = []

    def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
        self.shapes.add(pixels.shape)
        self.seen += dict.fromkeys(pixels[:, 0, 0, 0].tolist())
        return pixels.reshape(len(pixels), 4, 48)[..., :6] * np.float32(self.factor)


class Blind(CountingEncoder):
    """An encoder that must not be asked."""

    def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
        raise AssertionError("all is in the cache")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(features, "BATCH", 2)


@pytest.fixture
def images(tmp_path):
    """Five pictures: their files, and hashes of those."""
    rng = np.random.default_rng(0)
    return dict(draw(tmp_path / f"{number}.png", rng.integers(0, 256, (8, 8, 3))) for number in range(5))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def fresh(images, cache):
    """The grids of all of them, which are in the cache now."""
    return read(images, cache)


@pytest.fixture
def encoder():
    return CountingEncoder()


def draw(path: Path, pixels: np.ndarray) -> tuple[Path, str]:
    Image.fromarray(pixels.astype("uint8")).save(path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def first_pixels(images: dict[Path, str]) -> list[int]:
    return [int(read_image(image)[0, 0, 0]) for image in images]


def read(images: dict[Path, str], folder: Path, encoder: CountingEncoder | None = None) -> dict[str, np.ndarray]:
    found = read_features(images, folder, image_size=8, encoder=encoder or CountingEncoder())
    return {image.name: np.array(found.array[row]) for image, row in found.rows.items()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, grid in wanted.items():
        np.testing.assert_array_equal(found[name], grid)


def test_grids_are_what_the_encoder_gives(images, cache, encoder):
    found = read(images, cache, encoder)
    for image in images:
        wanted = CountingEncoder().predict_on_batch(read_image(image, size=8)[None])[0]
        np.testing.assert_array_equal(found[image.name], wanted.astype("float16"))
    assert encoder.seen == first_pixels(images)
    assert encoder.shapes == {(2, 8, 8, 3)}


def test_a_real_encoder_gives_in_batches_what_it_gives_alone(images, cache):
    encoder = build_encoder("tiny", image_size=32)
    found = read_features(images, cache, image_size=32, encoder=encoder)
    for image in images:
        alone = np.asarray(encoder(read_image(image, size=32)[None].astype("float32")))[0]
        np.testing.assert_allclose(found.array[found.rows[image]], alone, rtol=2e-3, atol=1e-3)


def test_without_an_encoder_there_are_pixels(images, cache):
    found = read_features(images, cache, image_size=16)
    assert found.array.dtype == "uint8"
    for image in images:
        np.testing.assert_array_equal(found.array[found.rows[image]], read_image(image, size=16))


def test_grids_are_small_and_stay_on_the_disk(images, cache):
    array = read_features(images, cache, image_size=8, encoder=CountingEncoder()).array
    assert isinstance(array, np.memmap)
    assert (array.dtype, array.shape) == ("float16", (5, 4, 6))
    assert (cache / "rows.bin").stat().st_size == 5 * 4 * 6 * 2


def test_what_was_seen_is_not_looked_at_again(images, cache, fresh, encoder):
    assert_same(read(images, cache, encoder), fresh)
    assert encoder.seen == []


def test_only_what_is_new_is_looked_at(images, cache, tmp_path, encoder):
    few = dict(list(images.items())[:4])
    read(few, cache)
    found = read(images, cache, encoder)
    assert encoder.seen == first_pixels(images)[4:]
    assert_same(found, read(images, tmp_path / "another"))


def test_the_order_of_the_images_is_no_matter(images, cache, tmp_path, fresh, encoder):
    backwards = dict(reversed(images.items()))
    assert_same(dict(reversed(read(backwards, cache, encoder).items())), fresh)
    assert encoder.seen == []
    assert_same(read(backwards, tmp_path / "another", encoder), fresh)


def test_an_image_that_changed_is_looked_at_again(images, cache, fresh, encoder):
    path, digest = draw(next(iter(images)), np.full((8, 8, 3), 77))
    found = read(images | {path: digest}, cache, encoder)
    assert encoder.seen == [77]
    assert (found[path.name] == np.float16(0.77)).all()
    assert_same({**found, path.name: fresh[path.name]}, fresh)


def test_copies_share_a_row(images, cache, encoder):
    path, digest = next(iter(images.items()))
    copy = path.with_name("copy.png")
    copy.write_bytes(path.read_bytes())
    found = read_features({path: digest, copy: digest}, cache, image_size=8, encoder=encoder)
    assert found.rows[path] == found.rows[copy] == 0
    assert len(encoder.seen) == 1


def test_no_images_have_no_grids(cache):
    found = read_features({}, cache, image_size=8, encoder=CountingEncoder())
    assert found.array.shape == (0, 4, 6)


def cut(name: str, byte_count: int):
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - byte_count)


def grow(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + data)


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (cut("rows.bin", 3), 1),
        (cut("rows.bin", 4 * 6 * 2), 1),
        (cut("rows.bin", 4 * 6 * 2 + 1), 2),
        (cut("index.txt", 1), 1),
        (cut("index.txt", 65), 1),
        (cut("index.txt", 70), 2),
        (grow("rows.bin", b"half a row"), 0),
        (grow("rows.bin", bytes(100)), 0),
        (grow("index.txt", b"abc"), 0),
        (grow("index.txt", b"abc\n"), 0),
        (lambda folder: (folder / "rows.bin").unlink(), 5),
        (lambda folder: (folder / "index.txt").unlink(), 5),
    ],
)
def test_what_a_kill_left_half_done_is_done_again(images, cache, tmp_path, fresh, encoder, damage, lost):
    damage(cache)
    assert_same(read(images, cache, encoder), fresh)
    assert encoder.seen == first_pixels(images)[5 - lost :]
    path, digest = draw(tmp_path / "later.png", np.full((8, 8, 3), 77))
    assert_same(read(images | {path: digest}, cache, encoder), fresh | {path.name: np.full((4, 6), 0.77, "float16")})


def test_a_picture_that_cannot_be_read_keeps_the_others(images, cache, tmp_path, encoder):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    with pytest.raises(ImageError, match=r"broken\.png is empty"):
        read(images | {broken: "0" * 64}, cache)
    assert len(read(images, cache, encoder)) == 5
    assert len(encoder.seen) <= 1


@pytest.mark.parametrize("name", ["rows.bin", "index.txt"])
def test_a_full_disk_is_told_and_repaired(images, cache, tmp_path, monkeypatch, name):
    def full(path, mode):
        if Path(path).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open(path, mode)

    few = dict(list(images.items())[:3])
    read(few, cache)
    monkeypatch.setattr(features, "open", full, raising=False)
    with pytest.raises(StorageError, match="the disk is full"):
        read(images, cache)
    monkeypatch.undo()
    assert_same(read(images, cache), read(images, tmp_path / "another"))


def test_features_that_are_not_numbers_are_refused(images, cache, encoder):
    encoder.factor = np.nan
    with pytest.raises(StorageError, match="NaN or infinite features; check the file of --encoder-weights"):
        read(images, cache, encoder)


def test_features_too_large_for_float16_are_the_largest(images, cache, encoder):
    encoder.factor = 1e9
    found = read(images, cache, encoder)
    assert max(grid.max() for grid in found.values()) == 65504


def test_a_disk_too_small_is_told_before_anything_is_looked_at(images, cache, encoder, monkeypatch):
    monkeypatch.setattr(files, "_free", lambda path: 100)
    with pytest.raises(StorageError, match=r"needs .* --cache FOLDER"):
        read(images, cache, encoder)
    assert not encoder.seen


def test_other_views_are_looked_at_once_and_only_of_those_asked_for(images, cache, encoder):
    first = next(iter(images))
    found = read_features(images, cache, image_size=8, encoder=encoder, views={first: (1, 2)})
    assert {image: len(rows) for image, rows in found.views.items()} == {first: 2}
    mirrored = read_image(first)[:, ::-1].reshape(4, 48)[:, :6] * np.float32(encoder.factor)
    np.testing.assert_allclose(found.array[found.views[first][0]], mirrored, rtol=1e-3)
    assert read_features(images, cache, image_size=8, encoder=Blind(), views={first: (1, 2)}).views == found.views
    assert read(images, cache, Blind()).keys() == {image.name for image in images}


def test_programs_at_the_same_time_get_the_right_grids_and_work_once(images, cache, fresh, tmp_path, capsys):
    class Slow(CountingEncoder):
        def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
            time.sleep(0.02)  # so that the others come in between
            return super().predict_on_batch(pixels)

    pairs = list(images.items())
    orders = [dict(pairs[first:] + pairs[:first]) for first in range(4)]
    encoders = [Slow() for _ in orders]
    with ThreadPoolExecutor(len(orders)) as pool:  # a lock is that of an open file: threads are like programs
        found = list(pool.map(lambda order, encoder: read(order, tmp_path / "new", encoder), orders, encoders))
    for each in found:
        assert_same(each, fresh)
    assert_same(read(images, tmp_path / "new", Blind()), fresh)
    assert sum(len(encoder.seen) for encoder in encoders) == len(images)
    assert "Another program writes to" in capsys.readouterr().out
