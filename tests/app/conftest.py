"""The app served to a real browser; skipped where there is no Chromium or no playwright."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def bundles(saved, tmp_path_factory):
    """Two bundles that were never trained: one says nothing of its data, the other is for drawn scenes."""
    drawn = tmp_path_factory.mktemp("bundles") / "drawn"
    shutil.copytree(saved, drawn)
    config = json.loads((drawn / "config.json").read_text())
    del config["sum"]
    (drawn / "config.json").write_text(json.dumps(config | {"about": {"data": "scenes"}}))
    return [saved, drawn]


@pytest.fixture(scope="module")
def address(bundles, tmp_path_factory):
    """Where the app is served."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("app")
    command = [ROOT / "app_gradio.py", "--bundle", *bundles, "--port", port, "--feedback", folder / "said.db"]
    settings = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=settings)
    assert any("The app is on" in line for line in process.stdout)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no Chromium")
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
        page.set_default_timeout(30_000)
        page.on("request", lambda request: hosts.add(request.url.split(":")[0] + ":" + request.url.split("/")[2]))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#photo input[type=file]", state="attached")
        page.wait_for_function("window.captioning")
        return page

    yield visit
    for context in visits:
        context.close()
    assert {host for host in hosts if not host.startswith(("data:", "blob:"))} == {address.replace("//", "")}
    assert not errors
