"""Pictures of a burst share one caption, other scenes never do."""

import functools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from captioning.data import image_index
from captioning.data.image_index import SceneIndex
from captioning.data.images import read_image
from captioning.data.scenes.dataset import draw_scene
from captioning.errors import ImageError
from captioning.inference import folder as album
from captioning.inference.folder import caption_folder, caption_images
from captioning.inference.sharing import SharedCaptions
from tests.inference.test_folder import SEARCH, CaptionerPool, Parrot


def picture(seed: int, x: int = 0, y: int = 0) -> Image.Image:
    """A picture of soft patches, cut out of a larger one at a place."""
    cells = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(cells).resize((340, 250), Image.Resampling.BICUBIC).crop((x, y, x + 320, y + 240))


def pixels(picture: Image.Image) -> np.ndarray:
    return read_image(picture, size=224)


def foggy(seed: int) -> Image.Image:
    return picture(seed).point(lambda level: 190 + level // 4)


def dark(seed: int) -> Image.Image:
    return picture(seed).point(lambda level: level // 6)


def scene(seed: int) -> Image.Image:
    return draw_scene(5, seed).image


def sketch(seed: int) -> Image.Image:
    page = Image.new("RGB", (512, 512), "white")
    ImageDraw.Draw(page).line(np.random.default_rng(seed).integers(40, 470, 40).tolist(), "black", width=1)
    return page


@pytest.mark.parametrize("kind", [picture, foggy, dark, scene, sketch])
def test_a_scene_is_told_from_others_of_its_kind(kind):
    index = SceneIndex()
    assert [index.number_of(pixels(kind(seed))) for seed in range(8)] == [(seed, True) for seed in range(8)]
    assert [index.number_of(pixels(kind(seed))) for seed in range(8)] == [(seed, False) for seed in range(8)]


def test_a_step_aside_is_the_same_scene_and_a_slow_pan_is_not():
    index = SceneIndex()
    assert [index.number_of(pixels(picture(0, step, step // 2))) for step in range(3)] == [(0, True), *[(0, False)] * 2]
    numbers = [index.number_of(pixels(picture(0, step)))[0] for step in range(3, 20)]
    assert numbers == sorted(numbers)
    assert numbers[-1] > 0


def test_plain_pictures_are_the_same_scene_only_in_their_own_colour():
    index = SceneIndex()
    colours = ["white", "#fefefe", "white", "black", "#fefefe"]
    assert [index.number_of(pixels(Image.new("RGB", (50, 40), colour)))[0] for colour in colours] == [0, 1, 0, 2, 1]


def test_the_oldest_scenes_are_forgotten(monkeypatch):
    monkeypatch.setattr(image_index, "SCENES", 4)
    index = SceneIndex()
    shown = [index.number_of(pixels(picture(seed))) for seed in (0, 1, 2, 3, 4, 5, 2, 4, 0, 5)]
    assert shown == [*((number, True) for number in range(6)), (2, False), (4, False), (6, True), (5, False)]


class Counting(Parrot):
    """Says how many pictures it has captioned."""

    def caption_features(self, features, options):
        before = sum(self.seen)
        found = super().caption_features(features, options)
        return [type(each)(f"number {before + place}", (), -0.5) for place, each in enumerate(found)]


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Five scenes in three pictures each, one after the other; then a file that is none, and the scenes once more."""
    monkeypatch.setattr(album, "BATCH", 4)
    paths = []
    for seed in range(5):
        for step in range(3):
            paths.append(tmp_path / f"{seed}-{step}.png")
            picture(seed, step).save(paths[-1])
    paths.append(tmp_path / "none.png")
    paths[-1].write_bytes(b"")
    for seed in range(5):
        paths.append(tmp_path / f"again-{seed}.jpg")
        picture(seed).save(paths[-1], quality=70)
    return paths


def by(captioner, shared):
    return functools.partial(caption_images, captioner, search=SEARCH, shared=shared)


def test_the_pictures_of_a_scene_share_the_caption_of_the_first(images):
    parrot, book = Counting(), CaptionerPool()
    summary = caption_folder(by(parrot, SharedCaptions()), images, book)
    assert sum(parrot.seen) == 5
    assert list(book) == [image for image in images if image.stem != "none"]
    for image, caption in book.items():
        assert str(caption) == f"number {image.stem.removeprefix('again-')[0]}"
        assert caption.shared == (not image.stem.endswith("-0") or image.stem.startswith("again"))
    assert (summary.written, summary.shared, len(summary.problems)) == (20, 15, 1)
    assert summary.text(" in c.csv").startswith(
        "20 captions in c.csv, confidence unknown, 15 shared with a similar picture, 1 left out:\n"
    )


def test_each_has_its_own_where_that_is_asked_for(images):
    parrot, book = Counting(), CaptionerPool()
    summary = caption_folder(by(parrot, None), images, book)
    assert sum(parrot.seen) == 20
    assert summary.shared == 0


def test_scenes_are_known_from_one_folder_to_the_next(images):
    parrot, shared = Counting(), SharedCaptions()
    caption_folder(by(parrot, shared), images[:15], CaptionerPool())
    assert caption_folder(by(parrot, shared), images[16:], CaptionerPool()).shared == 5
    assert sum(parrot.seen) == 5


def test_many_copies_of_one_picture_are_no_endless_batch(images, monkeypatch):
    monkeypatch.setattr(album, "LARGEST_BATCH", 6)
    batches = list(caption_images(Parrot(), images[:3] + images[15:16], SEARCH, shared=SharedCaptions()))
    assert [len(batch) for batch in batches] == [4]
    copies = [images[0].with_name(f"copy-{number}.png") for number in range(20)]
    for path in copies:
        path.write_bytes(images[0].read_bytes())
    batches = list(caption_images(Parrot(), copies, SEARCH, shared=SharedCaptions()))
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    assert not any(isinstance(each, ImageError) for batch in batches for each in batch.values())
