"""A REST service on the captioner in the box, asked in this process, for the tests of what it answers."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from captioning.app import server
from captioning.options import ServeOptions
from captioning.serving import rest
from captioning.serving.access import Access
from captioning.serving.batching import Batcher
from captioning.serving.jobs import JobRunner, JobStore
from captioning.serving.keys import KeyStore
from captioning.serving.telemetry import Telemetry

ROOT = Path(__file__).parents[2]


def jpeg(seed, *, size=(64, 48)):
    """A small picture as a file, another for every seed."""
    file = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype="uint8")
    Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST).save(file, "JPEG", quality=95)
    return file.getvalue()


def sent(*seeds):
    """Pictures as the files of a multipart body."""
    return [("images", (f"{seed}.jpg", jpeg(seed), "image/jpeg")) for seed in seeds]


@contextlib.contextmanager
def asked(pool, folder, *, feedback=None, has_keys=False, options=None, host="localhost", **more):
    """A client of a service; what it logs is in client.log, its parts in client.service."""
    options, log = options or ServeOptions(), io.StringIO()
    figures = Telemetry(log)
    batcher = Batcher(pool, options, seen=figures.seen)
    jobs = JobStore(folder / "jobs.db")
    figures.watch(queue=lambda: batcher.held, loaded=lambda: len(pool.loaded), jobs=jobs.waiting)
    access = Access(KeyStore(folder / "keys.db"), more.pop("tokens", None)) if has_keys else None
    service = rest.Service(pool, batcher, figures, feedback, access, jobs, JobRunner(jobs, batcher))
    with TestClient(rest.build(service), base_url=f"http://{host}", raise_server_exceptions=False) as client:
        client.service, client.log = service, log
        yield client
    service.runner.close()
    batcher.close()


def lines(client):
    """What was logged, as records."""
    return [json.loads(line) for line in client.log.getvalue().splitlines()]


def many(count, job):
    """The results of a job that so many threads begin at the same moment."""
    gate, found = threading.Barrier(count), [None] * count

    def run(number):
        gate.wait()
        found[number] = job(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextlib.contextmanager
def listening(client):
    """The service of a client on a port of its own: its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener, server.running(rest.build(client.service), listener):
        yield listener.getsockname()


class Process:
    """`captioning serve` in a process of its own."""

    def __init__(self, folder, *flags, port=None):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = port or probe.getsockname()[1]
        self.address, self.log, self.folder = f"http://127.0.0.1:{self.port}", folder / "log.txt", folder
        places = "--state", folder / "state", "--feedback", folder / "said.db", "--port", self.port
        command = [sys.executable, "-m", "captioning", "serve", *places, *flags]
        settings = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*map(str, command)], stdout=log, stderr=log, env=settings, cwd=ROOT, start_new_session=True
            )

    def wait(self, seconds=120):
        """Until it is ready."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return self
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def kill(self):
        """As a power cut ends it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def stop(self):
        """As Ctrl-C ends it; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def running(folder, *flags):
    """A process that is ready, and killed in the end."""
    process = Process(folder, *flags)
    try:
        yield process.wait()
    finally:
        process.kill()
