"""What the page shows of a caption in a real browser: at once, without a server, in sight, and only while it holds."""

import pytest
from PIL import Image

from tests.app.browser import DESK, PHONE, SCENES, changed, choose_captioner, sentence, slow, upload

pytestmark = pytest.mark.slow

CONTRAST = """selector => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = what => getComputedStyle(document.querySelector(what));
  const found = [style(selector).color, style('body').backgroundColor];
  const [one, other] = found.map(light).sort((a, b) => b - a);
  return (one + 0.05) / (other + 0.05);
}"""


def test_play_starts_at_a_noun_and_walks_to_the_end_word_by_word(visit, photo):
    page = visit(DESK)
    upload(page, photo)
    page.wait_for_selector("button.word")
    start, last = (int(page.locator("p.caption").get_attribute(f"data-{name}")) for name in ("start", "last"))
    page.locator("button.word").last.click()
    page.route("**/*", lambda route: route.abort())  # the server no longer answers
    page.evaluate("""() => { window.places = []; new MutationObserver(() => {
      const place = Number(document.querySelector('.word[aria-pressed=true]')?.dataset.place);
      if (place !== window.places.at(-1)) window.places.push(place);
    }).observe(document.querySelector('#reader'), {attributes: true, subtree: true}); }""")
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Play").click()  # goes on from there
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_text("The picture", exact=True).wait_for()
    page.get_by_role("button", name="Play").wait_for()
    assert [each for each in page.evaluate("window.places") if each == each] == list(range(start, last + 1))


def test_a_slider_leads_from_the_picture_to_its_heat(visit, photo):
    page = visit(DESK)
    upload(page, photo)
    page.wait_for_selector("button.word")
    page.get_by_label("From picture to attention").fill("30")
    opacity = "() => getComputedStyle(document.querySelector('.heat:not([hidden])')).opacity"
    assert page.evaluate(opacity) == "0.3"
    changed(page, sentence, page.locator("button.chip:visible").first.click)
    assert page.evaluate(opacity) == "0.3"
    assert "regions (" in page.locator("#stage").inner_text()


def test_a_caption_is_copied(visit, photo):
    page = visit(DESK)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    upload(page, photo)
    page.get_by_role("button", name="Copy caption").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == sentence(page).removesuffix(" .")
    page.get_by_role("button", name="Copy caption").wait_for()


def test_nothing_stale_stands_while_a_captioner_works(visit, photo, pictures, tmp_path):
    page = visit(DESK)
    upload(page, photo)
    page.wait_for_selector("button.word")
    Image.fromarray(pictures[1]).save(tmp_path / "other.png")
    slow(page, 2)
    stale = page.locator(".word:visible, .sign:visible, .ground:visible, #more:visible")
    for act in (
        lambda: choose_captioner(page, SCENES),
        lambda: upload(page, tmp_path / "other.png"),
        lambda: choose_captioner(page, "small"),
    ):
        act()
        page.locator("#state").get_by_text("Captioning ...").wait_for()
        assert stale.count() == 0
    page.wait_for_selector("button.word")
    assert page.locator("#state").is_hidden()
    page.get_by_role("button", name="Caption again").click()
    page.locator(".word").first.wait_for(state="hidden", timeout=1000)
    assert page.locator("#desk").get_attribute("data-state") == "again"
    page.locator(".word").first.wait_for()
    page.get_by_role("button", name="Remove Image").click()
    page.wait_for_selector("#desk[data-state=empty]", state="attached")
    assert stale.count() == 0
    page.get_by_text("No picture yet").wait_for()


def test_a_request_that_fails_leaves_no_caption_of_another_picture(visit, photo, pictures, tmp_path):
    page = visit(DESK)
    upload(page, photo)
    page.wait_for_selector("button.word")
    Image.fromarray(pictures[1]).save(tmp_path / "other.png")
    full = {"status": 503, "content_type": "application/json", "body": '{"detail": "Queue is full."}'}
    page.route("**/queue/join*", lambda route: route.fulfill(**full))
    upload(page, tmp_path / "other.png")
    page.get_by_text("the request failed").wait_for()
    assert page.locator(".word:visible").count() == 0
    page.locator(".toast-body").first.wait_for()
    page.get_by_role("tab", name="Batch").click()
    page.wait_for_selector(".toast-body", state="detached", timeout=2000)


def test_examples_are_shown_where_they_suit_the_captioner(visit):
    page = visit(DESK)
    assert page.locator("button.example").count() == 0
    assert page.get_by_text("It does not say which pictures").is_visible()
    choose_captioner(page, SCENES)
    page.locator("button.example").nth(5).wait_for()
    page.get_by_text("Good for the built-in drawn scenes").wait_for()
    choose_captioner(page, "small")
    page.wait_for_selector("button.example", state="detached")


def test_three_settings_are_in_sight_and_the_caption_stays_there(visit, photo):
    page = visit(DESK)
    upload(page, photo)
    page.wait_for_selector("button.word")
    settings = page.locator("#tools .block:visible")
    names = [text.split("\n")[0] for text in settings.all_inner_texts() if text.strip()]
    assert [name for name in names if name in ("Strategy", "Beams", "Max length")] == [
        "Strategy",
        "Beams",
        "Max length",
    ]
    assert page.get_by_text("Temperature").is_hidden()
    page.get_by_role("button", name="Advanced").click()
    page.get_by_text("Sampling seed").first.scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, 700)")
    for part in (page.locator("p.caption"), page.get_by_role("button", name="Caption again")):
        box = part.bounding_box()
        assert 0 <= box["y"] <= 150


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_selected_tab_can_be_read(visit, scheme):
    page = visit(DESK | {"color_scheme": scheme})
    assert page.evaluate(CONTRAST, "button[role=tab][aria-selected=true]") >= 4.5


def test_a_caption_is_in_sight_after_an_upload_on_a_phone(visit, photo):
    page = visit(PHONE)
    page.evaluate("scrollTo(0, 400)")
    upload(page, photo)
    page.wait_for_selector("button.word")
    page.wait_for_timeout(500)
    box = page.locator("p.caption").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 844 / 2
