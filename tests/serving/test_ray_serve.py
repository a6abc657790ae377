"""Replicas on a Ray cluster: one that is killed under load costs no request; their captions are those of one process.

Those marked slow start Ray with two replicas (the extra `ray`): make test-ray.
"""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

import captioning
from captioning import cli
from captioning.errors import CaptioningError, ImageError, MissingExtra
from captioning.options import DecodeOptions, ServeOptions
from captioning.serving import ray_serve
from captioning.serving.batching import Batcher, Busy
from captioning.serving.ray_serve import ReplicaPool, Scale
from tests.serving.service import jpeg, many

ROOT = Path(__file__).parents[2]
SEARCH = DecodeOptions(num_captions=3)
TRIES = 4  # to start Ray on a busy machine
START = 300  # seconds that a busy machine may take to start two replicas


class Died(Exception):  # noqa: N818
    """What Ray says of a replica that has ended."""


@pytest.fixture
def pool(monkeypatch):
    """A pool whose replicas are given by each test; Ray itself is not needed."""
    known = SimpleNamespace(RayActorError=Died, RaySystemError=Died, GetTimeoutError=TimeoutError)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(exceptions=known))
    monkeypatch.setattr(ray_serve, "PAUSE", 0)
    return ReplicaPool([captioning.in_the_box()], engine="onnx")


def answering(pool, answer):
    """Lets a function answer for the replicas; it gets the number of the attempt."""
    asked = []

    def remote(*arguments):
        asked.append(arguments)
        return SimpleNamespace(result=lambda timeout_s: answer(len(asked)))

    pool.handle = SimpleNamespace(caption=SimpleNamespace(remote=remote))
    return asked


def dying(times, then):
    def answer(attempt):
        if attempt <= times:
            raise Died
        return then

    return answer


def test_a_batch_whose_replica_dies_goes_to_another(pool, capsys):
    asked = answering(pool, dying(2, ["a caption"]))
    assert pool.caption("flickr8k", [np.zeros(1)], SEARCH) == ["a caption"]
    assert len(asked) == 3
    assert capsys.readouterr().err.count("captioned again") == 2


def test_a_batch_that_every_replica_dies_of_is_given_up(pool):
    asked = answering(pool, dying(99, []))
    with pytest.raises(Busy, match="ended one after the other"):
        pool.caption("flickr8k", [], SEARCH)
    assert len(asked) == ray_serve.MOST_TRIES


def test_an_error_of_a_replica_is_raised_here_and_tried_once(pool):
    asked = answering(pool, lambda attempt: ImageError("empty", "a.jpg is empty."))
    with pytest.raises(ImageError, match=r"a\.jpg is empty"):
        pool.caption("flickr8k", [], SEARCH)
    assert len(asked) == 1

    def late(attempt):
        raise TimeoutError

    answering(pool, late)
    with pytest.raises(Busy, match="No replica answered"):
        pool.caption("flickr8k", [], SEARCH)


def test_a_replica_captions_as_the_pool_here_does(box, direct):
    replica = ray_serve.Replica([captioning.in_the_box()], "imagenet", "onnx", os.getcwd())
    pixels = [np.full((direct.image_size, direct.image_size, 3), 90, np.uint8)]
    [ours], [theirs] = box.caption("flickr8k", pixels, SEARCH), replica.caption("flickr8k", pixels, SEARCH)
    assert ours.text == theirs.text
    assert isinstance(replica.caption("nobody", pixels, SEARCH), CaptioningError)


def test_several_batches_are_captioned_at_once_and_each_picture_once(box):
    began, both = [], threading.Barrier(2, timeout=20)

    class Wide(type(box)):
        at_once = 2

        def caption(self, name, pixels, options):
            began.append(len(pixels))
            both.wait()
            return super().caption(name, pixels, options)

    wide = Wide([captioning.in_the_box()], engine="onnx")
    batcher = Batcher(wide, ServeOptions(batch_size=2, window=0.0))
    options = [DecodeOptions(num_beams=beams) for beams in (1, 2)]
    found = many(2, lambda number: batcher.caption(jpeg(number), "flickr8k", options[number]).result(30))
    batcher.close()
    assert began == [1, 1]
    assert all(caption.text for caption in found)


