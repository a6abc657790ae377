"""The app's regions, boxed or painted, from what a page sends to where the captioner looks."""

import dataclasses
import re

import numpy as np
import pytest

from captioning.app import rendering
from captioning.data.feedback import FeedbackStore
from captioning.errors import CaptioningError
from captioning.serving import session
from captioning.serving.regions import (
    BRUSH,
    MOST_POINTS,
    SIDE,
    WHOLE,
    Strokes,
    box_around,
    box_between,
    looked_at,
    region_sent,
    strokes_along,
)

CORNER = Strokes(
    (((0.05, 0.05), (0.28, 0.28)), ((0.28, 0.05), (0.05, 0.28)))
)  # a cross over the first of 3 x 3 regions
ELBOW = Strokes((((0.15, 0.15), (0.15, 0.85), (0.85, 0.85)),))  # down the left side and along the bottom


def test_a_box_has_its_corners_in_order_and_inside():
    assert box_between(0.8, 1.5, -0.2, 0.5) == (0, 0.5, 0.8, 1)
    for corners in ((0.5, 0, 0.5, 1), (1.2, 0, 1.5, 1), (float("nan"), 0, 1, 1)):
        with pytest.raises(CaptioningError, match="too small"):
            box_between(*corners)


def test_a_page_sends_a_box_or_lines():
    assert region_sent({"box": [0.5, 0.5, 0, 0.25]}) == (0, 0.25, 0.5, 0.5)
    assert region_sent({"lines": [[[0, 1], [0.5, 0.5]], [[1, 0]]]}) == Strokes((((0, 1), (0.5, 0.5)), ((1, 0),)))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (None, "not made of points"),
        ([[0.5, 0.5]], "not made of points"),
        ([[[0.5, 0.5, 0.5]]], "not made of points"),
        ([[[0.5, "wide"]]], "not made of points"),
        ([[[0, 10**400]]], "not made of points"),
        ([], "Nothing was painted"),
        ([[[0.5, 0.5]], []], "Nothing was painted"),
        ([[[0.5, -0.01]]], "outside"),
        ([[[0.5, 0.5], [1.01, 0.5]]], "outside"),
        ([[[float("nan"), 0.5]]], "outside"),
        ([[[0.5, 0.5]]] * (MOST_POINTS + 1), "4,000 points"),
    ],
)
def test_what_is_no_painting_is_refused(lines, says):
    with pytest.raises(CaptioningError, match=says):
        strokes_along(lines)
    assert strokes_along([[[0.5, 1]]] * MOST_POINTS)


@pytest.mark.parametrize("shape", [(400, 400), (200, 600), (600, 200), (20, 16)])
def test_the_brush_is_round_on_pictures_of_any_shape(shape):
    image = np.zeros((*shape, 3), "uint8")
    dot, radius = looked_at(Strokes((((0.5, 0.5),),)), image), BRUSH / 2
    assert min(dot.shape) == SIDE
    assert dot.shape[0] / dot.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.01)
    rows, columns = np.nonzero(dot)
    assert np.ptp(rows) == np.ptp(columns) == pytest.approx(BRUSH, abs=1)
    assert dot.sum() == pytest.approx(np.pi * radius**2, rel=0.08)
    line = looked_at(Strokes((((0, 0.5), (1, 0.5)),)), image)
    assert line.any(axis=0).all()  # from one side to the other, no wider than the brush
    assert np.ptp(np.nonzero(line)[0]) <= BRUSH


def test_the_edges_are_those_of_the_region():
    image = np.zeros((300, 600, 3), "uint8")
    assert box_around(None, image) == WHOLE
    assert box_around((0.1, 0.2, 0.3, 0.4), image) == (0.1, 0.2, 0.3, 0.4)
    painted = Strokes((((0.5, 0.5), (0.75, 0.5)), ((0.6, 1.0),)))
    assert box_around(painted, image) == pytest.approx((0.5 - 0.0375, 0.5 - 0.075, 0.75 + 0.0375, 1), abs=0.006)


@pytest.mark.parametrize(
    ("region", "open_regions"), [((0.0, 0.0, 0.3, 0.3), {0}), (CORNER, {0}), (ELBOW, {0, 3, 6, 7, 8})]
)
def test_nothing_but_the_region_is_looked_at(pool, captioner, photo, region, open_regions):
    seen = session.describe(pool, "small", photo, region=region)
    assert seen.caption.text == captioner.caption(photo, region=seen.where).text
    reworded = session.reworded(pool, seen, 1, seen.choices[1][0][0])
    for found in (seen, reworded, session.turned(pool, seen, 1)):
        assert found.region == region
        for word in found.caption.words:
            assert set(np.flatnonzero(word.attention > 1e-6)) <= open_regions
    chosen = captioner.alternatives(seen.pixels, seen.captions[1], region=seen.where)
    for found, wanted in zip(session.turned(pool, seen, 1).choices, chosen, strict=True):
        assert dict(found) == pytest.approx(dict(wanted), abs=1e-5)


def test_other_words_are_those_of_what_was_looked_at(pool, captioner, photo):
    twice = dataclasses.replace(captioner.options, num_captions=2, mirrored=True)
    seen = session.describe(pool, "small", photo, twice)
    reworded = session.reworded(pool, seen, 1, seen.choices[1][0][0])
    for found in (seen, reworded, session.turned(pool, seen, 1)):
        wanted = captioner.alternatives(found.pixels, found.caption, twice)
        assert [dict(each) for each in found.choices] == [pytest.approx(dict(each), abs=1e-5) for each in wanted]


def test_what_was_marked_stays_in_sight(pool, photo):
    seen = session.describe(pool, "small", photo)  # of 48 x 40 pixels, 240 x 200 where it is drawn
    for region, kind, path in (
        (None, "", ""),
        ((0.25, 0.5, 0.75, 1), "box", "M50.0 120.0L150.0 120.0L150.0 240.0L50.0 240.0Z"),
        (Strokes((((0, 1), (0.5, 0.5)), ((1, 0),))), "brush", "M0.0 240.0L100.0 120.0h0M200.0 0.0h0"),
    ):
        stage = rendering.stage(dataclasses.replace(seen, region=region), 0)
        assert f'data-kind="{kind}" viewBox="0 0 200.0 240.0"' in stage
        assert re.findall(r' d="([^"]*)"', stage) == [path]
        assert ("Whole picture" in stage) is (region is not None)


def test_feedback_keeps_what_was_painted(pool, photo, tmp_path):
    seen = session.describe(pool, "small", photo, region=CORNER)
    store = FeedbackStore(tmp_path / "feedback.db")
    said = store.add(seen.view, bundle="small", caption=seen.caption.text, options=seen.how, rating=4)
    assert strokes_along(said.options["region"]["lines"]) == CORNER
