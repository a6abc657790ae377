"""Shared by all benchmarks: contenders that alternate, a description of the machine, tables, writing of results.

A contender is a function that runs one round and returns its seconds. A Worker is a contender in its own process, so
that libraries, backends and their settings stay separate.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from captioning.errors import CaptioningError

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "onnxruntime", "jax", "torch", "numpy", "pillow", "gradio")
BACKENDS = ("tensorflow", "jax", "torch")
SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # by several workers
MB = 1e6

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Contender = Callable[[], float]


def flag_parser() -> argparse.ArgumentParser:
    """The flags of all benchmarks."""
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="tiny sizes, to test the script; ignore the figures")
    mode.add_argument("--write", action="store_true", help="update benchmarks/README.md and benchmarks/results/*.json")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)  # the task of a Worker's process
    return parser


def run_script(
    about: str | None,
    measure: Callable[[bool], Tables],
    *,
    worker: Any = None,
    draw: Callable[[Tables, Path], None] | None = None,
) -> None:
    """Runs one benchmark. `measure(quick)` returns its tables; `worker` prepares the contender of a Worker's task.

    `draw` makes a figure of the tables, which is saved beside the page.
    """
    parser = flag_parser()
    parser.description = about
    flags = parser.parse_args()
    if flags.worker:
        serve(worker, json.loads(flags.worker))
        return
    name = Path(sys.modules[measure.__module__].__file__ or "").stem
    try:
        setting = machine()
        tables = measure(flags.quick)
    except CaptioningError as error:
        sys.exit(f"{name}: {error}")
    figure = f"{name}.png" if draw and flags.write else ""
    text = markdown(tables, setting, figure)
    print(text)
    if flags.write and not tables:
        print("Nothing was measured, so no result is written.")
    elif flags.write:
        write_result(name, text, {"machine": setting, "tables": tables, "figure": figure})
    if draw and tables:
        with tempfile.TemporaryDirectory() as elsewhere:
            draw(tables, (PAGE.parent if flags.write else Path(elsewhere)) / f"{name}.png")


def timed(act: Callable[[], Any]) -> Contender:
    """A contender that times this function."""

    def once() -> float:
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    return once


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of every contender. Contenders alternate: A B A B ..., so that all share slow phases."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


def ratio(numerator: Iterable[float], denominator: Iterable[float]) -> float:
    """The median of the ratios of each round. A slow phase of the machine affects both parts of a round."""
    return statistics.median(one / other for one, other in zip(numerator, denominator, strict=True))


def span(numerator: Iterable[float], denominator: Iterable[float]) -> str:
    """The smallest and the largest ratio of all rounds."""
    ratios = [one / other for one, other in zip(numerator, denominator, strict=True)]
    return f"{shown(min(ratios))} to {shown(max(ratios))}"


class Worker:
    """A contender in its own process; `facts` is what it reports after it is warmed up."""

    def __init__(self, script: str, task: dict[str, Any], *, backend: str = "tensorflow") -> None:
        self.name = f"benchmarks.{script} with {task}"
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, "-m", f"benchmarks.{script}", "--worker", json.dumps(task)]
        environment = os.environ | SHARED_GPU | {"KERAS_BACKEND": backend, "CAPTIONING_STARTED": str(time.time())}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
        self.facts: dict[str, Any] = self._answer()

    def __call__(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            errors = self.errors.read()[-3000:]
            self.close()
            raise CaptioningError(f"{self.name} ended early:\n{errors}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        with self.errors, self.process, contextlib.suppress(BrokenPipeError):
            assert self.process.stdin
            self.process.stdin.close()


@contextlib.contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """A function that starts Workers. All of them end with this block."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(contextlib.closing(Worker(*arguments, **options)))


def serve(prepare: Callable[[dict[str, Any]], tuple[dict[str, Any], Contender]], task: dict[str, Any]) -> None:
    """The main loop of a worker: prepare, print the facts, then run a round for every input line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries goes to standard error
    facts, contender = prepare(task)
    print(json.dumps(facts), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(contender()), file=answers, flush=True)


def is_installed(package: str) -> bool:
    """Whether a package can be imported. If not, a line on standard error says so."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"{package} is not installed; its measurements are skipped.", file=sys.stderr)
    return found


def machine() -> dict[str, str]:
    """The date, the hardware and the versions of the libraries."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{os.cpu_count()} cores, {_first_of('/proc/cpuinfo', 'model name') or platform.processor()}",
        "gpu": _gpu(),
        "memory": _first_of("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


def _version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


def _gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip().replace("\n", ", ")


def _first_of(file: str, name: str) -> str:
    path = Path(file)
    found = re.search(rf"^{name}\s*:\s*(.*)$", path.read_text(), re.MULTILINE) if path.is_file() else None
    return found[1].strip() if found else ""


def shown(value: object) -> str:
    """A cell of a table: numbers with three significant digits."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(tables: Tables, setting: Mapping[str, str], figure: str = "") -> str:
    """The tables, each under its title, the figure if there is one, and a line about the machine."""
    blocks = []
    for title, rows in tables.items():
        lines = [list(rows[0]), ["---"] * len(rows[0]), *([shown(cell) for cell in row.values()] for row in rows)]
        blocks.append(f"{title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    if figure:
        blocks.append(f"![{', '.join(tables)}]({figure})")
    about = " · ".join(f"{name}: {value}" for name, value in setting.items() if value)
    return "\n\n".join([*blocks, f"*{about}*"])


def write_result(name: str, text: str, record: dict[str, Any], page: Path = PAGE, results: Path = RESULTS) -> None:
    """Writes the text between the page's markers of this name, and the record as JSON."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise CaptioningError(f"{page} lacks the line {begin} or, after it, {end}; add both where the result belongs.")
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")
