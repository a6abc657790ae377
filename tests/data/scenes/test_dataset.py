"""Drawn scenes: the same for the same numbers, truthful, varied, safely written, and scored strictly but fairly."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw

from captioning.data.scenes import dataset
from captioning.data.scenes.dataset import SceneObject, draw_scene, read_objects, write_scenes
from captioning.data.scenes.staging import COLOURS, figure_of
from captioning.data.scenes.stories import KINDS, PEOPLE
from captioning.errors import DataError
from captioning.evaluation.scene_scores import names_right_object, pointing_hits

SMALL = {"train": 6, "dev": 2, "test": 2}
RED_CAR = SceneObject("car", "red", ("car",), (0.5, 0.5, 1.0, 1.0))
BLUE_BOY = SceneObject("boy", "blue", ("boy", "child", "shirt"), (0.0, 0.25, 0.25, 1.0))
TWO_DOGS = tuple(
    SceneObject("dog", "brown", ("dog", "animal", "dogs"), (left, 0.5, left + 0.25, 1.0)) for left in (0.0, 0.5)
)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(0, index) for index in range(300)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes") / "drawn", sizes=SMALL)


def test_a_scene_is_a_pure_function_of_seed_and_index():
    first, again = draw_scene(3, 5), draw_scene(3, 5)
    assert first.captions == again.captions
    assert first.objects == again.objects
    assert first.image.tobytes() == again.image.tobytes()
    assert draw_scene(3, 6).image.tobytes() != first.image.tobytes() != draw_scene(4, 5).image.tobytes()


def test_every_scene_has_five_different_captions_and_one_to_three_objects(scenes):
    for scene in scenes:
        assert scene.image.size == (192, 192)
        assert scene.image.mode == "RGB"
        assert len(set(scene.captions)) == 5
        assert 1 <= len(scene.objects) <= 3


def test_boxes_lie_in_the_picture_and_are_large(scenes):
    for thing in (thing for scene in scenes for thing in scene.objects):
        left, top, right, bottom = thing.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert min(right - left, bottom - top) > 0.17


def test_boxes_hold_what_is_drawn_and_no_more(monkeypatch):
    for index in range(40):
        scene = draw_scene(0, index)
        with monkeypatch.context() as patch:
            patch.setattr("captioning.data.scenes.figures.Figure.paint", lambda *_, **__: None)
            empty = draw_scene(0, index)
        drawn = ImageChops.difference(scene.image, empty.image).convert("L").point(lambda value: 255 * (value > 12))
        left, top, right, bottom = (edge / 192 for edge in drawn.getbbox())
        boxes = [thing.box for thing in scene.objects]
        assert left == pytest.approx(min(box[0] for box in boxes), abs=0.03)
        assert top == pytest.approx(min(box[1] for box in boxes), abs=0.03)
        assert right == pytest.approx(max(box[2] for box in boxes), abs=0.03)
        assert bottom == pytest.approx(max(box[3] for box in boxes), abs=0.03)


def test_captions_name_colours_truthfully(scenes):
    for scene in scenes:
        assert sum(names_right_object(caption, scene.objects) for caption in scene.captions) >= 3


def test_captions_say_only_what_is_there(scenes):
    nouns = {word for noun, kind in KINDS.items() for word in (noun, kind.plural, kind.general, kind.garment) if word}
    for scene in scenes:
        names = {name for thing in scene.objects for name in thing.names}
        colours = {thing.colour for thing in scene.objects}
        for caption in scene.captions:
            words = set(caption.replace("on green grass", "").split())
            assert words & nouns <= names
            assert words & COLOURS.keys() <= colours


def test_counted_words_agree_with_the_number_of_objects(scenes):
    for scene in scenes:
        most = max(Counter(thing.noun for thing in scene.objects).values())
        said = {word for caption in scene.captions for word in caption.split()} & {"two", "three"}
        assert said == {1: set(), 2: {"two"}, 3: {"three"}}[most]


def test_a_caption_cannot_be_right_without_looking(scenes):
    elsewhere = [scenes[(number + 1) % len(scenes)].objects for number in range(len(scenes))]
    right = [names_right_object(scene.captions[0], other) for scene, other in zip(scenes, elsewhere, strict=True)]
    assert np.mean(right) < 0.1
    pairs = Counter(f"{thing.colour} {thing.noun}" for scene in scenes for thing in {*scene.objects})
    assert max(pairs.values()) < 0.1 * len(scenes)


def test_words_are_few_and_frequent(scenes):
    counts = Counter(word for scene in scenes for caption in scene.captions for word in caption.split())
    assert 90 <= len(counts) <= 140
    assert min(counts.values()) >= 3  # 20 in 2,000 scenes


@pytest.mark.parametrize("noun", KINDS)
def test_every_kind_is_drawn_mostly_in_its_colour(noun):
    kind = KINDS[noun]
    for colour in kind.colours:
        canvas = Image.new("RGB", (100, 100), (1, 2, 3))
        figure = figure_of(noun, colour, kind.actions[0])
        left, bottom, right, top = figure.bounds
        scale = 90 / max(right - left, top - bottom)
        figure.paint(ImageDraw.Draw(canvas), (50 - (left + right) / 2 * scale, 95 + bottom * scale), scale, flip=False)
        pixels = np.asarray(canvas, dtype=int).reshape(-1, 3)
        drawn = pixels[(pixels != (1, 2, 3)).any(1)]
        near = np.abs(drawn - COLOURS[colour]).max(1) < 60
        assert near.mean() > (0.2 if noun in PEOPLE else 0.14)


def test_written_scenes_are_read_back(written):
    objects = read_objects(written)
    assert len(objects) == 10
    for index, (path, things) in enumerate(objects.items()):
        scene = draw_scene(0, index)
        assert things == scene.objects
        with Image.open(path) as image:
            difference = np.abs(np.asarray(image, dtype=int) - np.asarray(scene.image, dtype=int))
        assert difference.mean() < 4


def test_metadata_lists_splits_and_captions(written):
    rows = [json.loads(line) for line in (written / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert Counter(row["split"] for row in rows) == SMALL
    assert all(len(row["captions"]) == 5 and (written / row["file_name"]).is_file() for row in rows)


def test_a_complete_folder_is_left_as_it_is(tmp_path):
    folder = write_scenes(tmp_path / "drawn", sizes=SMALL)
    before = (folder / "metadata.jsonl").stat()
    assert write_scenes(folder, sizes=SMALL) == folder
    assert (folder / "metadata.jsonl").stat().st_ino == before.st_ino


@pytest.mark.parametrize("change", [{"seed": 1}, {"sizes": {"train": 3}}])
def test_another_seed_or_size_replaces_the_folder(tmp_path, change):
    folder = write_scenes(tmp_path / "drawn", sizes=SMALL)
    before = (folder / "metadata.jsonl").read_text(encoding="utf-8")
    write_scenes(folder, **{"sizes": SMALL, **change})
    assert (folder / "metadata.jsonl").read_text(encoding="utf-8") != before
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]


def test_a_missing_picture_is_drawn_again(tmp_path):
    folder = write_scenes(tmp_path / "drawn", sizes=SMALL)
    (folder / "Images" / "train_00002.jpg").unlink()
    write_scenes(folder, sizes=SMALL)
    assert (folder / "Images" / "train_00002.jpg").is_file()


@pytest.mark.parametrize("name", ["notes.txt", "Images/holiday.jpg"])
def test_what_a_person_put_there_is_never_replaced(tmp_path, name):
    folder = write_scenes(tmp_path / "drawn", sizes=SMALL)
    (folder / name).write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=name.split("/")[-1]):
        write_scenes(folder, sizes=SMALL, seed=1)
    assert (folder / name).read_text(encoding="utf-8") == "mine"


def test_a_folder_of_other_pictures_is_refused(tmp_path):
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / "train_00000.jpg").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="Images"):
        write_scenes(tmp_path, sizes=SMALL)


def test_programs_at_the_same_time_draw_once(tmp_path, monkeypatch):
    drawn, draw_all = [], dataset.draw_all
    monkeypatch.setattr(dataset, "draw_all", lambda *given: (drawn.append(1), time.sleep(0.2), draw_all(*given)))
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: write_scenes(tmp_path / "drawn", sizes=SMALL), range(3)))
    assert folders == [tmp_path / "drawn"] * 3
    assert len(drawn) == 1
    assert len(read_objects(tmp_path / "drawn")) == sum(SMALL.values())


def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(seed, index):
        raise KeyboardInterrupt

    monkeypatch.setattr("captioning.data.scenes.dataset.draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "drawn", sizes=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_reading_objects_of_other_folders_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="write_scenes"):
        read_objects(tmp_path)


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("a red car is parked on the street", True),
        ("a big red car", True),
        ("a red big car.", True),
        ("A boy in a blue shirt runs", True),
        ("a child wearing blue jumps near a car", True),
        ("the boy in blue and a car", True),
        ("a boy in a red shirt beside a red car", True),
        ("a blue car is parked on the street", False),
        ("a car that is red", False),
        ("a car and a boy", False),
        ("a red boat", False),
        ("red red blue", False),
        ("a boy in a red shirt", False),
        ("a girl in a blue shirt", False),
        ("a boy in a blue dress", False),
        ("a blue shirt", False),
        ("a girl in blue beside a boy", False),
        ("a blue boy", False),
        ("two red cars", False),
        ("", False),
    ],
)
def test_a_right_object_has_its_own_colour(caption, right):
    assert names_right_object(caption, (RED_CAR, BLUE_BOY)) is right


def test_plurals_are_right_only_where_there_are_several():
    assert names_right_object("two brown dogs run", TWO_DOGS)
    assert not names_right_object("two brown dogs run", (SceneObject("dog", "brown", ("dog", "animal"), (0, 0, 1, 1)),))


def attention_at(*cells):
    maps = np.zeros((len(cells), 8, 8))
    for step, (row, column) in enumerate(cells):
        maps[step, row, column] = 1
    return maps


def test_pointing_counts_peaks_inside_the_box_of_the_named_noun():
    words = ["a", "boy", "and", "a", "car"]
    attention = attention_at((0, 0), (4, 0), (0, 0), (0, 0), (0, 0))
    assert pointing_hits(words, attention, (RED_CAR, BLUE_BOY)) == (1, 2)


def test_pointing_ignores_words_that_name_no_object():
    words = ["a", "child", "in", "a", "blue", "shirt", "near", "a", "bus"]
    assert pointing_hits(words, attention_at(*[(4, 0)] * 9), (RED_CAR, BLUE_BOY)) == (0, 0)


def test_pointing_at_either_of_two_is_a_hit():
    for column, hits in ((0, 1), (5, 1), (3, 0)):
        assert pointing_hits(["dogs"], attention_at((6, column)), TWO_DOGS) == (hits, 1)
