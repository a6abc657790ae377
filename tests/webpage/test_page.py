"""The built page in a real browser; skipped where Chromium, playwright or ONNX Runtime Web is absent (make web)."""

import contextlib
import functools
import gzip
import http.server
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.data.scenes.dataset import draw_scene
from captioning.inference.captioner import Captioner
from captioning.inference.confidence import SURE
from captioning.inference.engine_onnx import OnnxEngine, OnnxModel
from web import build

pytestmark = pytest.mark.slow

BUNDLE = build.ROOT / "artifacts/flickr8k"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}
READY, CAPTION, FAILURE = "#status:has-text('Ready')", "#result:not([hidden]) .word", "#failure:not([hidden])"
AGREE, SCENES = 50, 7
WIDER = """() => [...document.querySelectorAll('body *')].filter(one => one.offsetParent
  && !one.closest('.unseen') && one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML)"""
NAMELESS = """() => [...document.querySelectorAll('button, input, video, img')].filter(one => one.offsetParent
  && !(one.getAttribute('aria-label') || one.alt || one.innerText?.trim()
    || [...(one.labels || [])].some(label => label.innerText.trim()))).map(one => one.outerHTML)"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A static host that says nothing, and refuses what `missing` names."""

    missing = ""

    def do_GET(self) -> None:
        if self.missing and self.missing in self.path:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def whole():
    """The captioner of the page on Keras."""
    if not (build.RUNTIME / build.WASM).is_file():
        pytest.skip("no ONNX Runtime Web; run make web first")
    from captioning.inference import bundle

    return bundle.load(BUNDLE, engine="keras")


@pytest.fixture(scope="module")
def folder(whole, tmp_path_factory):
    """The built page, within the size that is promised."""
    output = tmp_path_factory.mktemp("page") / "dist"
    assert build.build(whole, output) <= build.LARGEST
    return output


@pytest.fixture(scope="module")
def stored(whole, folder):
    """The captioner of the page in Python, on the page's own graphs."""
    files = {path.name.split("-")[0] + ".onnx": gzip.decompress(path.read_bytes()) for path in folder.glob("*.onnx.gz")}
    model = OnnxModel(files, whole.model.config, {}, is_ours=True)
    settings = {"image_size": whole.image_size, "options": whole.options, "calibration": whole.calibration}
    settings["familiarity"] = whole.familiarity
    return Captioner(OnnxEngine(model, [model]), whole.tokenizer, **settings)


