"""ONNX Runtime beside Keras with the captioner in the box: a new process, one photograph on one core, a folder.

python -m benchmarks.engines             alternates the engines, each in its own process

The bare encoder is what ONNX Runtime takes for the encoder alone, pixels in memory; every caption needs two encodings
where the bundle asks for the mirror image too.
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
from benchmarks.measure import MB, ROOT, Contender, Row, Tables, ratio, run_script, span, take_turns, workers

ENGINES = ("onnx", "keras")


def prepare(task: dict[str, Any]) -> tuple[dict[str, Any], Contender]:
    """One engine's rounds: a photograph that it has not met on one core, or a folder; or the bare encoder's."""
    if task["kind"] == "photo":
        os.sched_setaffinity(0, {0})
    import captioning
    from captioning.data.images import read_image
    from captioning.inference.folder import caption_images

    captioner = captioning.load(engine=task["engine"])
    paths = [Path(each) for each in task["photographs"]]
    pictures = [read_image(path, size=captioner.image_size) for path in paths]
    views = 1 + captioner.options.mirrored
    rounds = iter(range(10**6))

    def act() -> None:
        if task["kind"] == "encoder":
            for first in range(0, len(pictures), 64):
                for _ in range(views):
                    captioner.engine.encode(np.stack(pictures[first : first + 64]))
            return
        captioner._grids.clear()  # else the features of the round before are used
        if task["kind"] == "photo":
            captioner.caption(paths[next(rounds) % len(paths)])
        else:
            assert sum(map(len, caption_images(captioner, paths, captioner.options))) == len(paths)

    def once() -> float:
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    act()  # compiles
    return {}, once


def new_process(engine: str, photograph: str, peaks: list[float]) -> Contender:
    """A new process that captions one photograph; its peak memory goes to `peaks`."""

    def once() -> float:
        started = time.perf_counter()
        command = [sys.executable, "-m", "captioning", "caption", photograph, "--engine", engine]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss * 1024 / MB)
        return time.perf_counter() - started

    return once


def measure(quick: bool) -> Tables:
    """Three tables: a new process, one photograph, a folder."""
    rounds, count = (1, 4) if quick else (5, 256)
    with tempfile.TemporaryDirectory() as scratch, workers() as start:
        photographs = list(map(str, draw_photographs(Path(scratch), count)))
        peaks: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        cold = take_turns({each: new_process(each, photographs[0], peaks[each]) for each in ENGINES}, rounds)

        def begin(kind: str, engine: str, taken: int) -> Contender:
            return start("engines", {"kind": kind, "engine": engine, "photographs": photographs[:taken]})

        photo = take_turns({each: begin("photo", each, 32) for each in ENGINES}, 4 * rounds)
        contenders = {each: begin("folder", each, count) for each in ENGINES}
        folder = take_turns(contenders | {"bare encoder": begin("encoder", "onnx", count)}, rounds)
    first: list[Row] = [
        {
            "": each,
            "seconds": float(np.median(cold[each])),
            "peak memory, MB": max(peaks[each]),
            "time, where onnx is 1": ratio(cold[each], cold["onnx"]),
        }
        for each in ENGINES
    ]
    second: list[Row] = [
        {
            "": each,
            "ms": 1000 * float(np.median(photo[each])),
            "fastest": 1000 * min(photo[each]),
            "time, where onnx is 1": ratio(photo[each], photo["onnx"]),
        }
        for each in ENGINES
    ]
    third: list[Row] = [
        {
            "": each,
            "photographs/s": count / float(np.median(folder[each])),
            "share of the bare encoder's": ratio(folder["bare encoder"], folder[each]),
            "in all rounds": span(folder["bare encoder"], folder[each]),
        }
        for each in folder
    ]
    return {
        "`captioning caption one.jpg`, a new process": first,
        "One photograph, once loaded, on one core": second,
        f"A folder of {count} photographs": third,
    }


if __name__ == "__main__":
    run_script(__doc__, measure, worker=prepare)
