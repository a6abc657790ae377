"""The tabs Compare and Labels in a real browser."""

import csv

import pytest

from tests.app.browser import DESK, SCENES

pytestmark = pytest.mark.slow


def open_tab(page, name: str, place: str, picture) -> None:
    """Opens a tab and gives it a picture."""
    page.get_by_role("tab", name=name, exact=True).click()
    page.locator(f"{place} input[type=file]").set_input_files(picture)


def test_captioners_answer_side_by_side_and_one_alone(visit, photo):
    page = visit(DESK)
    open_tab(page, "Compare", "#compared", photo)
    start = page.get_by_role("button", name="Compare them")
    start.click()
    page.get_by_text("2 of 2 captioners answered").wait_for()
    lines = page.locator("#side-by-side tbody tr")
    assert lines.count() == 2
    for line in lines.all():
        _, caption, _, time, _ = line.locator("th, td").all_inner_texts()
        assert caption
        assert float(time.split()[0]) >= 0
    page.locator("#rivals").get_by_label(SCENES).uncheck()
    start.click()
    page.get_by_text("1 of 1 captioners answered").wait_for()
    assert lines.count() == 1


def test_labels_are_found_drawn_and_downloaded(visit, photo):
    page = visit(DESK)
    open_tab(page, "Labels", "#labelled", photo)
    page.get_by_role("textbox", name="Labels, one a line").fill("dog\ncat\nzebra")
    page.get_by_role("radio", name="pie").check()
    page.get_by_role("button", name="Find labels").click()
    found = page.locator("#labels-found")
    found.locator("tbody tr").first.wait_for()
    shares = dict(line.split("\t") for line in found.locator("tbody tr").all_inner_texts())
    assert set(shares) == {"dog", "cat"}
    assert sum(float(share.rstrip("%")) for share in shares.values()) == pytest.approx(100, abs=0.2)
    assert "zebra" in found.inner_text()  # which the captioner does not know
    chart = page.locator("#labels-chart img")
    chart.wait_for()
    assert chart.get_attribute("alt") == found.locator("[role=status]").inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").or_(page.get_by_role("button", name="CSV")).click()
    with open(download.value.path(), newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == set(shares)

    page.get_by_role("textbox", name="Labels, one a line").fill("dog")
    page.get_by_role("button", name="Find labels").click()
    page.get_by_text("1 different labels; expected two or more").first.wait_for()


def test_a_german_browser_shows_german(visit, photo):
    page = visit(DESK | {"locale": "de-DE"})
    open_tab(page, "Vergleichen", "#compared", photo)
    page.get_by_text("Bis zu 4 Modelle nacheinander").wait_for()
    page.get_by_role("button", name="Vergleichen", exact=True).click()
    page.locator("#side-by-side tbody tr").first.wait_for()
    assert page.locator("#side-by-side th[scope=col]").all_inner_texts() == [
        "Modell", "Beschreibung", "Sicherheit", "Zeit", "Speicher",
    ]  # fmt: skip
    page.get_by_role("tab", name="Mehrere", exact=True).click()
    page.get_by_text("Bis zu 200 auf einmal").wait_for()
    page.get_by_role("button", name="Alle beschreiben").wait_for()
