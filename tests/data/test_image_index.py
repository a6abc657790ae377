"""The catalogue tells damage and copies, and reads a file only once."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from captioning.data import image_index
from captioning.data.image_index import CACHE_FILE, DuplicateFinder, ImageFacts, cells_of, index_images
from captioning.data.images import read_image
from captioning.data.scenes.dataset import draw_scene
from captioning.errors import StorageError


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
    seen, look = [], image_index._look
    monkeypatch.setattr(image_index, "_look", lambda image: (seen.append(image.name), look(image))[1])
    return seen


def test_facts_are_those_of_each_file(images, tmp_path):
    facts = index_images(images, progress=False)
    assert list(facts) == images
    assert len({fact.sha256 for fact in facts.values()}) == len({fact.cells for fact in facts.values()}) == 4
    assert not any(fact.error for fact in facts.values())
    assert index_images([], tmp_path, progress=False) == {}


def test_damage_is_told_and_costs_nothing_else(images, tmp_path):
    images[1].write_bytes(images[1].read_bytes()[:900])
    images[2].write_text("no picture")
    absent = tmp_path / "absent.png"
    facts = index_images([*images, absent], tmp_path / "cache", progress=False)
    assert [bool(facts[image].error) for image in [*images, absent]] == [False, True, True, False, True]
    assert "cut short" in facts[images[1]].error
    assert "does not exist" in facts[absent].error


def test_what_is_no_file_is_refused_at_once(images, tmp_path):
    pipe, link, folder = tmp_path / "pipe.png", tmp_path / "link.png", tmp_path / "folder.png"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    folder.mkdir()
    facts = index_images([*images, pipe, link, folder], tmp_path / "cache", progress=False)
    assert [bool(fact.error) for fact in facts.values()] == [False] * len(images) + [True] * 3
    assert all("is not a file" in facts[path].error for path in (pipe, link, folder))


def test_what_could_not_be_read_is_tried_again(images, tmp_path, looks):
    images[0].write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    for _ in range(2):  # a library may have been installed that reads it
        assert index_images(images, tmp_path, progress=False)[images[0]].error
    assert looks == [*(image.name for image in images), images[0].name]


def scene(seed: int) -> Image.Image:
    return draw_scene(5, seed).image


def foggy(seed: int) -> Image.Image:
    return picture(seed).point(lambda level: 190 + level // 4)


def sketch(seed: int) -> Image.Image:
    """Thin lines on white: no part of it is far from white."""
    page = Image.new("RGB", (512, 512), "white")
    ImageDraw.Draw(page).line(np.random.default_rng(seed).integers(40, 470, 40).tolist(), "black", width=1)
    return page


def facts_of(picture: Image.Image, name: str = "") -> ImageFacts:
    return ImageFacts(name, cells_of(read_image(picture, size=64)))


def saved_anew(picture: Image.Image, scale: float = 1, quality: int = 75) -> Image.Image:
    file = io.BytesIO()
    width, height = picture.size
    picture.resize((round(width * scale), round(height * scale))).save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("kind", [picture, scene, foggy, sketch])
def test_a_copy_is_told_from_pictures_of_its_kind(kind):
    pictures = {Path(str(seed)): kind(seed) for seed in range(10)}
    copies = DuplicateFinder({path: facts_of(picture, path.name) for path, picture in pictures.items()})
    for path, picture in pictures.items():
        for copy in (saved_anew(picture), saved_anew(picture, quality=40), saved_anew(picture, 2)):
            assert copies.find(facts_of(copy)) == path
    assert not any(copies.find(facts_of(kind(seed))) for seed in range(10, 30))


def test_plain_pictures_are_copies_only_of_their_own_colour():
    colours = {Path(colour): facts_of(Image.new("RGB", (120, 90), colour), colour) for colour in ("white", "#fefefe")}
    copies = DuplicateFinder(colours)
    assert copies.find(facts_of(Image.new("RGB", (60, 90), "#fefefe"))) == Path("#fefefe")
    assert copies.find(facts_of(Image.new("RGB", (60, 90), "#fdfdfd"))) is None


def test_the_same_file_and_the_most_similar_come_first():
    near, nearer, same = Path("near"), Path("nearer"), Path("same")
    few = {near: facts_of(saved_anew(picture(1), quality=20), "1"), nearer: facts_of(saved_anew(picture(1)), "2")}
    assert DuplicateFinder(few).find(facts_of(picture(1))) == nearer
    assert DuplicateFinder(dict(reversed(few.items()))).find(facts_of(picture(1))) == nearer
    assert DuplicateFinder({same: facts_of(picture(2), "3"), **few}).find(facts_of(picture(1), "3")) == same


def test_what_cannot_be_read_is_no_copy():
    damaged = ImageFacts("", b"", "cut short")
    copies = DuplicateFinder({Path("a"): damaged, Path("b"): facts_of(picture(1), "b")})
    assert copies.find(damaged) is None
    assert copies.find(facts_of(picture(1))) == Path("b")
    assert DuplicateFinder({}).find(facts_of(picture(1))) is None


def test_every_copy_that_comparing_all_finds_is_found():
    dice = np.random.default_rng(0)
    cells = dice.integers(60, 200, (300, 16, 16, 3))
    near = cells + dice.integers(0, 2 * image_index.ALIKE, 300)[:, None, None, None] * dice.choice((-1, 1), cells.shape)
    facts = {
        Path(str(number)): ImageFacts(str(number), own.astype("uint8").tobytes()) for number, own in enumerate(cells)
    }
    copies, found = DuplicateFinder(facts), 0
    for own in near:
        differences = np.abs(own - cells).max(axis=(1, 2, 3))
        wanted = Path(str(differences.argmin())) if differences.min() <= image_index.ALIKE else None
        assert copies.find(ImageFacts("", own.astype("uint8").tobytes())) == wanted
        found += wanted is not None
    assert 100 < found < 200


def test_the_second_run_reads_nothing(images, tmp_path, looks):
    first = index_images(images, tmp_path / "cache", progress=False)
    assert len(looks) == 4
    assert index_images(images, tmp_path / "cache", progress=False) == first
    assert len(looks) == 4


def test_only_a_changed_file_is_read_again(images, tmp_path, looks):
    before = index_images(images, tmp_path / "cache", progress=False)
    looks.clear()
    picture(9).save(images[2])
    os.utime(images[2], ns=(1, 1))
    after = index_images(images, tmp_path / "cache", progress=False)
    assert looks == ["2.png"]
    assert after[images[2]] != before[images[2]]


@pytest.mark.parametrize("cut", [1, 2, 30, 150])
def test_a_line_cut_off_costs_only_itself(images, tmp_path, looks, cut):
    facts = index_images(images, tmp_path, progress=False)
    file = tmp_path / CACHE_FILE
    file.write_bytes(file.read_bytes()[:-cut])
    looks.clear()
    assert index_images(images, tmp_path, progress=False) == facts
    assert looks == ([] if cut == 1 else ["3.png"])
    assert index_images(images, tmp_path, progress=False) == facts
    assert len(looks) <= 1


@pytest.mark.parametrize(
    "line", ["nonsense", "[1]", "{}", "null", '["a", 1, 2, "b", "", "", "more"]', '[[], 1, 2, "b", "", ""]']
)
def test_foreign_lines_are_passed_over(images, tmp_path, looks, line):
    (tmp_path / CACHE_FILE).write_text(line + "\n")
    assert len(index_images(images, tmp_path, progress=False)) == len(looks) == 4


def test_what_an_older_version_remembered_is_read_again(images, tmp_path, looks):
    lines = [json.dumps([*image_index._key(image), "b", 1234567, ""]) for image in images]  # of 64-bit fingerprints
    (tmp_path / CACHE_FILE).write_text("\n".join(lines))
    facts = index_images(images, tmp_path, progress=False)
    assert len(looks) == 4
    assert index_images(images, tmp_path, progress=False) == facts == index_images(images, progress=False)
    assert len(looks) == 8


def test_a_file_that_could_not_be_opened_is_tried_again(tmp_path):
    path = tmp_path / "late.png"
    assert index_images([path], tmp_path, progress=False)[path].error
    picture(0).save(path)
    assert not index_images([path], tmp_path, progress=False)[path].error


def test_a_file_once_forbidden_is_tried_again(images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            image_index.hashlib, "file_digest", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Denied"))
        )
        assert "Denied" in index_images(images, tmp_path, progress=False)[images[0]].error
    assert not index_images(images, tmp_path, progress=False)[images[0]].error


def test_a_cache_that_cannot_be_written_is_told(images, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cache"):
        index_images(images, tmp_path / "cache" / "deeper", progress=False)


def test_what_the_cache_holds_of_other_images_is_not_read_into_memory(images, tmp_path):
    index_images(images, tmp_path, progress=False)
    key = image_index._key(images[1])
    assert list(image_index._remembered(tmp_path / CACHE_FILE, {key})) == [key]
