"""Without a network: training, captioning, the batch and the app work, and nothing asks for one."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import captioning

pytestmark = pytest.mark.slow

ROOT = Path(captioning.__file__).parents[1]
LOOPBACK = 'ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null; exec "$@"'  # the app's own address
ASK = """
import sys, urllib.request
page = urllib.request.urlopen(sys.argv[1], timeout=30)
print(page.status, len(page.read()) > 1000)
"""


def offline(*command: object) -> list[str]:
    return ["unshare", "-rn", "sh", "-c", LOOPBACK, "sh", *map(str, command)]


@pytest.fixture(scope="module", autouse=True)
def _can_be_offline():
    probe = offline(sys.executable, "-c", "import socket; socket.create_server(('127.0.0.1', 0))")
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs the right to unshare the network")


def run(place: Path, *arguments: object) -> str:
    settings = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    command = offline(sys.executable, *arguments)
    done = subprocess.run(command, cwd=place, env=settings, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


def test_the_whole_journey_needs_no_network(tmp_path, record_property):
    assert (
        "unreachable"
        in subprocess.run(
            offline(sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 5)"),
            capture_output=True,
            text=True,
        ).stderr
    )
    run(tmp_path, ROOT / "train.py", "--dataset", "scenes", "--smoke", "--name", "alone")
    pictures, bundle = tmp_path / "data" / "scenes-smoke" / "Images", tmp_path / "artifacts" / "alone"
    if not pictures.exists():
        pictures = next(path.parent for path in (tmp_path / "data").rglob("*.jpg"))
    count = len(list(pictures.iterdir()))
    said = run(tmp_path, "-m", "captioning", "caption", pictures, "--bundle", bundle)
    assert len(said.splitlines()) == count
    run(tmp_path, "-m", "captioning", "caption", pictures, "--output", "all.jsonl")  # by the captioner that comes along
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == count
    record_property("images captioned", 2 * count)


def test_the_app_answers_without_a_network(saved, tmp_path, record_property):
    """Asked from within, since nobody else can reach it."""
    script = f"""
"{sys.executable}" "{ROOT}/app_gradio.py" --bundle "{saved}" --port 7999 --feedback "{tmp_path}/said.db" > log 2>&1 &
for second in $(seq 300); do grep -q "The app is on" log && break; sleep 1; done
"{sys.executable}" -c '{ASK}' http://127.0.0.1:7999; kill -TERM $!; wait $!; cat log >&2
"""
    settings = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    done = subprocess.run(
        offline("sh", "-c", script), cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.split() == ["200", "True"], done.stdout + done.stderr
    assert not re.search("Traceback|unreachable|resolution", done.stderr), done.stderr
    record_property("seconds until it answered and was gone", round(time.perf_counter() - start))
