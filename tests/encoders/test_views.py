"""Every look at a picture is of one size, follows from image and number alone, and shows something else."""

import numpy as np
import pytest
from PIL import Image

from captioning.data.images import read_image
from captioning.encoders.views import SMALLEST, view

SIDE = 32
DIGESTS = ("0123456789abcdef", "fedcba9876543210")
NUMBERS = range(8)


@pytest.fixture
def picture(tmp_path):
    """Noise, wider than high, much larger than any look."""
    file = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), "uint8")).save(file)
    return file


def test_the_first_is_the_picture_and_the_second_its_mirror_image(picture):
    np.testing.assert_array_equal(view(picture, SIDE, DIGESTS[0], 0), read_image(picture, size=SIDE))
    np.testing.assert_array_equal(view(picture, SIDE, DIGESTS[0], 1), read_image(picture, size=SIDE)[:, ::-1])


def test_the_same_image_and_number_give_the_same_view(picture):
    for number in NUMBERS:
        np.testing.assert_array_equal(*(view(picture, SIDE, DIGESTS[0], number) for _ in range(2)))


def test_no_two_views_are_alike(picture):
    looks = [view(picture, SIDE, digest, number) for digest in DIGESTS for number in NUMBERS if number not in (0, 1)]
    looks += [view(picture, SIDE, DIGESTS[0], number) for number in (0, 1)]
    assert {(look.shape, look.dtype.name) for look in looks} == {((SIDE, SIDE, 3), "uint8")}
    assert len({look.tobytes() for look in looks}) == len(looks)


def test_a_crop_shows_most_of_the_picture(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 256)[None, :, None], 256, axis=0).repeat(3, axis=2).astype("uint8")
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    for number in set(NUMBERS) - {0, 1}:
        seen = view(tmp_path / "ramp.png", SIDE, DIGESTS[1], number)[SIDE // 2, :, 0].astype(int)
        assert (seen[-1] < seen[0]) == bool(number % 2)  # odd ones are mirrored
        assert abs(seen[-1] - seen[0]) / 255 > 0.9 * SMALLEST
