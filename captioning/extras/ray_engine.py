"""Images looked at by many machines: Ray's workers caption them or compute their features, each with its own network.

Ray Data hands out the batches, starts a dead worker anew and gives it the batch again. What comes back is written by
the process that asked, so a file still has one writer. Images and bundles are read by the workers themselves: they lie
in a folder that every machine sees under the same path.
"""

import contextlib
import functools
import logging
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from captioning.encoders import features
from captioning.encoders.registry import build_encoder
from captioning.errors import CaptioningError, ImageError, MissingExtra
from captioning.inference import folder as album
from captioning.options import DecodeOptions
from captioning.runtime.keras_import import hushed, import_keras

CORES = 2  # of a worker, where nobody says how many workers there shall be
QUIET = {  # asked of Ray before it is imported; whoever has set one of them knows better
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # Ray's own lines would stand between the captions on the standard output
}

Task = TypeVar("Task")
Work = Callable[[Any], Any]


def require_ray() -> Any:
    """The library Ray, or what to install."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray.data
    except ImportError:
        raise MissingExtra("--engine ray needs Ray: pip install '.[ray]'.") from None
    return ray


def caption_images(
    load: Callable[[], Any], images: Sequence[Path], search: DecodeOptions, workers: int = 0
) -> Iterator[dict[Path, Any]]:
    """Batches of images, in any order: the Caption of each, or why it cannot be read; `load` gives a captioner."""
    tasks = [images[first : first + album.BATCH] for first in range(0, len(images), album.BATCH)]
    for _, said in spread(functools.partial(_captions, load, search), tasks, workers):
        yield {image: _explained(image, seen) for image, seen in said.items()}


def _captions(load: Callable[[], Any], search: DecodeOptions) -> Work:
    captioner = load()
    return lambda images: dict(
        pair for batch in album.caption_images(captioner, images, search) for pair in batch.items()
    )


def _explained(image: Path, seen: Any) -> Any:
    if isinstance(seen, ImageError) and seen.reason == "missing" and image.exists():
        return ImageError(
            "missing", f"{image} is not there on every machine; put the images in a folder that all of them share."
        )
    return seen


def look_at(
    missing: dict[features.Look, Path], *, size: int, encoder: tuple[str, str] | None = None, workers: int = 0
) -> features.Seen:
    """The grids of these looks, batch by batch, in any order; `encoder` is its name and weights; None: pixels."""
    looks = list(missing.items())
    tasks = [looks[first : first + features.BATCH] for first in range(0, len(looks), features.BATCH)]
    bar = tqdm(total=len(looks), desc="features", unit="image", disable=None if looks else True)
    with bar, _chance_kept():
        for task, rows in spread(functools.partial(_grids, size, encoder), tasks, workers):
            yield [look for look, _ in task], rows
            bar.update(len(task))


@contextlib.contextmanager
def _chance_kept() -> Iterator[None]:
    """Ray draws from Python's dice, from which a training that follows takes its seeds."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _grids(size: int, encoder: tuple[str, str] | None) -> Work:
    if encoder:
        import_keras()
    network = build_encoder(*encoder, size) if encoder else None
    return lambda looks: np.concatenate([rows for _, rows in features.look_at(dict(looks), size, network)])


def spread(begin: Callable[[], Work], tasks: Sequence[Task], workers: int = 0) -> Iterator[tuple[Task, Any]]:
    """Each task with what a worker made of it, in any order; every worker calls `begin` once for what does the work."""
    if not tasks:
        return
    with _connected() as ray:
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        workers = min(workers or max(1, sum(cores // CORES for cores in machines)), len(tasks))
        cores = cores_each(workers, machines)
        rows = [{"number": number, "task": task} for number, task in enumerate(tasks)]
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=(begin, os.getcwd(), _environment(cores)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cores,
        )
        for row in answers.iter_batches(batch_size=None, batch_format="numpy"):
            answer = row["answer"][0]
            if isinstance(answer, CaptioningError):
                raise answer
            yield tasks[int(row["number"][0])], answer


def cores_each(workers: int, machines: Sequence[int]) -> int:
    """The most cores that each of so many workers can have on machines with these cores, so that all find room."""
    shares = range(max(machines, default=1), 1, -1)
    return next((share for share in shares if sum(cores // share for cores in machines) >= workers), 1)


class Worker:
    """One process of the cluster, as Ray Data wants it: a class made once and called with each batch of one row."""

    def __init__(self, begin: Callable[[], Work], folder: str, environment: dict[str, str]) -> None:
        with contextlib.suppress(OSError):  # a folder of one machine alone; then only whole paths are understood
            os.chdir(folder)
        os.environ.update(environment)
        self._work = functools.cache(begin)  # called with the first batch, whose answer can be what went wrong

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = np.empty(1, object)
        try:
            answer[0] = self._work()(batch["task"][0])
        except CaptioningError as error:  # raised, it would arrive as text
            answer[0] = error
        return {"number": batch["number"], "answer": answer}


def _environment(cores: int) -> dict[str, str]:
    """What a worker's Keras shall know: the backend, and that it has so many cores to itself."""
    import keras

    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(cores))
    return threads | {"KERAS_BACKEND": keras.backend.backend()}  # torch follows OMP_NUM_THREADS, which Ray sets


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    """Ray, connected to the cluster that RAY_ADDRESS names or that runs here, or to one of this machine alone."""
    ray = require_ray()
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    is_ours = not ray.is_initialized()
    try:
        if is_ours:
            _require_answer(os.environ.get("RAY_ADDRESS", ""))
            with hushed():
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        yield ray
    except ray.exceptions.RayTaskError:  # a mistake of ours, with the worker's traceback
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        last = str(error).strip().splitlines()[-1]
        raise CaptioningError(f"Ray gave up ({last}); what came before is kept, run it again to go on.") from error
    finally:
        if is_ours:
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuses an address at which nobody listens; Ray itself would try it for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # none, or one of Ray's words
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise CaptioningError(
            f"No Ray cluster answers at RAY_ADDRESS {address} ({error.strerror or error}); "
            "start one there with ray start, or unset RAY_ADDRESS."
        ) from None
