"""The average precision of masks, against cases computed by hand and against pycocotools where it is installed."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from captioning.evaluation.mask_ap import THRESHOLDS, mask_ap, overlaps


@dataclass(frozen=True)
class Thing:
    label: str
    mask: np.ndarray
    score: float = 1.0


def bar(length, start=0, *, label="dog", score=1.0):
    """A mask of some pixels in a row of 100."""
    mask = np.zeros((1, 100), bool)
    mask[0, start : start + length] = True
    return Thing(label, mask, score)


def test_everything_found_is_one_and_nothing_found_is_zero():
    truth = [bar(10), bar(10, 50, label="cat")]
    assert mask_ap([(truth, truth)]).ap == 1
    none = mask_ap([([], truth)])
    assert (none.ap, none.ap50, none.ap75, none.categories) == (0, 0, 0, {"cat": 0, "dog": 0})


def test_without_any_object_there_is_no_score():
    assert math.isnan(mask_ap([([bar(3)], [])]).ap)


def test_an_overlap_of_eight_tenths_counts_up_to_its_threshold():
    found = mask_ap([([bar(80)], [bar(100)])])  # IoU 0.8: right at 0.50 to 0.80, as COCO computes these
    right = int((THRESHOLDS <= 0.8).sum())
    assert (found.ap50, found.ap75) == (1, 1)
    assert found.ap == pytest.approx(right / 10)
    assert right in (6, 7)


def test_half_of_the_objects_found_reaches_51_of_101_recalls():
    found = mask_ap([([bar(10)], [bar(10), bar(10, 50)])])
    assert found.ap == pytest.approx(51 / 101)


def test_a_wrong_one_above_a_right_one_halves_the_precision():
    wrong, right = bar(10, 80, score=0.9), bar(10, score=0.8)
    assert mask_ap([([wrong, right], [bar(10)])]).ap == pytest.approx(0.5)
    assert mask_ap([([right, bar(10, 80, score=0.1)], [bar(10)])]).ap == pytest.approx(1)


def test_an_object_is_found_once():
    twice = [bar(10, score=0.9), bar(10, score=0.8), bar(10, 50, score=0.7)]
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert mask_ap([(twice, [bar(10), bar(10, 50)])]).ap == pytest.approx(expected)


def test_scores_are_ranked_over_all_pictures():
    first = ([bar(10, 80, score=0.5)], [bar(10)])  # wrong
    second = ([bar(10, score=0.9)], [bar(10)])
    assert mask_ap([first, second]).ap == pytest.approx(51 / 101)
    first[0][0] = bar(10, 80, score=0.95)
    assert mask_ap([first, second]).ap == pytest.approx(51 / 101 / 2)


def test_labels_count_alone_and_equally():
    found = mask_ap([([bar(10), bar(10, 50, label="dog")], [bar(10), bar(10, 50, label="cat")])])
    assert found.categories == {"cat": 0, "dog": pytest.approx(1)}
    assert found.ap == pytest.approx(0.5)
    assert found.text() == "AP 0.500, AP50 0.500, AP75 0.500"


def test_what_is_in_no_truth_is_left_out():
    assert mask_ap([([bar(10), bar(5, label="fish")], [bar(10)])]).categories == {"dog": 1}


def test_overlaps_of_empty_masks_are_zero():
    assert overlaps([bar(0).mask], [bar(0).mask]).tolist() == [[0]]
    assert overlaps([], [bar(1).mask]).shape == (0, 1)


def invented(rng, pictures):
    """Objects of two labels, found somewhat displaced, some missed, some invented."""
    result = []
    for _ in range(pictures):
        truth, found = [], []
        for _ in range(rng.integers(0, 5)):
            label, place, size = rng.choice(["dog", "cat"]), rng.integers(0, 20, 2), rng.integers(4, 15, 2)
            mask = np.zeros((40, 40), bool)
            mask[place[0] : place[0] + size[0], place[1] : place[1] + size[1]] = True
            truth.append(Thing(label, mask))
            for _ in range(rng.integers(0, 3)):
                moved = np.roll(mask, rng.integers(-2, 3, 2), (0, 1))
                found.append(Thing(label if rng.random() < 0.8 else "cat", moved, round(float(rng.random()), 3)))
        result.append((found, truth))
    return result


def by_pycocotools(pictures):
    coco_masks = pytest.importorskip("pycocotools.mask")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {"cat": 1, "dog": 2}
    annotations, results = [], []
    for image, (found, truth) in enumerate(pictures, 1):
        for things, listed in ((truth, annotations), (found, results)):
            for thing in things:
                text = coco_masks.encode(np.asfortranarray(thing.mask.astype(np.uint8)))
                entry = {"id": len(listed) + 1, "image_id": image, "category_id": numbers[thing.label]}
                entry |= {"segmentation": text, "area": int(thing.mask.sum()), "iscrowd": 0, "score": thing.score}
                listed.append(entry | {"bbox": coco_masks.toBbox(text).tolist()})
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": number, "height": 40, "width": 40} for number in range(1, len(pictures) + 1)],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": annotations,
    }
    truth.createIndex()
    judge = COCOeval(truth, truth.loadRes(results), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge.stats[:3]


def test_scores_are_those_of_pycocotools(capsys):
    pytest.importorskip("pycocotools")
    for seed in range(5):
        pictures = invented(np.random.default_rng(seed), 30)
        ours = mask_ap(pictures)
        assert 0.05 < ours.ap < 0.9
        assert (ours.ap, ours.ap50, ours.ap75) == pytest.approx(tuple(by_pycocotools(pictures)), abs=1e-9)
