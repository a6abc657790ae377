"""However many images there are, their features stream through: what is held of each is its name."""

import tracemalloc

import numpy as np

from captioning.encoders import features
from captioning.encoders.features import read_features

ROW = 16 * 512 * 2  # bytes of a grid
HELD = 1_500  # bytes of an image that may stay: its path, its hash and its place in the cache
COUNTS = (2_000, 8_000)


class Encoder:
    """Grids of zeros."""

    output_shape = (None, 16, 512)

    def predict_on_batch(self, pixels):
        return np.zeros((len(pixels), 16, 512), "float32")


def peak_of(folder, count):
    """The most bytes that are held while the features of so many images are read, and how many of them are there."""
    tracemalloc.start()
    try:
        images = {folder / f"{number}.jpg": f"{number:064x}" for number in range(count)}
        found = read_features(images, folder / "cache", image_size=16, encoder=Encoder())
        return tracemalloc.get_traced_memory()[1], len(found.array)
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_features_of_more_images(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "view", lambda image, size, *_: np.zeros((size, size, 3), "uint8"))
    (few, first), (many, second) = (peak_of(tmp_path / str(count), count) for count in COUNTS)
    assert (first, second) == COUNTS
    each = (many - few) / (COUNTS[1] - COUNTS[0])
    assert each < HELD < ROW / 10, f"{each:.0f} bytes of each image"
