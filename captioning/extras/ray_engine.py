"""Captioning and feature extraction on a Ray cluster. Each worker process loads its own model.

Ray Data distributes the batches. It restarts a worker that died and repeats its batch. The calling process writes all
results, so each file has one writer. Workers read images and bundles themselves, so these must be in a folder that
every machine mounts at the same path.
"""

import contextlib
import functools
import logging
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from tqdm import tqdm

from captioning.encoders import features
from captioning.encoders.registry import build_encoder
from captioning.errors import CaptioningError, ImageError, MissingExtra
from captioning.inference import folder as album
from captioning.options import DecodeOptions
from captioning.runtime.keras_import import import_keras, suppress_stderr

if TYPE_CHECKING:
    from captioning.inference.captioner import Caption, Captioner

CORES = 2  # cores of a worker by default
QUIET = {  # defaults of environment variables, set before Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else Ray's own lines mix with the captions on standard output
}

Task = TypeVar("Task")
Work = Callable[[Any], Any]  # a task -> its result, either of which Ray pickles
CaptionOrError: TypeAlias = "Caption | ImageError"


def require_ray() -> ModuleType:
    """Import Ray. If it is missing, the error names the command that installs it."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray.data
    except ImportError:
        raise MissingExtra("--engine ray needs Ray: pip install '.[ray]'.") from None
    return ray


def caption_images(
    load: Callable[[], "Captioner"], images: Sequence[Path], search: DecodeOptions, workers: int = 0, begin: str = ""
) -> Iterator[dict[Path, CaptionOrError]]:
    """Yield batches in any order: the Caption of each image, or its ImageError. `load` returns a captioner."""
    tasks = [images[first : first + album.BATCH] for first in range(0, len(images), album.BATCH)]
    for _, captions in spread(functools.partial(_captions, load, search, begin), tasks, workers):
        yield {image: _explained(image, found) for image, found in captions.items()}


def _captions(load: Callable[[], "Captioner"], search: DecodeOptions, begin: str = "") -> Work:
    captioner = load()
    return lambda images: dict(
        pair for batch in album.caption_images(captioner, images, search, begin) for pair in batch.items()
    )


def _explained(image: Path, found: CaptionOrError) -> CaptionOrError:
    if isinstance(found, ImageError) and found.reason == "missing" and image.exists():
        return ImageError(
            "missing", f"{image} does not exist on every machine; put the images in a folder that all machines share."
        )
    return found


def compute_features(
    missing: dict[features.View, Path], *, size: int, encoder: tuple[str, str] | None = None, workers: int = 0
) -> features.Batches:
    """Yield the grids of these views in batches, in any order. `encoder` is (name, weights); None yields pixels."""
    views = list(missing.items())
    tasks = [views[first : first + features.BATCH] for first in range(0, len(views), features.BATCH)]
    bar = tqdm(total=len(views), desc="features", unit="image", disable=None if views else True)
    with bar, _random_state_restored():
        for task, rows in spread(functools.partial(_grids, size, encoder), tasks, workers):
            yield [view for view, _ in task], rows
            bar.update(len(task))


@contextlib.contextmanager
def _random_state_restored() -> Iterator[None]:
    """Restores the random state of Python and NumPy, which Ray changes and a later training seeds from."""
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
    return lambda views: np.concatenate([rows for _, rows in features.compute_features(dict(views), size, network)])


def spread(begin: Callable[[], Work], tasks: Sequence[Task], workers: int = 0) -> Iterator[tuple[Task, Any]]:
    """Yield each task with its result, in any order. Every worker calls `begin` once to get its work function."""
    if not tasks:
        return
    with connected() as ray:
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
    """The largest number of cores per worker with which all workers fit on machines with these numbers of cores."""
    shares = range(max(machines, default=1), 1, -1)
    return next((share for share in shares if sum(cores // share for cores in machines) >= workers), 1)


class Worker:
    """One worker process for Ray Data, which creates it once and calls it with each batch of one row."""

    def __init__(self, begin: Callable[[], Work], folder: str, environment: dict[str, str]) -> None:
        with contextlib.suppress(OSError):  # the folder may not exist on this machine; then only absolute paths work
            os.chdir(folder)
        os.environ.update(environment)
        self._work = functools.cache(begin)  # called with the first batch, so that its error can be the answer

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = np.empty(1, object)
        try:
            answer[0] = self._work()(batch["task"][0])
        except CaptioningError as error:  # if raised, it would arrive as text
            answer[0] = error
        return {"number": batch["number"], "answer": answer}


def _environment(cores: int) -> dict[str, str]:
    """Environment variables of a worker: the Keras backend and its number of threads."""
    import keras

    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(cores))
    return threads | {"KERAS_BACKEND": keras.backend.backend()}  # torch reads OMP_NUM_THREADS, which Ray sets


@contextlib.contextmanager
def connected() -> Iterator[ModuleType]:
    """Ray, connected to the cluster at RAY_ADDRESS, else to one running on this machine, else to a new local one."""
    ray = require_ray()
    for name in ("ray", "ray.data", "ray.serve"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    is_ours = not ray.is_initialized()
    try:
        if is_ours:
            _require_answer(os.environ.get("RAY_ADDRESS", ""))
            with suppress_stderr():
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        yield ray
    except ray.exceptions.RayTaskError:  # a bug in the worker: keep its traceback
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        last = str(error).strip().splitlines()[-1]
        raise CaptioningError(f"Ray failed ({last}); results so far are kept, run it again to continue.") from error
    finally:
        if is_ours:
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuses an address without a server at once. Ray itself would retry for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # no port, or a keyword such as "auto"
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise CaptioningError(
            f"No Ray cluster answers at RAY_ADDRESS {address} ({error.strerror or error}); "
            "start one there with `ray start`, or unset RAY_ADDRESS."
        ) from None