@pytest.mark.parametrize("scale", [(0, 1), (3, 2), (-1, 0)])
def test_a_scale_that_cannot_be_is_refused(scale):
    with pytest.raises(CaptioningError, match=r"^--replicas"):
        Scale(*scale)


def test_without_ray_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["serve", "--engine", "ray"]) == 2
    assert capsys.readouterr().err == "captioning: --engine ray needs Ray: pip install '.[ray]'.\n"
    with pytest.raises(SystemExit):
        cli.main(["serve", "--replicas", "1", "2"])


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with two replicas in processes of their own: its process, its address, what it prints."""
    try:
        with warnings.catch_warnings(action="ignore"):  # its own settings, read by itself
            ray_serve.require_serve()
    except MissingExtra as missing:
        pytest.skip(str(missing))
    for number in range(TRIES):
        process, address, log = started(tmp_path_factory.mktemp("replicas"))
        until = time.monotonic() + START
        while process.poll() is None and "The service is on" not in log.read_text():
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.5)
        if process.poll() is None:
            break
        is_busy = "timed out during startup" in log.read_text()  # Ray's own patience of 30 seconds
        assert is_busy, log.read_text()
        assert number < TRIES - 1, log.read_text()
    yield SimpleNamespace(process=process, address=address, log=log)
    process.send_signal(signal.SIGTERM)
    process.wait(120)


def started(folder):
    """A service with two replicas that is about to start."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    flags = "--engine", "ray", "--replicas", "2", "2", "--no-page", "--port", port, "--answers", "0", "--window", "0"
    command = [sys.executable, "-m", "captioning", "serve", *flags, "--bundle", str(captioning.in_the_box())]
    settings = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local", "PYTHONUNBUFFERED": "1"}
    log = folder / "printed.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=settings, stdout=file, stderr=file, start_new_session=True)
    return process, f"http://127.0.0.1:{port}", log


def replicas_of(process):
    """The processes of its replicas, whose titles name the application."""
    title, found = f"ServeReplica:captioning-{socket.gethostname()}-{process.pid}:", []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if title in path.read_text():
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


@pytest.mark.slow
def test_a_replica_that_is_killed_under_load_costs_no_request(service, direct):
    found, until = [], time.monotonic() + 25
    first = replicas_of(service.process)
    assert len(first) == 2

    def ask(person):
        with httpx.Client(timeout=120) as client:
            while time.monotonic() < until:
                number = person * 10_000 + len(found)
                answer = client.post(f"{service.address}/v1/captions", files={"images": ("a.jpg", jpeg(number))})
                found.append((number, answer.status_code, answer.json()))

    def kill():
        time.sleep(6)
        os.kill(first[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    many(8, ask)
    killer.join()
    assert len(found) > 20
    assert {status for _, status, _ in found} == {200}
    for number, _, answer in found[:: len(found) // 8]:
        expected = direct.caption(jpeg(number), num_captions=3)
        assert answer["captions"][0]["caption"] == expected.text
    assert "captioned again" in service.log.read_text(), "the killed replica was idle"
    until_new = time.monotonic() + 120
    while len(replicas_of(service.process)) < 2 and time.monotonic() < until_new:
        time.sleep(1)
    second = replicas_of(service.process)
    assert len(second) == 2
    assert first[0] not in second
    print(f"{len(found)} requests in 25 s, all answered, one of two replicas killed")


@pytest.mark.slow
def test_a_job_over_replicas_ends_with_every_picture_once(service):
    images = [base64.b64encode(jpeg(seed)).decode() for seed in range(50_000, 50_020)]
    job = httpx.post(f"{service.address}/v1/jobs", json={"images": images}, timeout=60).json()
    os.kill(replicas_of(service.process)[0], signal.SIGKILL)
    until = time.monotonic() + 120
    while httpx.get(f"{service.address}/v1/jobs/{job['id']}").json()["state"] != "done":
        assert time.monotonic() < until
        time.sleep(0.5)
    lines = httpx.get(f"{service.address}/v1/jobs/{job['id']}/results").text.splitlines()
    assert len(lines) == 20
    assert all('"problem": null' in line for line in lines)
