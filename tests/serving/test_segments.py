"""Segments on the page, with a stand-in for the model: found, shown, chosen by a place or an entry, captioned."""

import asyncio
import dataclasses

import numpy as np
import pytest

from captioning.app import segment_html
from captioning.app.tabs.segments import place_of
from captioning.data.feedback import FeedbackStore
from captioning.errors import CaptioningError
from captioning.extras.segments import Segment
from captioning.inference.protocol import shows_attention
from captioning.serving.pool import CaptionerPool
from captioning.serving.segment_session import captioned, find_segments
from tests.extras.stand_ins import Halves
from tests.serving.service import jpeg


@pytest.fixture
def halves(exported, tmp_path, monkeypatch):
    """A pool with a segmenter, and the path of a picture."""
    monkeypatch.setattr("captioning.serving.pool.make_segments_ready", lambda name, **_: None)
    monkeypatch.setattr("captioning.serving.pool.load_segmenter", lambda name, **_: Halves())
    (tmp_path / "photo.jpg").write_bytes(jpeg(1))
    return CaptionerPool([exported], segments=["halves", "halves"], offline=True), str(tmp_path / "photo.jpg")


@pytest.fixture
def seen(halves):
    pool, photo = halves
    return find_segments(pool, "halves", pool.names[0], photo, 0.5)


def test_segments_are_found_and_the_words_of_the_caption_linked(seen):
    assert [each.label for each in seen.segments] == ["<dog>", "sky"]
    assert all(each.mask.shape == seen.view.shape[:2] for each in seen.segments)
    assert shows_attention(seen.caption)
    assert len(seen.links) == len(seen.caption.words)


def test_a_place_chooses_the_smallest_segment_there(seen):
    assert [seen.at(across, 0.5) for across in (0, 0.4, 0.6, 1)] == [0, 0, 1, 1]
    everything = Segment("all", 0.9, np.ones(seen.view.shape[:2], bool))
    seen = dataclasses.replace(seen, segments=(everything, seen.segments[0]))
    assert [seen.at(across, 0.5) for across in (0.2, 0.8)] == [1, 0]
    assert dataclasses.replace(seen, segments=seen.segments[1:]).at(0.8, 0.5) is None
    assert place_of("1", seen) == 1
    assert place_of([0.2, 0.5], seen) == 1
    for sent in ("x", None, {}, [1], [2, 0.5], [float("nan"), 0.5], ["a", "b"], [[1], 2]):
        with pytest.raises(CaptioningError, match="press a mask or an entry"):
            place_of(sent, seen)


def test_a_segment_is_captioned_once(halves, seen):
    pool, _ = halves
    one = captioned(pool, seen, 1)
    assert (one.chosen, list(one.captions)) == (1, [1])
    other = captioned(pool, one, 0)
    assert sorted(other.captions) == [0, 1]
    assert captioned(pool, other, 1).captions[1] is one.captions[1]
    for place in (-1, 2):
        with pytest.raises(CaptioningError, match="no longer shown"):
            captioned(pool, seen, place)


def test_what_is_shown_is_escaped_and_says_which_segment_it_belongs_to(halves, seen):
    shown = segment_html.stage(seen)
    assert shown.count('class="mask"') == shown.count('class="tag"') == 2
    listed = segment_html.panel(captioned(halves[0], seen, 0))
    assert "&lt;dog&gt;" in listed
    assert "<dog>" not in listed
    assert 'data-chosen="0"' in listed
    assert listed.count('data-event="select"') == 2
    assert listed.count('class="of-segment"') == 1
    assert listed.count("data-light") == sum(link is not None for link in seen.links)
    assert "data-chosen" not in segment_html.panel(seen)
    none = segment_html.panel(dataclasses.replace(seen, segments=(), links=(None,) * len(seen.links)))
    assert 'data-t="segments_none"' in none
    plain = dataclasses.replace(seen.caption, words=(dataclasses.replace(seen.caption.words[0], attention=None),))
    told = segment_html.panel(dataclasses.replace(seen, caption=plain, links=(None,)))
    assert 'data-t="segments_unlinked"' in told


def test_a_mask_is_opaque_at_its_edge_and_clear_outside():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    alpha = segment_html.mask_image(mask, 0)[..., 3]
    assert (alpha[10, 10], alpha[5, 5], alpha[0, 0]) == (segment_html.INSIDE, segment_html.EDGE, 0)


def test_the_tab_is_there_where_a_segmenter_is_named(halves, tmp_path):
    from captioning.app.page import build_page

    async def build(pool):
        return build_page(pool, FeedbackStore(tmp_path / "said.db"), is_public=False)

    pool, _ = halves
    assert pool.segmenters == ["halves"]
    names = [block.elem_id for block in asyncio.run(build(pool)).blocks.values()]
    assert names.count("segmented") == 1
    assert "questions" not in names


def test_what_cannot_be_segmented_is_refused(halves):
    pool, photo = halves
    with pytest.raises(CaptioningError, match="There is no picture yet"):
        find_segments(pool, "halves", pool.names[0], None, 0.5)
    with pytest.raises(CaptioningError, match="No segmenter here is called other; choose one of halves"):
        find_segments(pool, "other", pool.names[0], photo, 0.5)


def test_a_model_that_cannot_be_had_stops_the_start(exported):
    with pytest.raises(CaptioningError, match="No segmenter is called nothing"):
        CaptionerPool([exported], segments=["nothing"], offline=True)
