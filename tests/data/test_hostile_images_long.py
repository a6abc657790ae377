"""Two thousand files of 10 MB that are built to cost time or memory: none costs over 2 seconds or 300 MB."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from captioning.data import images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="reads the peak of memory there"),
]

FILES, SECONDS, MEGABYTES = 2_000, 2, 300
READ = """
import io, re, sys, time
from itertools import count, islice
from pathlib import Path
from captioning.data.images import read_image
from captioning.errors import ImageError
from tests.data.hostile_images import hostile_files

def kilobytes(of):
    return int(re.search(rf"{of}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def outcome(data):
    try:
        return str(read_image(io.BytesIO(data), size=224).shape)
    except ImageError as error:
        return error.reason

for name, data in islice((file for seed in count() for file in hostile_files(seed)), int(sys.argv[1])):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, start = kilobytes("VmRSS"), time.process_time()
    found = outcome(data)
    print(name, found, time.process_time() - start, (kilobytes("VmHWM") - before) / 1000, sep="\\t", flush=True)
"""


def test_no_file_costs_much_time_or_memory(record_property):
    command = [sys.executable, "-c", READ, str(FILES)]
    done = subprocess.run(command, cwd=Path(images.__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    slowest, largest = (max(rows, key=lambda row, part=part: float(row[part])) for part in (2, 3))
    record_property("files", len(rows))
    record_property("read", sum(found.startswith("(") for _, found, *_ in rows))
    record_property("slowest s", f"{float(slowest[2]):.2f} ({slowest[0]})")
    record_property("most MB", f"{float(largest[3]):.0f} ({largest[0]})")
    assert len(rows) == FILES
    assert float(slowest[2]) < SECONDS, slowest
    assert float(largest[3]) < MEGABYTES, largest
