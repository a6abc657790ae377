"""The app in a real browser, as a person meets it; skipped where there is no Chromium or no playwright."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium")]

ROOT = Path(__file__).parents[2]
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}
NAMELESS = """() => [...document.querySelectorAll('button, input, textarea, select, [role=button]')]
  .filter(one => one.offsetParent && !(one.getAttribute('aria-label') || one.title || one.innerText.trim()
    || [...(one.labels || [])].some(label => label.innerText.trim())))
  .map(one => one.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def address(saved, tmp_path_factory):
    """Where the app is served, with a bundle that was never trained."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("app")
    command = [ROOT / "app_gradio.py", "--bundle", saved, "--port", port, "--feedback", folder / "said.db"]
    settings = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=settings)
    assert any("The app is on" in line for line in process.stdout)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(address, browser):
    """Opens the page as a person of their own, and sees to it that no other machine is asked for anything."""
    visits, hosts, errors = [], set(), []

    def visit(screen):
        context = browser.new_context(**screen)
        visits.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: hosts.add(request.url.split(":")[0] + ":" + request.url.split("/")[2]))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("button.example")
        return page

    yield visit
    for context in visits:
        context.close()
    assert {host for host in hosts if not host.startswith(("data:", "blob:"))} == {address.replace("//", "")}
    assert not errors


@pytest.fixture
def photo(pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def upload(page, path) -> None:
    page.locator("#photo input[type=file]").set_input_files(path)


def heat(page) -> str:
    return page.locator(".ground img").get_attribute("src")


def sentence(page) -> str:
    return " ".join(page.locator("button.word").all_inner_texts())


def changed(page, what, act) -> None:
    """Does something and waits until that has become another."""
    before = what(page)
    act()
    for _ in range(200):
        if what(page) != before:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{what.__name__} stays as it was")


def test_a_picture_is_captioned_looked_into_put_right_and_remembered(visit, photo):
    page = visit(DESK)
    page.on("dialog", lambda dialog: dialog.accept())
    upload(page, photo)
    page.wait_for_selector("button.word")
    changed(page, heat, page.locator("button.word").nth(1).click)
    assert page.locator("button.word[aria-pressed=true]").get_attribute("data-value") == "1"
    chosen = page.locator("button.chip").first.inner_text().split()[0]
    changed(page, sentence, page.locator("button.chip").first.click)
    assert sentence(page).split()[1] == chosen
    said = sentence(page).removesuffix(" .")

    page.get_by_role("button", name="Was it right?").click()
    page.get_by_role("button", name="Send feedback").click()
    assert "Nothing was said" in page.locator(".toast-body").inner_text()
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


def stroke(page, *points) -> None:
    """Drags over the picture, by finger where the screen takes one; points are shares of the picture."""
    box = page.locator(".ground").bounding_box()
    first, *others = ({"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points)
    if page.evaluate("navigator.maxTouchPoints"):
        touch = page.context.new_cdp_session(page)
        for kind, fingers in (("Start", [first]), *(("Move", [point]) for point in others), ("End", [])):
            touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": fingers})
        return
    page.mouse.move(**first)
    page.mouse.down()
    for point in others:
        page.mouse.move(**point, steps=4)
    page.mouse.up()


@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["mouse", "finger"])
def test_a_part_is_painted_stroke_by_stroke_and_the_whole_comes_back(visit, photo, screen):
    page = visit(screen)
    upload(page, photo)
    page.locator(".ground").scroll_into_view_if_needed()
    page.get_by_role("button", name="Paint a part").click()
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
    changed(page, heat, page.locator("button.word").nth(1).click)
    assert path.get_attribute("d").count("M") == 2
    page.locator("#stage").get_by_role("button", name="Whole picture").click()
    page.wait_for_selector(".mark[data-kind='']", state="attached")
    page.get_by_role("button", name="Paint a part").click()
    page.locator(".ground").scroll_into_view_if_needed()
    stroke(page, (0.5, 0.5), (0.6, 0.5))
    page.locator("#stage").get_by_role("button", name="Whole picture").wait_for()
    assert path.get_attribute("d").count("M") == 1  # what was painted before is forgotten


def test_the_keyboard_is_enough(visit):
    page = visit(DESK)
    page.locator("button.example").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("button.word")
    page.locator("button.word").first.focus()
    page.keyboard.press("ArrowRight")
    changed(page, heat, lambda: page.keyboard.press("Enter"))
    assert page.evaluate("document.activeElement.dataset.value") == "1"
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.className") != "chip":
        page.keyboard.press("Tab")
    changed(page, sentence, lambda: page.keyboard.press("Space"))


def test_play_walks_to_the_end(visit, photo):
    page = visit(DESK)
    upload(page, photo)
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_text("The picture", exact=True).wait_for()
    page.get_by_role("button", name="Play").wait_for()


def test_a_phone_is_wide_enough_and_everything_has_a_name(visit, photo):
    page = visit(PHONE)
    upload(page, photo)
    page.wait_for_selector("button.word")
    for name in ("A part of the picture", "Was it right?", "How the caption is sought", "Turn, brighten"):
        page.get_by_role("button", name=name).tap()
    for tab in ("Caption", "Batch", "Captioner", "Feedback"):
        page.get_by_role("tab", name=tab, exact=True).tap()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        assert not page.evaluate(NAMELESS), tab


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
    page.locator("input[type=file]").last.set_input_files([photo, tmp_path / "empty.png"])
    page.locator(".file-preview tr").nth(1).wait_for()
    page.get_by_role("button", name="Caption them all").click()
    page.get_by_text("1 captioned, 1 could not be read").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Table as JSON").click()
    assert "empty.png is empty" in download.value.path().read_text()
