"""Captions per second of a training step, against plain Keras, plain PyTorch and the step's matrix products alone.

python -m benchmarks.training            also by precision, compilation, batch size and backend
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from benchmarks.measure import BACKENDS, Row, Tables, Worker, is_installed, ratio, run_script, span, take_turns, workers
from benchmarks.steps import QUICK, Size, operations_of, prepare


def start(
    begin: Callable[..., Worker], kind: str, size: Size, *, backend: str = "tensorflow", **options: Any
) -> Worker:
    """Starts a worker of this benchmark."""
    return begin("training", {"kind": kind, "size": asdict(size), **options}, backend=backend)


def rate(size: Size, seconds: Sequence[float]) -> float:
    """Captions per second: the median of the rounds."""
    return size.images * size.captions * size.repeats / float(np.median(seconds))


def against_references(begin: Callable[..., Worker], size: Size, base: Worker) -> list[Row]:
    """Ours beside the plain networks, each with its share of the rate of the matrix products alone."""
    half = {"precision": "mixed_bfloat16"}
    contenders = {
        "ours, float32": base,
        "ours, bfloat16": start(begin, "ours", size, jit=True, **half),
        "plain Keras, float32": start(begin, "plain_keras", size),
        "products alone, float32": start(begin, "products", size, precision="float32"),
        "products alone, bfloat16": start(begin, "products", size, **half),
    }
    if is_installed("torch"):
        contenders["plain PyTorch, float32"] = start(begin, "plain_torch", size)
    seconds, rows = take_turns(contenders, size.rounds), []
    for name, worker in contenders.items():
        alone = seconds[f"products alone, {name.split(', ')[1]}"]
        row: Row = {"": name, "captions/s": "" if "alone" in name else rate(size, seconds[name])}
        row["time, where ours is 1"] = ratio(seconds[name], seconds["ours, float32"])
        row["in all rounds"] = span(seconds[name], seconds["ours, float32"])
        is_ours = not name.startswith("plain")  # the plain networks have other products
        row["GFLOP/s"] = operations_of(size) * size.repeats / float(np.median(seconds[name])) / 1e9 if is_ours else ""
        row["share of products' rate"] = ratio(alone, seconds[name]) if name.startswith("ours") else ""
        rows.append(row | {"parameters": worker.facts.get("parameters", "")})
    return rows


def by_size(begin: Callable[..., Worker], size: Size, sizes: Sequence[int]) -> list[Row]:
    """Batches of other sizes, and a step without XLA."""
    options: dict[str, Any] = {"precision": "float32", "jit": True}
    batches = {images: replace(size, images=images) for images in sizes}
    contenders: dict[str, Worker] = {
        f"{each} images": start(begin, "ours", batches[each], **options) for each in batches
    }
    contenders["without XLA"] = start(begin, "ours", size, precision="float32", jit=False)
    used = dict(zip(contenders, [*batches.values(), size], strict=True))
    return compared(take_turns(contenders, size.rounds), used, f"{size.images} images")


def by_backend(begin: Callable[..., Worker], size: Size, base: Worker) -> list[Row]:
    """The same step on each backend that is installed."""
    options: dict[str, Any] = {"precision": "float32", "jit": True}
    others = [backend for backend in BACKENDS[1:] if is_installed(backend)]
    contenders = {"tensorflow": base} | {each: start(begin, "ours", size, backend=each, **options) for each in others}
    return compared(take_turns(contenders, size.rounds), dict.fromkeys(contenders, size), "tensorflow")


def compared(seconds: dict[str, list[float]], sizes: dict[str, Size], first: str) -> list[Row]:
    """Rows of captions per second, and their ratio to the first one, round by round."""
    each = {name: np.divide(taken, sizes[name].images) for name, taken in seconds.items()}
    return [
        {
            "": name,
            "captions/s": rate(sizes[name], taken),
            "of the rate of " + first: ratio(each[first], each[name]),
            "in all rounds": span(each[first], each[name]),
        }
        for name, taken in seconds.items()
    ]


def measure(quick: bool) -> Tables:
    """The three tables."""
    size = QUICK if quick else Size()
    with workers() as begin:
        base = start(begin, "ours", size, precision="float32", jit=True)
        with workers() as begin_some:
            tables = {"Against references": against_references(begin_some, size, base)}
        if not quick:
            with workers() as begin_some:
                tables["By batch, and without XLA"] = by_size(begin_some, size, (8, 16, 64))
        with workers() as begin_some:
            tables["By backend"] = by_backend(begin_some, size, base)
    return tables


if __name__ == "__main__":
    run_script(__doc__, measure, worker=prepare)
