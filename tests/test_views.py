"""Every look at a picture is of its size, follows from image and number alone, and shows something else."""

import numpy as np

from captioning.views import view

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), "uint8")
DIGESTS = ("0123456789abcdef", "fedcba9876543210")


def test_the_first_is_the_picture_and_the_second_its_mirror_image():
    np.testing.assert_array_equal(view(PIXELS, DIGESTS[0], 0), PIXELS)
    np.testing.assert_array_equal(view(PIXELS, DIGESTS[0], 1), PIXELS[:, ::-1])


def test_the_same_image_and_number_give_the_same_view():
    for number in range(6):
        np.testing.assert_array_equal(view(PIXELS, DIGESTS[0], number), view(PIXELS, DIGESTS[0], number))


def test_no_two_views_are_alike():
    looks = [view(PIXELS, digest, number) for digest in DIGESTS for number in range(2, 8)]
    looks += [view(PIXELS, DIGESTS[0], number) for number in (0, 1)]
    assert {(look.shape, look.dtype.name) for look in looks} == {(PIXELS.shape, "uint8")}
    assert len({look.tobytes() for look in looks}) == len(looks)


def test_a_crop_shows_most_of_the_picture():
    ramp = np.repeat(np.linspace(0, 255, 64)[None, :, None], 64, axis=0).repeat(3, axis=2).astype("uint8")
    for number in range(2, 12):
        seen = view(ramp, DIGESTS[1], number)[32, :, 0].astype(int)
        assert abs(seen[-1] - seen[0]) > 0.65 * 255
        assert (seen[-1] < seen[0]) == bool(number % 2)  # odd ones are mirrored
