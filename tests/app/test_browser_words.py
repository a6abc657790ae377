"""A translation above its words, and the box for questions, with tiny models in a real browser."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.app.conftest import ROOT
from tests.extras import tiny_models

pytestmark = [pytest.mark.slow, pytest.mark.hf, pytest.mark.filterwarnings("default")]


@pytest.fixture
def words_address(saved, tmp_path):
    """Where an app that translates and answers is served."""
    pytest.importorskip("torch")
    marian, vilt = tiny_models.save_marian(tmp_path / "marian"), tiny_models.save("vilt", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    more = ["--translate", f"vi={marian}", "--questions", str(vilt), "--offline", "--feedback", tmp_path / "said.db"]
    command = [sys.executable, ROOT / "app_gradio.py", "--bundle", saved, "--port", port, *more]
    settings = os.environ | {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=settings)
    assert any("The app is on" in line for line in process.stdout)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def test_a_translation_stands_above_its_words_and_a_question_is_answered(words_address, browser, photo):
    page = browser.new_page(locale="en-US")
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(words_address)
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.wait_for_timeout(1000)
    page.set_input_files("#photo input[type=file]", photo)
    page.wait_for_selector("#reader .caption")
    assert page.locator(".translation").count() == 0
    original = page.locator("#reader .caption").inner_text()
    page.locator("#tools").get_by_label("Language").click()
    page.get_by_role("option", name="vi").click()
    page.locator("[data-event=retry]").click()
    page.wait_for_selector("#reader .translation")
    assert page.locator(".translation").get_attribute("lang") == "vi"
    assert page.locator("[data-speak]").first.get_attribute("data-lang") == "vi"
    assert page.locator("#reader .caption").inner_text() == original
    box = page.locator("#questions textarea, #questions input").first
    box.fill("is it red?")
    box.press("Enter")
    page.wait_for_selector("#questions [role=status]")
    assert "not calibrated" in page.locator("#questions").inner_text()
    assert errors == []
    page.close()
