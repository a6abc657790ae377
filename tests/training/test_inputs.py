"""What a large data set takes up on the disk is told before anything of it is fetched."""

import shutil
from collections import namedtuple

import pytest

from captioning.errors import StorageError
from captioning.training.inputs import bytes_per_image, say_disk_need
from tests.training.test_settings import options_of

Usage = namedtuple("Usage", "total used free")


def need_of(tmp_path, capsys, *flags):
    say_disk_need(options_of(*flags, "--downloads", str(tmp_path / "data"), "--cache", str(tmp_path / "cache")))
    return capsys.readouterr().out


@pytest.fixture
def free(monkeypatch):
    """Says that a disk has so many free bytes."""
    return lambda count: monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(count, 0, count))


def test_the_need_of_coco_is_told_before_it_is_fetched(tmp_path, capsys, free):
    free(66 * 10**9)
    told = need_of(tmp_path, capsys, "--dataset", "coco")
    assert "123,287 images, 20.2 GB of archives to fetch and 20.2 GB to unpack" in told
    assert "24.7 GB of features" in told  # of ResNet50: 49 regions, 2,048 numbers each, in half precision


def test_pictures_that_are_there_are_not_counted(tmp_path, capsys):
    (tmp_path / "data" / "coco" / "train2017").mkdir(parents=True)
    told = need_of(tmp_path, capsys, "--dataset", "coco", "--encoder", "efficientnetv2b0")
    assert "0.8 GB of archives to fetch and 0.8 GB to unpack" in told
    assert "15.5 GB of features" in told


def test_a_disk_for_the_pictures_but_not_for_their_features_is_refused_at_once(tmp_path, capsys, free):
    free(50 * 10**9)
    with pytest.raises(StorageError, match=r"data/coco needs .* more and its disk has .* free"):
        need_of(tmp_path, capsys, "--dataset", "coco")
    assert list(tmp_path.iterdir()) == []


def test_of_flickr30k_the_features_are_told(tmp_path, capsys):
    told = need_of(tmp_path, capsys, "--dataset", "flickr30k", "--data", "mine")
    assert told.startswith("--dataset flickr30k: 31,014 images, 6.2 GB of features in ")


@pytest.mark.parametrize("flags", [["--data", "mine", "--dataset", "coco"], ["--dataset", "scenes"], []])
def test_of_other_data_nothing_is_told(tmp_path, capsys, flags):
    assert need_of(tmp_path, capsys, *flags) == ""


GRID, PIXELS = 49 * 2048 * 2, 224 * 224 * 3


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], GRID),
        (["--views", "4"], 4 * GRID),
        (["--fine-tune-epochs", "1", "--reinforce-epochs", "0"], GRID + PIXELS),
        (["--fine-tune-epochs", "1"], 2 * GRID + PIXELS),  # those of the encoder before and after
        (["--image-size", "300"], 100 * 2048 * 2),
        (["--encoder", "tiny", "--views", "2"], 2 * 132 * 132 * 3),
    ],
)
def test_the_bytes_of_an_image_follow_from_the_options(flags, expected):
    assert bytes_per_image(options_of(*flags)) == expected
