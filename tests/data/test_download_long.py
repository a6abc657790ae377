"""A fetch that is killed at twenty places: never half a file under its name, and next to nothing comes twice."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from captioning.data import download
from tests.data.test_download import CONTENT, SHA256, left, server, target  # noqa: F401

pytestmark = pytest.mark.slow

KILLS, BUFFER = 20, 8192  # bytes that the killed process may not have written yet
FETCH = "import sys, pathlib; from captioning.data.download import fetch; fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"


def test_killed_at_twenty_places_it_goes_on(server, target, record_property):  # noqa: F811
    twice, part = [], target.with_name(f"{target.name}.part")
    for place in map(int, np.linspace(2 * BUFFER, len(CONTENT) - 1, KILLS)):
        server.cuts = iter([place])
        server.hang.clear()
        root = Path(download.__file__).parents[2]
        fetching = subprocess.Popen([sys.executable, "-c", FETCH, server.url, target], cwd=root)
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > place - BUFFER) and time.monotonic() < deadline:
            time.sleep(0.01)
        fetching.kill()
        fetching.wait(60)
        server.hang.set()
        assert left(target) == ["file.bin.part", "file.bin.part.note"]
        before = server.sent
        assert download.fetch(server.url, target, checksum=SHA256).read_bytes() == CONTENT
        twice.append(server.sent - before - (len(CONTENT) - place))
        target.unlink()
    record_property("kills", KILLS)
    record_property("bad files accepted", 0)
    record_property("share fetched twice at most", f"{max(twice) / len(CONTENT):.1%}")
    assert max(twice) <= BUFFER
