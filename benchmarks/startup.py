"""The time to the first answer: `--help`, one photograph captioned by a new process.

python -m benchmarks.startup             alternates whole processes; also the parts of the time to a first caption
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drawn import draw_photographs
from benchmarks.measure import ROOT, Contender, Row, Tables, Worker, run_script, take_turns, timed

BUNDLE = str(ROOT / "artifacts" / "flickr8k")
CAUSES = (
    "Python, NumPy, Pillow",
    "our modules imported",
    "bundle loaded, ONNX Runtime with it",
    "first photo read and encoded",
    "first search",
    "first caption after that",
)


def prepare(task: dict[str, str]) -> tuple[dict[str, Any], Contender]:
    """Does what `caption` does. Facts: the seconds of each part."""
    moments = [float(os.environ["CAPTIONING_STARTED"]), time.time()]
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
