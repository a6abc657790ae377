"""COCO's instances files: masks decoded as COCO has them, and one sentence for each thing that cannot be used."""

import json

import numpy as np
import pytest
from PIL import Image

from captioning.data.coco_instances import read_instances
from captioning.data.coco_masks import box_of, decode_mask, encode_rle
from captioning.errors import DataError

SQUARE = [[2, 1, 6, 1, 6, 4, 2, 4]]


def content(**changes):
    image = {"id": 7, "file_name": "a.png", "height": 8, "width": 10}
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": SQUARE, "iscrowd": 0}
    return {"images": [image], "categories": [{"id": 3, "name": "dog"}], "annotations": [annotation]} | changes


def changed(part, **changes):
    whole = content()
    return whole | {part: [whole[part][0] | changes]}


def write(folder, whole):
    Image.new("RGB", (10, 8)).save(folder / "a.png")
    (folder / "instances.json").write_text(whole if isinstance(whole, str) else json.dumps(whole), encoding="utf-8")
    return folder


def test_an_instances_file_is_read(tmp_path):
    crowd = {"id": 2, "image_id": 7, "category_id": 3, "segmentation": [], "iscrowd": 1}
    whole = content()
    found = read_instances(write(tmp_path, whole | {"annotations": [*whole["annotations"], crowd]}))
    [picture] = found.pictures
    [instance] = picture.instances
    assert (found.categories, found.crowds, instance.label) == (("dog",), 1, "dog")
    assert picture.path == tmp_path / "a.png"
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = True
    assert (instance.mask == expected).all()


def test_a_polygon_holds_the_pixels_whose_middle_is_inside():
    triangle = [0, 0, 4, 0, 0, 4]
    assert decode_mask([triangle], 4, 4).sum(axis=1).tolist() == [3, 2, 1, 0]
    two = decode_mask([[0, 0, 1, 0, 1, 1, 0, 1], [3, 3, 4, 3, 4, 4, 3, 4]], 4, 4)
    assert np.argwhere(two).tolist() == [[0, 0], [3, 3]]
    around = decode_mask([[-1, -1, 5, -1, 5, 5, -1, 5]], 4, 4)  # as far outside as COCO's own polygons are
    assert around.all()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_polygons_are_almost_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = (np.arange(9) + 0.8 * rng.random(9)) * 2 * np.pi / 9
        radii = 40 * (0.6 + 0.4 * rng.random(9))
        corners = np.stack([50 + radii * np.cos(angles), 50 + radii * np.sin(angles)], axis=1).ravel().tolist()
        theirs = coco.decode(coco.merge(coco.frPyObjects([corners], 100, 100))).astype(bool)
        ours = decode_mask([corners], 100, 100)
        assert (ours & theirs).sum() > 0.94 * (ours | theirs).sum()


def test_run_lengths_go_down_the_columns_and_begin_with_zeros():
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    assert encode_rle(mask) == {"size": [2, 3], "counts": [1, 3, 2]}
    assert encode_rle(~mask) == {"size": [2, 3], "counts": [0, 1, 3, 2]}
    assert box_of(mask) == [0, 0, 2, 2]
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((rng.integers(1, 9), rng.integers(1, 9))) < 0.5
        assert (decode_mask(encode_rle(mask), *mask.shape) == mask).all()


def test_run_lengths_as_text_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for chance in (0.02, 0.5, 0.98):
        mask = rng.random((40, 60)) < chance
        text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert (decode_mask({"size": [40, 60], "counts": text}, 40, 60) == mask).all()


def test_a_known_text_of_run_lengths():
    assert decode_mask({"size": [2, 3], "counts": "132"}, 2, 3).tolist() == [[False, True, False], [True, True, False]]


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ("{", "not readable JSON"),
        ("[]", "not a COCO instances file"),
        ("[" * 200_000, "nested"),
        (content(annotations=[]), "no annotation with a mask"),
        (content(categories=[]), "no categories"),
        (changed("categories", name=" "), "category without"),
        (content(categories=[{"id": 1, "name": "dog"}, {"id": 3, "name": "dog"}]), "two categories of one name"),
        (changed("annotations", image_id=8), "image 8"),
        (changed("annotations", image_id=[7]), "image"),
        (changed("annotations", category_id=4), "category 4"),
        (changed("annotations", segmentation=[[2, 1, 60, 1, 6, 4]]), "leaves the picture"),
        (changed("annotations", segmentation=[[2, 1, 6]]), "three corners"),
        (changed("annotations", segmentation=[["a"] * 6]), "not a number"),
        (changed("annotations", segmentation=[[True] * 6]), "not a number"),
        (changed("annotations", segmentation=None), "neither"),
        (changed("annotations", segmentation={"size": [9, 10], "counts": [90]}), "run lengths are for"),
        (changed("annotations", segmentation={"size": [8, 10], "counts": [81]}), "81 pixels"),
        (changed("annotations", segmentation={"size": [8, 10], "counts": [90, -10]}), "whole numbers"),
        (changed("annotations", segmentation={"size": [8, 10], "counts": "\u00e9"}), "COCO's text"),
        (changed("annotations", segmentation={"size": [8, 10], "counts": "o"}), "end too early"),
        (content(annotations=[5]), "not an object"),
        (content(images=[5]), "image without"),
        (changed("images", height=True), "image without"),
        (changed("images", height=0), "0 pixels"),
        (changed("images", height=10**9), "no picture has"),
        (changed("images", file_name="../a.png"), "outside"),
        (changed("images", file_name="/etc/a.png"), "outside"),
        (changed("images", file_name="b.png"), "missing"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path, whole, said):
    with pytest.raises(DataError, match=said) as error:
        read_instances(write(tmp_path, whole))
    assert "\n" not in str(error.value)


def test_a_folder_without_an_instances_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"instances\.json"):
        read_instances(tmp_path)


def test_the_folder_of_the_pictures_can_be_another(tmp_path):
    write(tmp_path, content())
    (tmp_path / "annotations").mkdir()
    (tmp_path / "instances.json").rename(tmp_path / "annotations" / "instances.json")
    assert read_instances(tmp_path).pictures[0].path == tmp_path / "a.png"
    assert read_instances(tmp_path, tmp_path).pictures[0].path == tmp_path / "a.png"
