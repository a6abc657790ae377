"""The app served to a real browser; skipped where there is no Chromium or no playwright."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from captioning.inference.bundle_writer import write_labels
from captioning.inference.labels import LabelScale

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def bundles(saved, captioner, tmp_path_factory):
    """Two bundles that were never trained: one says nothing of its data, the other is for drawn scenes and labels."""
    drawn = tmp_path_factory.mktemp("bundles") / "drawn"
    shutil.copytree(saved, drawn)
    config = json.loads((drawn / "config.json").read_text())
    del config["sum"]
    (drawn / "config.json").write_text(json.dumps(config | {"about": {"data": "scenes"}}))
    depth = captioner.engine.encode(np.zeros((1, 32, 32, 3), "uint8")).shape[-1]
    write_labels(drawn, LabelScale(np.zeros(depth, "float32"), 0.5, 4.0).record())
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