@contextlib.contextmanager
def serving(folder):
    """The address of a static host of this folder, its handler and its server."""
    handler = type("Handler", (Quiet,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.daemon_threads = True
        yield f"http://127.0.0.1:{server.server_port}/", handler, server
        server.shutdown()


@pytest.fixture
def host(folder):
    with serving(folder) as served:
        yield served


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@pytest.fixture
def visit(host, browser):
    """Opens the page as a person of their own, and sees to it that only its host is asked for anything."""
    contexts, hosts, errors = [], set(), []

    def visit(screen=DESK, until=READY):
        contexts.append(browser.new_context(**screen))
        contexts[-1].on("request", lambda request: hosts.add(request.url.split("?")[0].rsplit("/", 1)[0] + "/"))
        page = contexts[-1].new_page()
        page.set_default_timeout(90_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(host[0])
        page.wait_for_selector(until)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert {one for one in hosts if not one.startswith(("data:", "blob:"))} == {host[0]}
    assert not errors


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A drawn scene as a picture's file."""
    path = tmp_path_factory.mktemp("photo") / "scene.png"
    draw_scene(1, 0).image.save(path)
    return path


def choose(page, path) -> str:
    """The caption of a picture's file."""
    before = page.locator("#photo").get_attribute("src") or ""
    page.locator("#file").set_input_files(path)
    page.wait_for_selector(f"#photo:not([src='{before}'])")
    page.wait_for_selector(CAPTION)
    return " ".join(page.locator(".word").all_text_contents()).replace(" 's", "'s")


def test_fifty_captions_are_those_of_python(visit, stored, tmp_path):
    scenes = [draw_scene(2, number).image for number in range(SCENES)]
    squares = [np.asarray(scene.resize((stored.image_size,) * 2)) for scene in scenes]
    quarters = [np.rot90(square, turns) for square in squares for turns in range(4)]
    pixels = [np.ascontiguousarray(one) for each in quarters for one in (each, 255 - each)][:AGREE]
    wanted = stored.caption(pixels)
    assert len({caption.text for caption in wanted}) >= AGREE // 3
    page = visit()
    for number, (picture, caption) in enumerate(zip(pixels, wanted, strict=True)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        assert choose(page, tmp_path / f"{number}.png") == caption.text
        says = {"sure": f"Sure, {caption.confidence:.0%}", "not sure": f"Not sure, {caption.confidence:.0%}"}
        assert page.locator("#sign").inner_text() == says.get(caption.verdict, "Unfamiliar picture")


def test_words_are_stepped_through_by_mouse_keys_slider_and_player(visit, photo):
    page = visit()
    words = choose(page, photo).split()
    heat = "() => document.querySelector('#heat').getContext('2d').getImageData(0, 0, 112, 112).data.join()"
    alone = page.evaluate(heat)
    page.locator(".word").nth(1).click()
    assert page.locator("#shown").inner_text().startswith(f"Attention of \u201c{words[1]}\u201d")
    second = page.evaluate(heat)
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.place") == "2"
    assert page.locator(".word[aria-pressed=true]").inner_text() == words[2]
    assert len({alone, second, page.evaluate(heat)}) == 3
    page.locator("#place").focus()
    page.keyboard.press("Home")
    assert page.evaluate(heat) == alone
    assert page.locator("#shown").inner_text() == ""
    page.get_by_role("button", name="Play").click()
    page.wait_for_selector(".word[data-place='2'][aria-pressed=true]")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Previous word").click()
    assert page.locator("#place").get_attribute("aria-valuetext") == f"2 of {len(words)}: {words[1]}"


def test_it_works_offline_after_the_first_visit(visit, photo, host):
    page = visit()
    page.get_by_text("works offline from now on").wait_for()
    said = choose(page, photo)
    host[2].shutdown()
    host[2].server_close()
    page.reload()
    page.wait_for_selector(READY)
    assert choose(page, photo) == said


def test_a_failed_download_is_named_and_tried_again(visit, photo, host):
    host[1].missing = "step-"
    page = visit(until=FAILURE)
    assert "could not be downloaded" in page.locator("#failure").inner_text()
    page.locator("#file").set_input_files(photo)
    page.wait_for_selector(FAILURE)
    host[1].missing = ""
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(CAPTION)
    assert not page.locator("#failure").is_visible()


def test_the_camera_is_captioned_live_and_a_picture_is_kept(visit):
    page = visit()
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_selector(CAPTION)
    assert page.locator("#video").is_visible()
    assert not page.locator("#player").is_visible()
    page.get_by_role("button", name="Take this picture").click()
    page.wait_for_selector("#player:visible")
    assert page.locator("#photo").is_visible()
    assert page.get_by_role("button", name="Use the camera").is_visible()


def test_what_goes_wrong_is_said_in_a_sentence(visit, photo, tmp_path):
    page = visit()
    (tmp_path / "notes.png").write_text("not a picture")
    page.locator("#file").set_input_files(tmp_path / "notes.png")
    page.get_by_text("no picture that the browser can read").wait_for()
    Image.new("RGB", (300, 9)).save(tmp_path / "line.png")
    page.locator("#file").set_input_files(tmp_path / "line.png")
    page.get_by_text("too small or too narrow").wait_for()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError')); }"
    )
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("No camera was found").wait_for()
    choose(page, photo)
    assert not page.locator("#failure").is_visible()


def test_a_browser_without_simd_is_told_so(browser, host):
    page = browser.new_page()
    page.add_init_script("WebAssembly.validate = () => false;")
    page.goto(host[0])
    page.get_by_text("needs WebAssembly with SIMD").wait_for()
    page.close()


def test_no_other_host_can_be_reached(visit, browser, folder):
    with serving(folder) as (other, _, _):
        page = visit()
        ask = "url => fetch(url, {mode: 'no-cors'}).then(() => 'reached', error => error.name)"
        assert page.evaluate(ask, other) == "TypeError"
        assert page.workers[0].evaluate(ask, other) == "TypeError"
        free = browser.new_page()  # without the page's policy
        assert free.evaluate(ask, other) == "reached"
        free.close()


def test_a_phone_is_wide_enough_and_everything_has_a_name(visit, photo):
    page = visit(PHONE)
    assert not page.evaluate(WIDER)
    choose(page, photo)
    page.locator(".word").nth(1).tap()
    assert not page.evaluate(WIDER)
    assert not page.evaluate(NAMELESS)


def test_settings_of_the_page_are_those_of_the_bundle(folder):
    settings = json.loads((folder / "captioner.json").read_text())
    config = json.loads(Path(BUNDLE / "config.json").read_text())
    assert settings["decoding"] == config["decoding"]
    assert settings["calibration"] == config["calibration"]
    assert settings["sure"] == SURE
    assert settings["familiarity"]["limit"] == config["familiarity"]["limit"]
