"""The masks of drawn scenes are the pixels that were painted, of what is in front."""

import json

import numpy as np
import pytest

from captioning.data.coco_instances import read_instances
from captioning.data.scenes.dataset import SIDE, SUPERSAMPLING, draw_scene, set_scene, write_scenes
from captioning.data.scenes.figures import Figure
from captioning.data.scenes.masks import scene_masks, write_masks
from captioning.errors import DataError


def flat_colours(seed, index, monkeypatch):
    """The scene drawn by the ordinary code, at its full size, each figure in a colour of its own."""
    colours = iter([(1, 2, 250), (250, 3, 1), (2, 250, 4)])

    def paint(self, draw, origin, scale, *, flip):
        colour, across = next(colours), -scale if flip else scale
        for points, _ in self.shapes:
            draw.polygon([(origin[0] + x * across, origin[1] - y * scale) for x, y in points], fill=colour)

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "paint", paint)
        scene = set_scene(seed, index)
        for figure in scene.placed:
            figure.paint(scene.canvas)
    return scene, np.asarray(scene.canvas)


def test_masks_are_the_pixels_that_are_drawn(monkeypatch):
    plain = 0
    for index in range(30):
        scene, drawn = flat_colours(0, index, monkeypatch)
        masks = scene_masks(0, index)
        assert [noun for noun, _ in masks] == [figure.actor.noun for figure in scene.placed]
        is_plain = not any(figure.depth or figure.hand for figure in scene.placed)  # neither foam nor strings
        plain += is_plain
        for (_, mask), colour in zip(masks, [(1, 2, 250), (250, 3, 1), (2, 250, 4)], strict=False):
            painted = (drawn == colour).all(axis=-1)
            share = painted.reshape(SIDE, SUPERSAMPLING, SIDE, SUPERSAMPLING).mean(axis=(1, 3))
            if is_plain:
                assert mask[share > 0.5].all()
                assert not mask[share < 0.5].any()
            assert (mask & (share > 0.5)).sum() > 0.85 * (mask | (share > 0.5)).sum()
    assert plain > 15


def test_no_pixel_belongs_to_two_objects():
    for index in range(20):
        assert np.sum([mask for _, mask in scene_masks(1, index)], axis=0).max() <= 1


def test_pictures_are_as_before_masks_were_known():
    assert [round(float(np.asarray(draw_scene(0, index).image).mean()), 4) for index in (0, 1)] == [195.5738, 193.9514]


def test_a_folder_of_scenes_gets_an_instances_file(tmp_path):
    folder = write_scenes(tmp_path / "drawn", sizes={"train": 3, "dev": 2})
    assert write_masks(folder) == folder / "instances.json"
    found = read_instances(folder)
    assert [picture.path.name for picture in found.pictures] == [
        *("dev_00000.jpg", "dev_00001.jpg"),
        *("train_00000.jpg", "train_00001.jpg", "train_00002.jpg"),
    ]
    for picture, index in zip(found.pictures, (3, 4, 0, 1, 2), strict=True):
        for instance, (noun, mask) in zip(picture.instances, scene_masks(0, index), strict=True):
            assert instance.label == noun
            assert (instance.mask == mask).all()
    first = json.loads((folder / "instances.json").read_text("utf-8"))["annotations"][0]
    left, top, width, height = first["bbox"]
    rows, columns = scene_masks(0, 0)[0][1].nonzero()
    assert (left, top, left + width - 1, top + height - 1) == (
        *(columns.min(), rows.min()),
        *(columns.max(), rows.max()),
    )
    assert first["area"] == len(rows)
    assert write_scenes(folder, sizes={"train": 3, "dev": 2}) == folder  # complete, masks or not
    write_scenes(folder, sizes={"train": 1})  # replaced, with its masks
    assert not (folder / "instances.json").exists()


def test_masks_are_written_into_drawn_scenes_alone(tmp_path):
    with pytest.raises(DataError, match=r"scenes\.json"):
        write_masks(tmp_path)
