"""Training on a GPU: mixed precision against float32, the share of the device's matrix rate, peak memory.

python -m benchmarks.gpu                 each backend with a GPU; without a GPU nothing is written
"""

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from benchmarks import steps
from benchmarks.measure import (
    BACKENDS,
    MB,
    Contender,
    Row,
    Tables,
    Worker,
    is_installed,
    ratio,
    run_script,
    span,
    take_turns,
    timed,
    workers,
)
from benchmarks.training import rate

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
SIZE = steps.Size(images=128, repeats=20)
SIDE, PRODUCTS = 8192, 10  # square matrices for measuring the device's rate
LARGE = {"images": 512}  # a batch large enough for a large device


def prepare(task: dict[str, Any]) -> tuple[dict[str, Any], Contender]:
    """Our training step, or products of large square matrices. Facts: the device and the peak memory."""
    device = device_kind()
    if task["kind"] == "probe":
        return {"device": device}, lambda: 0.0
    if task["kind"] == "squares":
        return {"device": device}, timed(squares(task["side"], task["precision"].removeprefix("mixed_")))
    ours = {"kind": "ours", "jit": True, "size": task["size"], "precision": task["precision"]}
    facts, contender = steps.prepare(ours)
    return facts | {"device": device, "peak": peak_memory()}, contender


def device_kind() -> str:
    """gpu or cpu: the default device of this backend."""
    from keras import ops

    return "gpu" if re.search("gpu|cuda", str(ops.zeros(1).device).lower()) else "cpu"


def squares(side: int, dtype: str) -> Callable[[], None]:
    """A function that multiplies matrices of this side a few times and waits for the last product."""
    import keras
    from keras import ops

    left = ops.cast(keras.random.normal((side, side), seed=0) / side**0.5, dtype)  # keeps the products' scale

    def multiply() -> None:
        product = left
        for _ in range(PRODUCTS):
            product = ops.matmul(left, product)
        ops.convert_to_numpy(product[:1, :1])

    multiply()
    return multiply


def peak_memory() -> float | None:
    """The peak memory of the GPU in MB; None without a GPU."""
    import keras

    if device_kind() == "cpu":
        return None
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / MB
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / MB
    import torch

    return torch.cuda.max_memory_allocated() / MB


def measure(quick: bool) -> Tables:
    """A table for each backend with a GPU. A quick run also works without a GPU."""
    tables: Tables = {}
    for backend in [backend for backend in BACKENDS if is_installed(backend)]:
        probe = Worker("gpu", {"kind": "probe"}, backend=backend)
        probe.close()
        device = probe.facts["device"]
        if device == "cpu" and not quick:
            print(f"{backend} finds no GPU and is skipped.")
        elif quick:
            tables |= measure_backend(backend, device, [steps.QUICK], 16, PRECISIONS[::2])
            break
        else:
            tables |= measure_backend(backend, device, [SIZE, replace(SIZE, **LARGE)], SIDE, PRECISIONS)
    return tables


def measure_backend(
    backend: str, device: str, sizes: list[steps.Size], side: int, precisions: tuple[str, ...]
) -> Tables:
    """Our step at these sizes and precisions, beside square products of each precision."""
    tables = {}
    for size in sizes:
        with workers() as begin:
            task: dict[str, Any] = {"side": side, "size": asdict(size)}
            contenders, ours = {}, {}
            for each in precisions:
                task["precision"] = each
                contenders[f"squares, {each}"] = begin("gpu", task | {"kind": "squares"}, backend=backend)
                contenders[each] = ours[each] = begin("gpu", task | {"kind": "ours"}, backend=backend)
            seconds = take_turns(contenders, size.rounds)
            title = f"{backend} on {device}, batches of {size.images} images x {size.captions} captions"
            tables[title] = [row_of(each, ours[each].facts, seconds, size, side) for each in precisions]
    return tables


def row_of(precision: str, facts: dict[str, Any], seconds: dict[str, list[float]], size: steps.Size, side: int) -> Row:
    """The row of one precision."""
    step = np.divide(seconds[precision], size.repeats)
    ours = steps.operations_of(size) / step
    most = 2 * side**3 * PRODUCTS / np.array(seconds[f"squares, {precision}"])
    return {
        "": precision,
        "captions/s": rate(size, seconds[precision]),
        "of float32's rate": ratio(seconds["float32"], seconds[precision]),
        "in all rounds": span(seconds["float32"], seconds[precision]),
        "GFLOP/s": float(np.median(ours)) / 1e9,
        "large products, GFLOP/s": float(np.median(most)) / 1e9,
        "share of it": ratio(ours, most),
        "peak memory, MB": "" if facts["peak"] is None else facts["peak"],
    }


if __name__ == "__main__":
    run_script(__doc__, measure, worker=prepare)
