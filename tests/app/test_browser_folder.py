"""The Folder tab in a real browser, with ten thousand pictures."""

import numpy as np
import pytest
from PIL import Image

from tests.app.browser import DESK, PHONE
from tests.app.test_browser import NAMELESS, WIDER

pytestmark = pytest.mark.slow

PICTURES = 10_000
SCROLL = """async steps => {
  const grid = document.querySelector('.folder .grid'), found = [];
  for (let step = 1; step <= steps; step += 1) {
    const began = performance.now();
    grid.scrollTop = step / steps * (grid.scrollHeight - grid.clientHeight);
    grid.dispatchEvent(new Event('scroll'));
    await new Promise(done => requestAnimationFrame(() => {
      const drawn = performance.now();
      grid.getBoundingClientRect();
      setTimeout(() => done(found.push(performance.now() - drawn)));
    }));
  }
  return found;
}"""
SPENT = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of ten thousand small pictures, each another one."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    colours = rng.integers(0, 256, (PICTURES, 3, 4, 3), dtype=np.uint8)
    for number, pixels in enumerate(colours):
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{number:05}.jpg")
    return folder


def open_folder(page, folder) -> float:
    """Opens a folder in the tab; the seconds until the first picture is there."""
    page.get_by_role("tab", name="Folder").click()
    page.locator(".folder input[name=folder]").fill(str(folder))
    began = page.evaluate("performance.now()")
    page.locator(".folder form.open button").click()
    page.wait_for_function("() => [...document.querySelectorAll('.folder .cell img')].some(one => one.naturalWidth)")
    return (page.evaluate("performance.now()") - began) / 1000


def spent(tools) -> float:
    """The milliseconds that the page's own thread has worked on scripts, styles and layout."""
    found = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
    return 1000 * sum(found[name] for name in SPENT)


def test_ten_thousand_pictures_are_scrolled_searched_and_corrected(visit, pictures, record_property):
    page, steps = visit(DESK), 100
    record_property("s to the first picture, first visit", round(open_folder(page, pictures), 1))
    page.get_by_text("10,000 pictures").wait_for()
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable")
    before = spent(tools)
    page.evaluate(SCROLL, steps)
    worked = (spent(tools) - before) / steps
    record_property("ms of the page's thread for a jump of a hundred pictures", round(worked, 1))
    assert worked < 50
    assert page.locator(".folder .cell").count() < 100  # only those in sight are in the page
    memory = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
    record_property("MB of scripts' memory", round(memory))
    assert memory < 100
    page.locator(".folder .cell img").last.wait_for()

    page.locator(".folder input[name=words]").fill("00042")
    page.get_by_text("1 picture", exact=False).first.wait_for()
    page.locator(".folder .cell", has_text="00042.jpg").click()
    page.keyboard.type("a quilt")
    page.keyboard.press("Enter")
    page.locator(".folder .cell .text", has_text="a quilt").wait_for()
    page.locator(".folder input[name=words]").fill("quilts")
    page.locator(".folder .cell", has_text="00042.jpg").wait_for()
    page.locator(".folder [data-act=undo]").click()
    page.wait_for_function("() => !document.querySelector('.folder .cell .text')?.textContent.includes('quilt')")
    page.reload()
    page.wait_for_function("window.captioning")
    record_property("s to the first picture, second visit", round(open_folder(page, pictures), 1))


def test_a_phone_is_wide_enough_and_everything_has_a_name(visit, pictures):
    page = visit(PHONE)
    open_folder(page, pictures)
    page.locator(".folder summary").click()
    assert page.evaluate(WIDER) == []
    assert page.evaluate(NAMELESS) == []
