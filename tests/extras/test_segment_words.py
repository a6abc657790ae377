"""Words and segments: lifts, links, run lengths and boxes, all by numbers worked out by hand."""

import json

import numpy as np
import pytest

from captioning.errors import CaptioningError
from captioning.extras.segment_files import Found, coco, mask_of, run_lengths
from captioning.extras.segment_words import Link, caption_segment, covered, lift, links
from captioning.extras.segments import Segment
from captioning.inference.caption import Caption, Word
from tests.extras.stand_ins import Halves, left_half

ATTENTION = np.array([[0.5, 0.1], [0.3, 0.1]])


def quarter():
    """The upper left quarter of a picture of 4 x 4 pixels."""
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = True
    return mask


def over(attention, mask):
    return lift(attention, covered(mask, attention.shape))


def test_the_lift_is_the_share_of_the_attention_by_the_share_of_the_picture():
    assert over(ATTENTION, quarter()) == pytest.approx(0.5 / 0.25)
    assert over(ATTENTION, left_half((4, 4))) == pytest.approx((0.5 + 0.3) / 0.5)
    assert over(ATTENTION, ~left_half((4, 4))) == pytest.approx(0.2 / 0.5)
    assert over(3 * ATTENTION, quarter()) == pytest.approx(2)  # it need not sum to one
    assert over(np.full((7, 7), 1 / 49), quarter()) == pytest.approx(1)
    assert over(ATTENTION, np.ones((5, 3), bool)) == pytest.approx(1)


def test_a_mask_that_covers_a_part_of_a_cell_gets_that_part_of_its_attention():
    mask = np.zeros((4, 4), bool)
    mask[:2, :3] = True  # all of the first cell and half of the second
    assert covered(mask, (2, 2)) == pytest.approx(np.array([[1, 0.5], [0, 0]]))
    assert over(ATTENTION, mask) == pytest.approx((0.5 + 0.1 / 2) / (6 / 16))
    thirds = covered(np.array([[True, False, True]]), (1, 2))  # the middle pixel lies half in either cell
    assert thirds == pytest.approx(np.array([[2 / 3, 2 / 3]]))


def test_nothing_is_lifted_over_an_empty_mask_or_without_attention():
    assert over(ATTENTION, np.zeros((4, 4), bool)) == 0
    assert over(np.zeros((2, 2)), quarter()) == 0


def test_a_word_belongs_to_the_segment_of_its_largest_lift_above_one():
    segments = [Segment("dog", 0.9, left_half((4, 4))), Segment("ear", 0.8, quarter())]
    right = np.array([[0.1, 0.5], [0.1, 0.3]])
    words = [Word("a", 0.5, ATTENTION), Word("b", 0.5, right), Word("c", 0.5, None), Word("d", 0.5, np.ones((2, 2)))]
    first, *others = links(words, segments)
    assert first == Link(1, pytest.approx(2))  # 2 over the ear, 1.6 over the dog
    assert others == [None, None, None]
    assert links(words[:1], segments[:1]) == [Link(0, pytest.approx(1.6))]
    assert links(words, []) == [None] * 4


def test_runs_go_down_the_columns_and_begin_outside():
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert run_lengths(mask) == [2, 3, 1]
    assert run_lengths(~mask) == [0, 2, 3, 1]
    assert run_lengths(np.zeros((2, 3), bool)) == [6]
    assert run_lengths(np.ones((2, 3), bool)) == [0, 6]
    for seed in range(5):
        some = np.random.default_rng(seed).integers(0, 2, (5, 7)) > 0
        assert (mask_of(run_lengths(some), some.shape) == some).all()
    with pytest.raises(CaptioningError, match="have 5 pixels; 6 were expected"):
        mask_of([2, 3], (2, 3))


def test_the_box_and_the_area_are_those_of_the_mask():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2] = mask[2, 2:7] = True
    segment = Segment("dog", 0.5, mask)
    assert segment.box == (2, 1, 5, 3)
    assert segment.area == 7
    assert Segment("dog", 0.5, np.zeros((6, 8), bool)).box == (0, 0, 0, 0)


def test_the_record_is_as_coco_has_it():
    dog, sky = Segment("dog", 0.91239, left_half((2, 4))), Segment("sky", 0.5, ~left_half((2, 4)))
    caption = Caption("a dog", (Word("a", 0.5, None), Word("dog", 0.5, None)), -1.0, confidence=0.7)
    first = Found("1.png", (2, 4), (sky,))
    second = Found("2.png", (2, 4), (dog, sky), caption, (caption, caption), (None, Link(1, 1.5)))
    record = json.loads(json.dumps(coco([first, second])))
    assert record["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "sky"}]
    assert [each["file_name"] for each in record["images"]] == ["1.png", "2.png"]
    assert (record["images"][0]["width"], record["images"][0]["height"]) == (4, 2)
    assert "caption" not in record["images"][0]
    words = [{"text": "a", "annotation_id": None}, {"text": "dog", "annotation_id": 3, "lift": 1.5}]
    assert record["images"][1]["words"] == words
    dogs = record["annotations"][1]
    expected = {"id": 2, "image_id": 2, "category_id": 1, "label": "dog", "score": 0.9124, "bbox": [0, 0, 2, 2]}
    expected |= {"area": 4, "iscrowd": 0, "segmentation": {"size": [2, 4], "counts": [0, 4, 4]}}
    assert dogs == expected | {"caption": "a dog", "confidence": 0.7, "verdict": "sure"}
    assert second.words(1) == ["dog"]
    assert second.words(0) == first.words(0) == []


def test_a_segment_is_captioned_by_the_region_captioning():
    captioner, segment = Halves(), Segment("dog", 0.9, left_half((4, 4)))
    caption = caption_segment(captioner, np.zeros((4, 4, 3), "uint8"), segment)
    assert caption.text == "a dog"
    assert captioner.regions[0] is segment.mask
