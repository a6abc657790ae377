"""The catalogue tells damage and likeness apart, and reads a file only once."""

import os

import numpy as np
import pytest
from PIL import Image

from captioning import catalogue as room
from captioning.catalogue import CACHE_FILE, catalogue, fingerprint
from captioning.errors import StorageError
from captioning.images import read_image


def picture(seed: int) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(cells).resize((120, 90), Image.Resampling.BICUBIC)


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in range(4)]
    for seed, path in enumerate(paths):
        picture(seed).save(path)
    return paths


@pytest.fixture
def looks(monkeypatch):
    """The files that are really read, in a list."""
    seen, look = [], room._look
    monkeypatch.setattr(room, "_look", lambda image: (seen.append(image.name), look(image))[1])
    return seen


def test_facts_are_those_of_each_file(images, tmp_path):
    facts = catalogue(images, progress=False)
    assert list(facts) == images
    assert len({fact.sha256 for fact in facts.values()}) == len({fact.fingerprint for fact in facts.values()}) == 4
    assert not any(fact.error for fact in facts.values())
    assert catalogue([], tmp_path, progress=False) == {}


def test_damage_is_told_and_costs_nothing_else(images, tmp_path):
    images[1].write_bytes(images[1].read_bytes()[:900])
    images[2].write_text("no picture")
    absent = tmp_path / "absent.png"
    facts = catalogue([*images, absent], tmp_path / "cache", progress=False)
    assert [bool(facts[image].error) for image in [*images, absent]] == [False, True, True, False, True]
    assert "cut short" in facts[images[1]].error
    assert "opened" in facts[absent].error


def test_likeness_survives_scaling_and_compression(tmp_path):
    near = 0
    for seed in range(20):
        picture(seed).save(tmp_path / "whole.png")
        picture(seed).resize((60, 45)).save(tmp_path / "copy.jpg", quality=60)
        whole, copy = (fingerprint(read_image(tmp_path / name, size=72)) for name in ("whole.png", "copy.jpg"))
        other = fingerprint(read_image(picture(seed + 100), size=72))
        near += (whole ^ copy).bit_count() <= 3
        assert (whole ^ other).bit_count() > 10
    assert near >= 18


def test_the_second_run_reads_nothing(images, tmp_path, looks):
    first = catalogue(images, tmp_path / "cache", progress=False)
    assert len(looks) == 4
    assert catalogue(images, tmp_path / "cache", progress=False) == first
    assert len(looks) == 4


def test_only_a_changed_file_is_read_again(images, tmp_path, looks):
    before = catalogue(images, tmp_path / "cache", progress=False)
    looks.clear()
    picture(9).save(images[2])
    os.utime(images[2], ns=(1, 1))
    after = catalogue(images, tmp_path / "cache", progress=False)
    assert looks == ["2.png"]
    assert after[images[2]] != before[images[2]]


@pytest.mark.parametrize("cut", [1, 2, 30, 150])
def test_a_line_cut_off_costs_only_itself(images, tmp_path, looks, cut):
    facts = catalogue(images, tmp_path, progress=False)
    file = tmp_path / CACHE_FILE
    file.write_bytes(file.read_bytes()[:-cut])
    looks.clear()
    assert catalogue(images, tmp_path, progress=False) == facts
    assert looks == ([] if cut == 1 else ["3.png"])
    assert catalogue(images, tmp_path, progress=False) == facts
    assert len(looks) <= 1


@pytest.mark.parametrize(
    "line", ["nonsense", "[1]", "{}", "null", '["a", 1, 2, "b", 3, "", "more"]', '[[], 1, 2, "b", 3, ""]']
)
def test_foreign_lines_are_passed_over(images, tmp_path, looks, line):
    (tmp_path / CACHE_FILE).write_text(line + "\n")
    assert len(catalogue(images, tmp_path, progress=False)) == len(looks) == 4


def test_a_file_that_could_not_be_opened_is_tried_again(tmp_path):
    path = tmp_path / "late.png"
    assert catalogue([path], tmp_path, progress=False)[path].error
    picture(0).save(path)
    assert not catalogue([path], tmp_path, progress=False)[path].error


def test_a_file_once_forbidden_is_tried_again(images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(room.hashlib, "file_digest", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Denied")))
        assert "Denied" in catalogue(images, tmp_path, progress=False)[images[0]].error
    assert not catalogue(images, tmp_path, progress=False)[images[0]].error


def test_a_cache_that_cannot_be_written_is_told(images, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cache"):
        catalogue(images, tmp_path / "cache" / "deeper", progress=False)
