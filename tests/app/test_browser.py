"""The app in a real browser, as a person meets it."""

import pytest

from tests.app.browser import (
    CENTRE,
    DESK,
    PHONE,
    SCENES,
    changed,
    choose_captioner,
    place,
    sentence,
    stroke,
    tap_tab,
    upload,
)

pytestmark = pytest.mark.slow

WIDER = """() => [...document.querySelectorAll('.contain *')]
  .filter(one => one.offsetParent && !one.closest('.scroll, .unseen, .visually-hidden'))
  .filter(one => one.getBoundingClientRect().right > 390.5)
  .map(one => one.outerHTML.slice(0, 200))"""
NAMELESS = """() => [...document.querySelectorAll('button, input, textarea, select, [role=button]')]
  .filter(one => one.offsetParent && !(one.getAttribute('aria-label') || one.title || one.innerText.trim()
    || [...(one.labels || [])].some(label => label.innerText.trim())))
  .map(one => one.outerHTML.slice(0, 200))"""


def test_a_picture_is_captioned_looked_into_put_right_and_remembered(visit, photo):
    page = visit(DESK)
    page.on("dialog", lambda dialog: dialog.accept())
    upload(page, photo)
    page.wait_for_selector("button.word")
    page.locator("button.word").nth(1).click()
    assert place(page) == 1
    chosen = page.locator("button.chip:visible").first.inner_text().split()[0]
    changed(page, sentence, page.locator("button.chip:visible").first.click)
    assert sentence(page).split()[1] == chosen
    said = sentence(page).removesuffix(" .")

    page.get_by_role("button", name="Was it right?").click()
    page.get_by_role("button", name="Send feedback").click()
    assert "The feedback is empty" in page.locator(".toast-body").inner_text()
    page.get_by_role("radio", name="4").click()
    page.get_by_label("What it should say").fill("a red ball")
    page.get_by_role("button", name="Send feedback").click()
    page.get_by_text("Thank you").wait_for()

    page.get_by_role("tab", name="Feedback").click()
    entry = page.locator(".said li")
    entry.wait_for()
    assert entry.locator("p").all_inner_texts()[:2] == [said, "a red ball"]
    assert "rated 4 of 5" in entry.inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    assert "a red ball" in download.value.path().read_text()
    entry.locator("input").check()
    page.get_by_role("button", name="Delete ticked").click()
    page.get_by_text("No feedback fits").wait_for()


def test_a_part_is_marked_and_the_whole_comes_back(visit, photo):
    page = visit(DESK)
    upload(page, photo)
    box = page.locator(".ground").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()
    assert page.locator(".mark").get_attribute("data-kind") == "box"
    page.locator("#stage").get_by_role("button", name="Whole picture").wait_for()
    page.get_by_role("button", name="A part of the picture").click()
    assert page.get_by_label("number input for Right").input_value() == "50"
    shape = page.locator(".ground").get_attribute("style")
    page.get_by_role("button", name="Crop to this part").click()
    page.wait_for_selector(".mark[data-kind='']", state="attached")
    assert page.locator(".ground").get_attribute("style") != shape
    page.locator("#stage").get_by_role("button", name="Whole picture").click()
    page.wait_for_function("style => document.querySelector('.ground').getAttribute('style') === style", arg=shape)


@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["mouse", "finger"])
def test_a_part_is_painted_stroke_by_stroke_and_the_whole_comes_back(visit, photo, screen):
    page = visit(screen)
    upload(page, photo)
    page.wait_for_selector("#desk[data-state='']")
    page.get_by_role("button", name="Paint a part").click()
    page.locator(".ground").evaluate(CENTRE)
    height, path = page.evaluate("scrollY"), page.locator(".mark path")
    stroke(page, (0.2, 0.2), (0.3, 0.5), (0.2, 0.8))
    stroke(page, (0.8, 0.2), (0.8, 0.3))  # before the first is described
    assert path.get_attribute("d").count("M") == 2
    assert page.evaluate("scrollY") == height
    edges = [page.get_by_label(f"number input for {name}") for name in ("Left", "Bottom", "Right")]
    page.get_by_role("button", name="A part of the picture").click()
    page.wait_for_function("edge => Number(edge.value) > 80 && edge.value < 100", arg=edges[2].element_handle())
    assert 8 <= int(edges[0].input_value()) <= 14  # half a brush beyond the points
    assert 84 <= int(edges[1].input_value()) <= 88
    page.locator("button.word").nth(1).click()
    assert path.get_attribute("d").count("M") == 2
    page.locator("#stage").get_by_role("button", name="Whole picture").click()
    page.wait_for_selector(".mark[data-kind='']", state="attached")
    page.get_by_role("button", name="Paint a part").click()
    page.locator(".ground").evaluate(CENTRE)
    stroke(page, (0.5, 0.5), (0.6, 0.5))
    page.locator("#stage").get_by_role("button", name="Whole picture").wait_for()
    assert path.get_attribute("d").count("M") == 1  # what was painted before is forgotten


def test_the_keyboard_is_enough(visit):
    page = visit(DESK)
    choose_captioner(page, SCENES)
    page.locator("button.example").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("button.word")
    page.locator("button.word").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert place(page) == 1
    assert page.evaluate("document.activeElement.dataset.place") == "1"
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.className") != "chip":
        page.keyboard.press("Tab")
    changed(page, sentence, lambda: page.keyboard.press("Space"))


def test_a_phone_is_wide_enough_and_everything_has_a_name(visit, photo):
    page = visit(PHONE)
    upload(page, photo)
    page.wait_for_selector("button.word")
    for name in ("A part of the picture", "Was it right?", "Advanced"):
        page.get_by_role("button", name=name).tap()
    for tab in ("Caption", "Batch", "Compare", "Labels", "Captioner", "Feedback"):
        tap_tab(page, tab)
        page.wait_for_timeout(300)
        assert not page.evaluate(WIDER), tab
        assert not page.evaluate(NAMELESS), tab
    assert "·" not in page.locator("footer").inner_text()


def test_a_bad_picture_is_named_the_next_works_and_others_see_neither(visit, photo, tmp_path):
    page, other = visit(DESK), visit(DESK)
    (tmp_path / "notes.png").write_text("not a picture")
    upload(page, tmp_path / "notes.png")
    page.get_by_text("notes.png is not a picture").first.wait_for()
    page.get_by_role("button", name="Remove Image").click()
    page.get_by_text("No picture yet").wait_for()
    upload(page, photo)
    page.wait_for_selector("button.word")
    assert other.locator("button.word").count() == 0
    assert other.get_by_text("No picture yet").is_visible()


def test_many_pictures_become_a_table(visit, photo, tmp_path):
    page = visit(DESK)
    (tmp_path / "empty.png").write_bytes(b"")
    page.get_by_role("tab", name="Batch").click()
    page.get_by_role("button", name="Caption them all").click()
    page.get_by_text("Choose some pictures first").wait_for()
    assert page.get_by_text("Error", exact=True).locator("visible=true").count() == page.locator(".toast-title").count()
    page.get_by_role("tab", name="Captioner").click()
    page.wait_for_selector(".toast-body", state="detached", timeout=2000)
    page.get_by_role("tab", name="Batch").click()
    assert page.get_by_text("Error", exact=True).locator("visible=true").count() == 0
    page.locator("input[type=file]").last.set_input_files([photo, tmp_path / "empty.png"])
    page.locator(".file-preview tr").nth(1).wait_for()
    page.get_by_role("button", name="Caption them all").click()
    page.get_by_text("1 captioned, 1 could not be read").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    assert "empty.png is empty" in download.value.path().read_text()
