"""What the page tells of a bundle, also of a stranger's: only files that it lists, and which of them are damaged."""

import asyncio
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from captioning.app import bundle_report, tables
from captioning.app.bundle_report import read_report
from captioning.data.scenes.dataset import SIZES, draw_scene
from captioning.serving.pool import CaptionerPool
from tests.inference.test_bundle import replace_file

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CARD = {
    "split": "dev",
    "images": 3,
    "scores": {"BLEU-1": {"value": 0.5, "low": 0.4, "high": 0.6}},
    "shuffled_images": {"CIDEr-D": 0.1},
    "variety": {"distinct_captions": 1.0},
}

HISTORY = b"epoch,loss\n1,3\n2,2\n3,1\n"


@pytest.fixture
def folder(saved, tmp_path):
    """A bundle of which nothing is told yet."""
    return shutil.copytree(saved, tmp_path / "small")


def png():
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


def test_what_a_bundle_does_not_tell_is_absent(folder):
    report = read_report(folder)
    assert tables.score_table(report.scores) == '<p class="faint">This bundle has no scores.</p>'
    assert tables.lapse(report.learning) == ""
    assert (report.curves, report.card, report.problems) == (None, "This bundle has no model card.", ())


def test_what_a_bundle_tells_is_shown(folder):
    scene = draw_scene(0, SIZES["train"] + 3)
    names = ["dev_00003.jpg", "dev_00004.jpg", "other.jpg"]
    lines = [{"image": f"Images/{name}", "caption": "", "references": list(scene.captions)} for name in names]
    for name, data in (
        ("README.md", b"# it\n\n![where](attention.png)\n\nGood.\n"),
        ("learning.json", json.dumps({"images": names, "captions": [["a b", "c", "d"]] * 2}).encode()),
        ("predictions-dev.jsonl", "\n".join(map(json.dumps, lines)).encode()),
        ("scores.json", json.dumps({"dev": CARD}).encode()),
        ("loss.png", png()),
        ("history.csv", HISTORY),
    ):
        replace_file(folder, name, data)
    report = read_report(folder)
    assert np.array_equal(report.learning.images[0], np.asarray(scene.image))  # drawn again, the others not at hand
    assert report.learning.images[1:] == (None, None)
    page = tables.lapse(report.learning)
    assert [page.count(part) for part in ("<li>", "dev_0000", "other.jpg", "data-play")] == [1, 0, 0, 1]
    unseen = dataclasses.replace(report.learning, images=(None, None, None))
    assert tables.lapse(unseen) == tables.lapse(dataclasses.replace(unseen, captions=unseen.captions[:1])) == ""
    assert "0.500 <small>0.400 to 0.600" in tables.score_table(report.scores)
    assert report.curves.shape == (30, 40, 3)
    assert (report.card, report.problems) == ("# it\n\nGood.\n", ())


@pytest.mark.parametrize(("losses", "is_shown"), [("21", False), ("321", True), ("21--", False), ("321-", True)])
def test_curves_are_shown_where_there_are_curves(folder, losses, is_shown):
    lines = [f"{epoch},{loss.replace('-', '')},0.4" for epoch, loss in enumerate(losses, start=1)]
    replace_file(folder, "history.csv", "\n".join(["epoch,loss,CIDEr-D", *lines]).encode())
    assert read_report(folder).curves is None
    replace_file(folder, "loss.png", png())
    assert (read_report(folder).curves is not None) is is_shown


def test_files_that_are_not_listed_or_lie_elsewhere_are_not_read(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"canary": 1}')
    for name in ("README.md", "learning.json", "loss.png", "predictions-dev.jsonl"):
        (folder / name).symlink_to(secret)
    assert read_report(folder).problems == ()
    assert "canary" not in str(read_report(folder))
    replace_file(folder, "history.csv", HISTORY)
    for name in ("README.md", "learning.json", "loss.png", "predictions-dev.jsonl", "scores.json"):
        replace_file(folder, name, secret.read_bytes())
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
    report = read_report(folder)
    assert "canary" not in str(report).replace(str(tmp_path), "")
    assert len(report.problems) == 4  # the predictions are only read for the learning
    assert all("outside the bundle" in str(problem) for problem in report.problems)


