"""Captions by replicas of a Ray Serve deployment, which Ray starts and stops with the load.

The service itself stays one process, with keys, quotas, jobs and feedback. A replica holds captioners and nothing
else, so a batch whose replica dies is captioned again by another one, and the request notices nothing.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.errors import CaptioningError, MissingExtra
from captioning.extras import ray_engine
from captioning.options import DecodeOptions
from captioning.serving.batching import Busy
from captioning.serving.pool import LONGEST, CaptionerPool

if TYPE_CHECKING:
    from captioning.inference.caption import Caption

MOST_TRIES = 5  # of a batch whose replicas die
PAUSE = 0.5  # seconds before the next try
WAITING = 2  # batches that a replica is given at once: one is captioned, one is on its way


def require_serve() -> None:
    """Refuses to go on where Ray Serve is not installed."""
    ray_engine.require_ray()
    try:
        import ray.serve  # noqa: F401
    except ImportError:
        raise MissingExtra("--engine ray needs Ray Serve: pip install '.[ray]'.") from None


@dataclass(frozen=True)
class Scale:
    """The fewest and the most replicas."""

    least: int = 1
    most: int = 0  # 0: one per two cores of the cluster

    def __post_init__(self) -> None:
        if not (self.least >= 1 and (self.most == 0 or self.least <= self.most)):
            raise CaptioningError(
                f"--replicas {self.least} {self.most} cannot be used; give the fewest, 1 or more, and the most."
            )


class Replica:
    """One replica: captioners in a process of their own."""

    def __init__(self, folders: Sequence[Path], encoder_weights: str, engine: str, folder: str) -> None:
        with contextlib.suppress(OSError):  # the folder may not exist on this machine; then only absolute paths work
            os.chdir(folder)
        self._pool = CaptionerPool(folders, encoder_weights=encoder_weights, engine=engine)
        self._pool.search(self._pool.names[0])

    def caption(self, bundle: str, pixels: list[np.ndarray], options: DecodeOptions) -> "list[Caption] | Exception":
        """The captions of a batch, or the error of a person's mistake, which would arrive as text if raised."""
        try:
            return self._pool.caption(bundle, pixels, options)
        except CaptioningError as error:
            return error


class ReplicaPool(CaptionerPool):
    """A pool whose batches are captioned by replicas; single captioners, as the page needs them, are opened here."""

    handle: Any = None  # of the deployment

    def caption(self, bundle: str, pixels: list[np.ndarray], options: DecodeOptions) -> "list[Caption]":
        """The captions of a batch. Where a replica dies, another one is asked."""
        import ray

        for attempt in range(MOST_TRIES):
            time.sleep(PAUSE * attempt)
            try:
                answer = self.handle.caption.remote(bundle, pixels, options).result(timeout_s=LONGEST)
            except (ray.exceptions.RayActorError, ray.exceptions.RaySystemError, ConnectionError):
                answer = None
            except (TimeoutError, ray.exceptions.GetTimeoutError):
                raise Busy(f"No replica answered within {LONGEST:.0f} seconds; try again soon.") from None
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                return answer
            print("A replica ended; its pictures are captioned again.", file=sys.stderr)
        raise Busy(f"{MOST_TRIES} replicas ended one after the other; try again soon.")


@contextlib.contextmanager
def replicas(pool: ReplicaPool, scale: Scale) -> Iterator[None]:
    """Has the batches of a pool captioned by replicas until the block ends."""
    with ray_engine.connected() as ray:
        from ray import serve

        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        most = scale.most or max(scale.least, sum(cores // ray_engine.CORES for cores in machines))
        name = f"captioning-{socket.gethostname()}-{os.getpid()}"
        bound = serve.deployment(Replica, **_settings(scale.least, most, ray_engine.cores_each(most, machines))).bind(
            [pool.folder(each).absolute() for each in pool.names], pool.encoder_weights, pool.engine, os.getcwd()
        )
        with contextlib.ExitStack() as stack:
            serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR", "enable_access_log": False})
            stack.callback(serve.delete, name)
            try:
                pool.handle = serve.run(bound, name=name, route_prefix=None)
            except RuntimeError as error:
                last = str(error).strip().splitlines()[-1]
                raise CaptioningError(
                    f"Ray Serve could not start a replica ({last}); every machine needs this project and the bundles."
                ) from None
            pool.at_once = most * WAITING
            yield


def _settings(least: int, most: int, cores: int) -> dict[str, Any]:
    """What Ray Serve is told of the deployment."""
    scaling = {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": 1.0,
        "upscale_delay_s": 5.0,
        "downscale_delay_s": 120.0,
    }
    actor = {"num_cpus": cores}
    return {
        "name": "captioners",
        "autoscaling_config": scaling,
        "max_ongoing_requests": WAITING,
        "health_check_period_s": 5.0,
        "graceful_shutdown_timeout_s": LONGEST,
        "ray_actor_options": actor,
    }
