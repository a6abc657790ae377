"""The app with the captioner in the box: the time until its page is there, and its memory over many captions.

python -m benchmarks.app                 each app in its own process; every picture is another one
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import captioning
from benchmarks.drawn import draw_photographs
from benchmarks.measure import ROOT, Row, Tables, run_script
from captioning.errors import CaptioningError

ENGINES = ("onnx", "keras")
TIMEOUT = 300  # seconds until the app must answer
API = "/gradio_api"


@contextlib.contextmanager
def running(scratch: Path, engine: str) -> Iterator[tuple[int, str, float]]:
    """An app in a process of its own: its process number, its address, the seconds until its page was there."""
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    address, settings = f"http://127.0.0.1:{port}", os.environ | {"TMPDIR": str(scratch)}
    flags = ["--port", port, "--engine", engine, "--feedback", str(scratch / "feedback.db")]
    started = time.perf_counter()
    with open(scratch / "app.log", "w+") as log:
        command = [sys.executable, "app_gradio.py", *flags]
        app = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=settings)
        try:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(address, timeout=5).status_code == 200:
                        break
                if app.poll() is not None or time.perf_counter() - started > TIMEOUT:
                    log.seek(0)
                    raise CaptioningError(f"The app did not start:\n{log.read()[-2000:]}")
                time.sleep(0.05)
            yield app.pid, address, time.perf_counter() - started
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait()


def caption(address: str, photograph: Path) -> None:
    """Captions one photograph as a program does that uses the app."""
    import httpx

    with photograph.open("rb") as file:
        (path,) = httpx.post(f"{address}{API}/upload", files={"files": file}, timeout=60).raise_for_status().json()
    asked = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, captioning.IN_THE_BOX, {}]}
    event = httpx.post(f"{address}{API}/call/caption", json=asked, timeout=60).raise_for_status().json()["event_id"]
    answer = httpx.get(f"{address}{API}/call/caption/{event}", timeout=60).text
    assert "event: complete" in answer, answer


def memory(process: int) -> float:
    """The resident memory of a process, in millions of bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024 / 1e6


def measure(quick: bool) -> Tables:
    """One row for each engine."""
    if not Path("/proc/self/status").is_file():
        raise CaptioningError("/proc does not exist: memory can only be measured on Linux; run this script there.")
    few, many = (1, 2) if quick else (10, 1000)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        photographs = draw_photographs(Path(folder, "photographs"), many)
        for engine in ENGINES:
            scratch = Path(folder, engine)
            scratch.mkdir()
            with running(scratch, engine) as (process, address, seconds):
                row: Row = {"": engine, "page there, s": seconds, "memory then, MB": memory(process)}
                for number, photograph in enumerate(photographs, 1):
                    caption(address, photograph)
                    if number in (few, many):
                        row[f"after {number:,} captions, MB"] = memory(process)
                rows.append(row)
    return {"The app": rows}


if __name__ == "__main__":
    run_script(__doc__, measure)