DAMAGED = {
    "scores.json": [
        *(b"", b"{", b"[]", b"\xff", b'{"dev": null}', b'{"dev": {"split": "dev"}}', b"[" * 10**5, b"{}" * 2**20),
        json.dumps({"dev": CARD | {"images": "many"}}).encode(),
        json.dumps({"dev": CARD | {"images": 1e999}}).encode(),
        json.dumps({"dev": CARD | {"scores": {"BLEU-1": [1]}}}).encode(),
    ],
    "learning.json": [
        *(b"{", b"[]", b"null", b'{"images": "abc", "captions": []}', b'{"images": ["a"], "captions": [["b", "c"]]}'),
        *(b'{"images": ["a"], "captions": [[1]]}', b'{"images": ["a"], "captions": "a"}'),
        json.dumps({"images": ["dev_00001.jpg"] * 65, "captions": []}).encode(),
    ],
    "predictions-dev.jsonl": [b"{", b"[]", b"{}", b'{"image": 1, "references": []}', b"\xff"],
    "loss.png": [b"no picture", png()[:60], b"<svg/>"],
    "README.md": [b"\xff\xfe"],
    "history.csv": [b"\xff\xfe", b'loss\n"' + b"a" * 200_000],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_of_a_damaged_file_one_sentence_says_so_and_the_rest_is_shown(folder, name):
    whole = {"scores.json": json.dumps({"dev": CARD}).encode(), "README.md": b"# it\n", "history.csv": HISTORY}
    for other, data in whole.items():
        replace_file(folder, other, data)
    for data in DAMAGED[name]:
        replace_file(folder, name, data)
        report = read_report(folder)
        if not data:
            assert (report.scores, report.problems) == ({}, ())
            continue
        (problem,) = report.problems
        assert re.match(rf"small/{re.escape(name)} \w[^\n]*\.$", str(problem)), problem
        assert tables.score_table(report.scores)
        assert bool(report.scores) is (name != "scores.json")
        assert (report.card == "# it\n") is (name != "README.md")


def test_the_tab_shows_the_sentence_as_text_and_no_folder(folder, tmp_path):
    import gradio as gr

    from captioning.app.tabs.model import ModelTab

    async def build():  # in a loop that is closed again
        with gr.Blocks(analytics_enabled=False):
            return ModelTab(CaptionerPool([folder]))

    replace_file(folder, "learning.json", b"[]")
    tab = asyncio.run(build())
    shown = tab._on_bundle("small")
    assert shown.keys() == set(tab.wiring["outputs"])
    assert "small/learning.json is damaged" in shown[tab._problems]
    replace_file(folder, "scores.json", b"{}")
    (folder / "scores.json").unlink()
    shown = tab._on_bundle("small")
    assert "lacks scores.json" in shown[tab._problems]
    assert str(tmp_path) not in shown[tab._problems]


@pytest.mark.parametrize(
    "card",
    [
        "<img src=http://evil.example/a>",
        "<IMG\nSRC=//evil.example/a>",
        "<!--><img src=//evil.example>-->",
        "</p><svg><image href=//evil.example/a /></svg>",
        "<style>@import url(//evil.example)</style>",
        "![a](http://evil.example/a)",
        "![a][b]\n\n[b]: http://evil.example/a",
        "![a\n](<http://evil.example/a>)",
        "![![b](a)](http://evil.example/a)",
    ],
)
def test_a_model_card_makes_no_browser_ask_another_machine(folder, card):
    replace_file(folder, "README.md", card.encode())
    text = read_report(folder).card
    assert "![" not in text
    assert not re.search(r"<[a-z/!?]", text, re.IGNORECASE)


def test_a_model_card_of_ours_loses_only_its_pictures():
    path = bundle_report.Path(__file__).parents[2] / "artifacts" / "flickr8k"
    text = (path / "README.md").read_text(encoding="utf-8")
    assert bundle_report.model_card(path) == text.replace("![losses and validation score](loss.png)\n\n", "")
