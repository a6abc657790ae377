"""The app without a browser: what its pages do with pictures and captions, and its programming interface, served."""

import asyncio
import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.app import bundle_report, rendering, tables
from captioning.data.feedback import FeedbackStore
from captioning.errors import BundleError, CaptioningError, ImageError
from captioning.inference.captioner import ENDING, Caption, Word
from captioning.options import DecodeOptions
from captioning.serving import answers, session, side_by_side
from captioning.serving.adjustments import AS_IT_IS, Adjustments
from captioning.serving.pool import CaptionerPool, find_bundles

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)>\"'"


@pytest.fixture
def seen(pool, photo):
    return session.describe(pool, "small", photo)


def test_bundles_are_found_and_nothing_else_is_taken_for_one(tmp_path, saved):
    (tmp_path / "a.training").mkdir()
    for look in (find_bundles, lambda folder: CaptionerPool([folder])):
        with pytest.raises(BundleError, match="make train"):
            look(tmp_path)
    for name in ("b", "a", ".a.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert [folder.name for folder in find_bundles(tmp_path)] == ["a", "b"]
    with pytest.raises(BundleError, match="share a name"):
        CaptionerPool([saved, saved])
    with pytest.raises(CaptioningError, match="choose one of small"):
        CaptionerPool([saved]).folder("../small")


def test_a_bundle_is_loaded_once_and_lent_to_one_at_a_time(saved, monkeypatch):
    loads, lent, most = [], [], []
    monkeypatch.setattr("captioning.load", lambda folder, **_: loads.append(folder) or object())
    pool = CaptionerPool([saved])

    def borrow(_):
        with pool.captioner("small"):
            lent.append(1)
            most.append(len(lent))
            time.sleep(0.01)
            lent.pop()

    with ThreadPoolExecutor(8) as people:
        list(people.map(borrow, range(8)))
    assert (loads, max(most), len(most)) == ([saved], 1, 8)


def test_a_picture_is_turned_clockwise_then_cut_then_brightened():
    image = np.zeros((4, 8, 3), "uint8")
    image[0, 0] = 100  # the corner that comes to the right
    adjusted = Adjustments(turns=1, brightness=2, crop=(0.5, 0, 1, 0.5)).apply(image)
    assert adjusted.shape == (4, 2, 3)
    assert (adjusted[0, -1, 0], adjusted.sum()) == (200, 600)
    assert Adjustments(brightness=9).apply(image).max() == 255
    assert np.array_equal(AS_IT_IS.apply(image), image)

    image = np.arange(64 * 64 * 3, dtype="uint8").reshape(64, 64, 3)  # a cut of a cut is a cut
    once, again = Adjustments(crop=(0.25, 0.5, 0.75, 1)), Adjustments(crop=(0.5, 0, 1, 0.5))
    assert np.array_equal(once.cropped(again.crop).apply(image), again.apply(once.apply(image)))


def test_a_picture_is_captioned_as_everywhere_else(pool, captioner, photo, seen):
    expected = captioner.caption(photo)
    assert seen.caption.text == expected.text
    assert (len(seen.captions), len(seen.choices)) == (3, len(expected.words) + 1)  # as many as beams; with the end


def test_an_adjusted_picture_is_what_is_captioned(pool, captioner, photo, pictures):
    adjustments = Adjustments(turns=1, crop=(0, 0, 1, 0.5))
    seen = session.describe(pool, "small", photo, adjustments=adjustments)
    assert np.array_equal(seen.view, adjustments.apply(pictures[0]))
    assert seen.caption.text == captioner.caption(seen.view).text
    Image.new("RGB", (1300, 650)).save(photo)
    assert session.describe(pool, "small", photo).view.shape == (320, 640, 3)


def test_another_word_changes_the_rest_and_nothing_before(pool, seen):
    first, second = (word.text for word in seen.caption.words[:2])
    for word, _ in seen.choices[1]:
        fresh = session.reworded(pool, seen, 1, word)
        said = [found.text for found in fresh.caption.words]
        assert said[:2] == ([first] if word == ENDING else [first, word])
        assert len(fresh.choices) == len(said) + 1
    with pytest.raises(CaptioningError, match="none of the other words"):
        session.reworded(pool, seen, 1, second)


def test_a_caption_can_end_anywhere_and_another_be_looked_into(pool, seen):
    assert session.turned(pool, seen, 1).caption is seen.captions[1]
    seen.choices[2].append((ENDING, 0.25))
    fresh = session.reworded(pool, seen, 2, ENDING)
    assert fresh.caption.words == seen.caption.words[:2]
    assert (fresh.caption.text, fresh.caption.score < 0) == (" ".join(word.text for word in fresh.caption.words), True)


def test_controls_are_options_and_back():
    options = DecodeOptions(num_beams=4, num_captions=4, force=("dog", "ball"), forbid=("cat",), length_penalty=0.5)
    values = session.values_of(options)
    assert session.options_of(values) == options
    asked = dict(zip(session.CONTROLS, values, strict=True)) | {"force": " dog,  ball;", "num_captions": 9}
    assert session.options_of(asked.values()) == options  # no more captions than beams
    assert session.options_of((asked | {"strategy": "greedy", "force": ""}).values()).num_captions == 1


def test_refusals_name_controls_and_no_folder_of_this_machine():
    with pytest.raises(CaptioningError) as caught:
        DecodeOptions(min_length=30)
    assert session.explained(caught.value) == "min length 30 cannot be used: at most max length 20 was expected."
    assert session.explained(BundleError("/home/ada/x/scenes lacks a/b")) == "scenes lacks a/b"
    assert "choose it again" in session.explained(ImageError("missing", "/tmp/x/y.png does not exist"))
    flag = "--encoder-weights FILE"
    assert flag in session.explained(BundleError(f"go online, or give {flag}"))


class Parts(HTMLParser):
    """The tags of some HTML that have a data-place, by their class or name, with place and whether they are shown."""

    def __init__(self, *pages):
        super().__init__()
        self.found = {}
        for page in pages:
            self.feed(page)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if "data-place" in named:
            is_shown = named.get("aria-pressed") == "true" if tag == "button" else "hidden" not in named
            self.found.setdefault(named.get("class") or tag, []).append((int(named["data-place"]), is_shown))


def test_every_word_and_the_end_can_be_pressed_and_the_browser_has_what_belongs_to_each(seen):
    count = len(seen.caption.words)
    for place in (1, count, 99):
        parts = Parts(*(show(seen, place) for show in (rendering.reader, rendering.detail, rendering.stage))).found
        shown = min(place, count)
        every = [(number, number == shown) for number in range(count + 1)]
        assert parts["choices"] == parts["span"] == parts["word"] + parts["word end"] == every
        assert parts["heat"] == every[:-1]
    assert rendering.detail(seen, 1).count('class="chip"') == sum(map(len, seen.choices))
    stage = rendering.stage(seen, 0)
    assert len(set(re.findall('data:image/webp[^"]+', stage))) == count
    rows, columns = seen.caption.words[0].attention.shape
    assert f"{rows * columns} regions ({rows} \u00d7 {columns})" in stage
    assert len(re.findall('class="line"', rendering.others(seen))) == 3


def test_play_starts_at_the_first_word_that_is_likely_a_noun():
    def start(text):
        words = tuple(Word(word, 0.5, np.ones((1, 1))) for word in text.split())
        return words[session.first_noun(Caption(text, words, -1.0))].text

    said = {
        "a brown dog runs through the grass": "dog",
        "a group of people are sitting on a stage": "people",
        "two young children play": "children",
        "three men in red shirts": "men",
        "a small wooden boat on a lake": "wooden",  # an adjective that no list of ours has
        "zwei hunde": "zwei",
        "a the": "a",
    }
    assert {text: start(text) for text in said} == said
    assert session.first_noun(Caption("", (), -1.0)) == 0


def test_how_sure_is_said_in_words(seen, photo):
    for confidence, familiar, says in (
        (0.83, True, "83% sure"),
        (0.2, None, "not sure, 20%"),
        (0.83, False, "unfamiliar picture"),
        (None, None, "confidence unknown"),
    ):
        caption = dataclasses.replace(seen.caption, confidence=confidence, familiar=familiar)
        fresh = dataclasses.replace(seen, captions=(caption,), data="holiday")
        assert f">{says}</span>" in rendering.detail(fresh, 0)
        assert "of its own kind (holiday)" in rendering.detail(fresh, 0)
        assert session.told(fresh).endswith(f". {says}")
        row = {"image": "a.png", "caption": "a dog", "confidence": confidence, "verdict": caption.verdict}
        row["problem"] = None
        assert f">{says}</span>" in tables.batch_table([row], [photo])


def test_a_long_file_name_breaks_between_its_words(photo):
    row = {"image": "my_<b>-trip 2.copy.jpg", "caption": "", "confidence": None, "verdict": "unknown", "problem": None}
    broken = "my_<wbr>&lt;b&gt;-<wbr>trip <wbr>2.copy<wbr>.jpg"
    assert f'<span class="file">{broken}</span>' in tables.batch_table([row], [photo])


def test_nothing_shown_is_markup_of_others(seen, tmp_path):
    found = []
    caption = Caption(HOSTILE, (Word(HOSTILE, 0.5, np.ones((2, 2))),), -1.0, confidence=0.5)
    hostile = dataclasses.replace(seen, captions=(caption,), choices=[[(HOSTILE, 0.5)]] * 2, data=HOSTILE)
    store = FeedbackStore(tmp_path / "feedback.db")
    store.add(seen.view, bundle=HOSTILE, caption=HOSTILE, options={}, correction=f"dog {HOSTILE}", comment=HOSTILE)
    row = {"image": HOSTILE, "caption": HOSTILE, "confidence": 0.5, "problem": HOSTILE}
    learning = bundle_report.Learning((HOSTILE,), (np.zeros((8, 8, 3), "uint8"),), ((HOSTILE,), ("dog",)))
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.extend(attributes)
    shows = [show(hostile, 0) for show in (rendering.reader, rendering.detail, rendering.stage)]
    shows += [rendering.others(hostile)]
    shows += [show(HOSTILE) for show in (rendering.notice, rendering.spoken, rendering.about)] + [
        tables.batch_table([row], [""])
    ]
    for page in (*shows, tables.lapse(learning), tables.feedback_list(store.list(), store, most=9)):
        assert "onerror" in page
        parser.feed(page)
    assert {("type", "button"), ("src", "x")} & set(found) == {("type", "button")}
    assert not {name for name, _ in found} & {"onerror", "alert(1)"}


def test_rows_are_harmless_to_spreadsheets(pool, photo, tmp_path):
    (tmp_path / "=1+1.png").write_bytes(b"")
    rows = list(answers.caption_each(pool, "small", [photo, str(tmp_path / "=1+1.png")]))
    assert [(bool(row["caption"]), row["sure"]) for row in rows] == [(True, None), (False, None)]
    assert [row["problem"] and "is empty" in row["problem"] for row in rows] == [None, True]
    lines = list(csv.reader(io.StringIO(answers.rows_csv(rows))))
    assert [line[0] for line in lines] == ["image", "photo.png", "'=1+1.png"]
    assert json.loads(answers.rows_json(rows)) == rows


def test_help_waits_for_nothing_heavy():
    script = "import app_gradio, atexit, sys; atexit.register(lambda: print(*sys.modules)); app_gradio.main(['--help'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"gradio", "keras", "numpy", "PIL"}


@pytest.mark.parametrize("is_public", [True, False])
def test_feedback_is_shown_to_nobody_but_the_person_at_this_computer(pool, tmp_path, is_public):
    from captioning.app.page import build_page

    async def build():  # in a loop that is closed again
        return build_page(pool, FeedbackStore(tmp_path / "feedback.db"), is_public=is_public)

    page = asyncio.run(build())
    tabs = [block.label for block in page.blocks.values() if block.get_block_name() == "tabitem"]
    keys = [label.key for label in tabs]
    assert keys == ["tab_caption", "tab_batch", "tab_captioner", *([] if is_public else ["tab_feedback"])]
    assert ("Export as CSV" in str(page.get_config_file())) is not is_public


def test_the_notes_name_the_limits():
    from captioning.app.tabs import batch
    from captioning.app.texts import TEXTS

    for texts in TEXTS.values():
        assert f" {batch.MOST} " in texts["batch_about"]
        assert f" {side_by_side.MOST} " in texts["compare_about"]
