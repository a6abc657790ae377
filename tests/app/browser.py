"""What the tests in a real browser share: screens, and what a person does on the page."""

import pytest

DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}
LATER = """pause => {
  const fetch = window.fetch;
  window.fetch = async (...asked) => {
    if (String(asked[0]).includes('/queue/join')) await new Promise(done => setTimeout(done, pause));
    return fetch(...asked);
  };
}"""
SCENES = "Drawn scenes"  # what the second captioner is called
CENTRE = "ground => ground.scrollIntoView({block: 'center'})"  # clear of the caption, which stays at the top


def upload(page, path) -> None:
    page.locator("#photo input[type=file]").set_input_files(path)


def place(page) -> int:
    """The place of the word that is selected, which the picture shows the attention of."""
    found = page.evaluate("""() => ['.word[aria-pressed=true]', '#stage figcaption [data-place]:not([hidden])']
      .map(part => [...document.querySelectorAll(part)].map(one => Number(one.dataset.place)))""")
    assert len(found[0]) == 1
    assert found[0] == found[1]
    heats = page.locator(".ground .heat:visible")
    assert heats.count() == (found[0][0] < page.locator(".word").count() - 1)  # the end has none
    return found[0][0]


def slow(page, seconds: float) -> None:
    """Lets every request that waits its turn leave this much later."""
    page.evaluate(LATER, 1000 * seconds)


def choose_captioner(page, name: str) -> None:
    page.get_by_label("Captioner").first.click()
    page.get_by_role("option", name=name).first.click()


def tap_tab(page, name: str) -> None:
    """Taps a tab; those that do not fit on a phone are in the menu behind the dots."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.is_visible():
        page.locator(".overflow-menu > button").tap()
        tab = page.locator(".overflow-dropdown").get_by_role("button", name=name, exact=True)
    tab.tap()


def sentence(page) -> str:
    return " ".join(page.locator("button.word").all_text_contents())


def changed(page, what, act) -> None:
    """Does something and waits until that has become another."""
    before = what(page)
    act()
    for _ in range(200):
        if what(page) != before:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{what.__name__} stays as it was")


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
