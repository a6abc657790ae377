"""Pictures of segments: colours, masks by opacity, edges, numbers, the legend."""

import io

import numpy as np
import pytest
from PIL import Image

from captioning.extras.segments import Segment
from captioning.plots import segments
from captioning.plots.segments import COLOURS, colour_of, edge, middle, overlaid, segments_png
from tests.extras.stand_ins import left_half

WHITE = np.full((60, 80, 3), 255, "uint8")
DOG, SKY = Segment("dog", 0.9, left_half((60, 80))), Segment("sky", 0.5, np.ones((60, 80), bool))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(segments, "TALL", 120)


def test_a_mask_has_its_opacity_and_its_edge_the_full_colour():
    drawn = overlaid(WHITE, [DOG.mask], 0.25)
    colour = np.array(colour_of(0))
    assert drawn[30, 5] == pytest.approx(0.75 * 255 + 0.25 * colour, abs=1)
    assert (drawn[30, 39] == colour).all()
    assert (drawn[:, 40:] == 255).all()
    assert (overlaid(WHITE, [DOG.mask], 0)[30, 5] == 255).all()
    assert (overlaid(WHITE, [DOG.mask], 1)[30, 5] == colour).all()


def test_a_small_segment_lies_above_a_large_one():
    drawn = overlaid(WHITE, [DOG.mask, SKY.mask], 1.0)
    assert (drawn[30, 5] == colour_of(0)).all()
    assert (drawn[30, 60] == colour_of(1)).all()


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_opacity_out_of_range_is_refused(opacity):
    with pytest.raises(ValueError, match="from 0 to 1"):
        overlaid(WHITE, [DOG.mask], opacity)


def test_colours_repeat_after_eight():
    assert len({colour_of(place) for place in range(8)}) == len(COLOURS) == 8
    assert colour_of(8) == colour_of(0) == (230, 159, 0)


def test_the_edge_of_a_mask_is_within_it_and_not_at_the_edge_of_the_picture():
    mask = np.zeros((7, 7), bool)
    mask[:4, :4] = True
    found = edge(mask)
    assert found.sum() == 7
    assert found[3, :4].all()
    assert found[:4, 3].all()
    assert not edge(np.ones((5, 5), bool)).any()
    assert edge(mask, 2).sum() == 12


def test_a_number_stands_within_its_segment():
    ring = np.ones((9, 9), bool)
    ring[1:-1, 1:-1] = False
    across, down = middle(ring)
    assert ring[int(down * 9), int(across * 9)]
    assert middle(left_half((2, 4))) == pytest.approx((0.125, 0.25))
    assert middle(np.zeros((2, 4), bool)) == (0.5, 0.5)


@pytest.mark.parametrize("size", [(60, 80), (40, 200), (200, 40)])
def test_a_picture_has_a_legend(size):
    image = np.zeros((*size, 3), "uint8")
    found = [Segment("a very long label " * 5, 0.9, left_half(size)), Segment("sky", 0.5, ~left_half(size))]
    captions, words = ["a dog", "the sky"], [["dog"], []]
    plain = Image.open(io.BytesIO(segments_png(image, found)))
    told = Image.open(io.BytesIO(segments_png(image, found, caption="a dog", captions=captions, words=words)))
    assert told.height >= plain.height
    swatch = np.round(np.array(colour_of(1)) / 255 * 63) / 63 * 255
    assert (abs(np.asarray(plain).astype(int) - swatch).max(-1) < 2).any()


def test_a_picture_without_segments_says_so():
    assert Image.open(io.BytesIO(segments_png(WHITE, []))).width > 360
