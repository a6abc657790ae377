"""The time to the first answer: `--help`, one photograph captioned by a new process, the app's page.

python -m benchmarks.startup             alternates whole processes; also the parts of the time to a first caption
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drawn import draw_photographs
from benchmarks.measure import ROOT, Contender, Row, Tables, Worker, run_script, take_turns, timed
from captioning.errors import CaptioningError

BUNDLE = str(ROOT / "artifacts" / "flickr8k")
TIMEOUT = 300  # seconds until the app must answer
CAUSES = (
    "Python, NumPy, Pillow",
    "TensorFlow and Keras imported",
    "our modules imported",
    "bundle loaded",
    "first photo read and encoded: its compilation",
    "first search: its compilation",
    "first caption after that",
)


def prepare(task: dict[str, str]) -> tuple[dict[str, Any], Contender]:
    """Does what `caption` does. Facts: the seconds of each part."""
    moments = [float(os.environ["CAPTIONING_STARTED"]), time.time()]
    from captioning.runtime.keras_import import import_keras_alone

    import_keras_alone()
    moments.append(time.time())
    import captioning
    from captioning.inference import folder as album  # noqa: F401

    moments.append(time.time())
    ours = captioning.load(BUNDLE)
    moments.append(time.time())
    grid = ours.features([task["first"]])
    moments.append(time.time())
    ours.caption_features(grid)
    moments.append(time.time())
    ours.caption(task["second"])
    moments.append(time.time())
    return {"seconds": np.diff(moments).tolist()}, lambda: 0.0


def run_python(*command: str) -> None:
    """Runs Python with these arguments until it ends."""
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)


def open_app(scratch: Path) -> float:
    """Seconds until the app's page answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    flags = ["--bundle", BUNDLE, "--port", port, "--feedback", str(scratch / "feedback.db")]
    started = time.perf_counter()
    with open(scratch / "app.log", "w+") as log:
        app = subprocess.Popen([sys.executable, "app_gradio.py", *flags], cwd=ROOT, stdout=log, stderr=log)
        try:
            while not _is_up(f"http://127.0.0.1:{port}"):
                if app.poll() is not None or time.perf_counter() - started > TIMEOUT:
                    log.seek(0)
                    raise CaptioningError(f"The app did not start:\n{log.read()[-2000:]}")
                time.sleep(0.05)
            return time.perf_counter() - started
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait()


def _is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def measure(quick: bool) -> Tables:
    """Two tables: whole processes, and the parts of the time to a first caption."""
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory() as folder:
        first, second = map(str, draw_photographs(Path(folder), 2))
        causes: list[list[float]] = []

        def by_cause() -> float:
            worker = Worker("startup", {"first": first, "second": second})
            worker.close()
            causes.append(worker.facts["seconds"])
            return sum(causes[-1])

        contenders = {
            "python -m captioning --help": timed(lambda: run_python("-m", "captioning", "--help")),
            "python -m captioning caption one.jpg": timed(lambda: run_python("-m", "captioning", "caption", first)),
            "python app_gradio.py, until its page is there": lambda: open_app(Path(folder)),
            "causes": by_cause,
        }
        seconds = take_turns(contenders, rounds)
    whole: list[Row] = [
        {"": f"`{name}`", "s, median": float(np.median(taken)), "fastest": min(taken), "slowest": max(taken)}
        for name, taken in seconds.items()
        if name != "causes"
    ]
    parts = np.median(causes, axis=0)
    rows: list[Row] = [
        {"": cause, "s": float(part), "share": float(part / parts.sum())}
        for cause, part in zip(CAUSES, parts, strict=True)
    ]
    return {"Whole processes, with artifacts/flickr8k": whole, "What a first caption's wait consists of": rows}


if __name__ == "__main__":
    run_script(__doc__, measure, worker=prepare)
