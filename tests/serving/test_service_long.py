"""The REST service under load and kills: its rate beside the bare engine's, nobody lost, no growth, jobs end once.

Machines are shared, so the rate is counted in captions per second of the service's own processor time.
"""

import asyncio
import json
import random
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from tests.served import seconds_of, share
from tests.serving.service import ROOT, Process, jpeg, running

pytestmark = pytest.mark.slow

BARE = """
import sys, time, captioning
from tests.serving.service import jpeg
captioner = captioning.load(captioning.in_the_box(), engine="onnx")
pictures = [jpeg(seed, size=(500, 375)) for seed in range(16 * 9)]
captioner.caption(pictures[:16], num_captions=3)
began, clock = time.process_time(), time.perf_counter()
for first in range(16, len(pictures), 16):
    captioner.caption(pictures[first:first + 16], num_captions=3)
print((len(pictures) - 16) / (time.process_time() - began), (len(pictures) - 16) / (time.perf_counter() - clock))
"""


def bare():
    """Captions of the engine alone per second of processor time, and per second."""
    done = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(each) for each in done.stdout.split()]


def processor_seconds(process):
    """What the service has used."""
    used = psutil.Process(process.process.pid).cpu_times()
    return used.user + used.system


def many(job):
    """What a job comes to with a client that opens a connection for every request, which no idle time can close."""

    async def go():
        fresh = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=120, limits=fresh) as client:
            return await job(client)

    return asyncio.run(go())


async def ask(client, process, picture, **fields):
    """ "caption", "refused" or what else came of it, and the seconds that it took."""
    began = time.monotonic()
    answer = await client.post(f"{process.address}/v1/captions", files={"images": picture}, data=fields)
    is_refused = answer.status_code == 503 and "retry-after" in answer.headers
    said = (
        "caption" if answer.status_code == 200 else "refused" if is_refused else f"{answer.status_code} {answer.text}"
    )
    return said, time.monotonic() - began


async def crowd(client, process, people, seconds):
    """What so many clients are told who ask one picture after the other, each picture a new one."""
    found, until, numbers = [], time.monotonic() + seconds, iter(range(10_000, 1_000_000))

    async def person():
        while time.monotonic() < until:
            said = await ask(client, process, jpeg(next(numbers), size=(500, 375)))
            found.append(said)
            if said[0] == "refused":
                await asyncio.sleep(1)  # as Retry-After says

    await asyncio.gather(*[person() for _ in range(people)])
    return found


def test_sixteen_clients_get_most_of_the_engines_rate(tmp_path, record_property):
    before = bare()
    with running(tmp_path, "--no-page") as process:
        many(lambda client: crowd(client, process, 16, 5))  # warm
        used, began = processor_seconds(process), time.monotonic()
        found = many(lambda client: crowd(client, process, 16, 60))
        used, took = processor_seconds(process) - used, time.monotonic() - began
        sizes = [line for line in httpx.get(f"{process.address}/metrics").text.splitlines() if "batch_size_" in line]
    after = bare()
    assert {said for said, _ in found} == {"caption"}
    rate, alone = len(found) / used, (before[0] + after[0]) / 2
    seconds = [each for _, each in found]
    record_property("captions per processor second, service", round(rate, 2))
    record_property("captions per processor second, engine alone", round(alone, 2))
    record_property("captions per second, service and load", round(len(found) / took, 2))
    record_property("p50 p95 p99 s", [round(share(seconds, part), 2) for part in (0.5, 0.95, 0.99)])
    record_property("batches", sizes[-2:])
    assert rate >= 0.85 * alone


def test_of_two_hundred_clients_none_is_lost(tmp_path, record_property):
    with running(tmp_path, "--no-page") as process:
        found = many(lambda client: crowd(client, process, 200, 10))
        assert httpx.get(f"{process.address}/readyz").status_code == 200
        lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    refusing = [line["ms"] for line in lines if line["status"] == 503 and line["method"] == "POST"]
    record_property("refusals p50 p95 p99 ms, in the service", [share(refusing, part) for part in (0.5, 0.95, 0.99)])
    assert {said for said, _ in found} == {"caption", "refused"}
    record_property("captions", len(seconds_of("caption", found)))
    record_property("refused", len(seconds_of("refused", found)))
    for kind in ("caption", "refused"):
        record_property(
            f"{kind} p50 p95 p99 s", [round(share(seconds_of(kind, found), p), 2) for p in (0.5, 0.95, 0.99)]
        )


def test_memory_stays_flat_over_ten_thousand_requests(tmp_path, record_property):
    """Every tenth picture is a new one; the search is small, so that it ends."""
    cheap = {"num_beams": 1, "max_length": 3, "mirrored": "false"}
    with running(tmp_path, "--no-page", "--answers", "200") as process:

        async def talk(client, first, count):
            gate = asyncio.Semaphore(16)

            async def one(number):
                async with gate:
                    return (await ask(client, process, jpeg(number if number % 10 == 0 else number % 20), **cheap))[0]

            return await asyncio.gather(*[one(number) for number in range(first, first + count)])

        memory, told = [], set()
        for part in range(10):
            told |= set(many(lambda client: talk(client, 1000 * part, 1000)))  # noqa: B023
            memory.append(round(psutil.Process(process.process.pid).memory_info().rss / 2**20))
    record_property("MB after every thousand requests", memory)
    assert told == {"caption"}
    assert max(memory[5:]) <= 1.05 * memory[4]


def test_every_accepted_job_ends_once_whenever_the_service_is_killed(tmp_path, record_property):
    rng, accepted, kills = random.Random(1), {}, 6
    process = Process(tmp_path, "--no-page").wait()
    try:
        for number in range(kills):
            for _ in range(2):
                files = [("images", (f"{seed}.jpg", jpeg(100 * number + seed))) for seed in range(12)]
                made = httpx.post(f"{process.address}/v1/jobs", files=files, data={"num_beams": 2}, timeout=60)
                accepted[made.raise_for_status().json()["id"]] = len(files)
            time.sleep(rng.uniform(0, 1.5))
            process.kill()
            process = Process(tmp_path, "--no-page", port=process.port).wait()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            states = {job["id"]: job["state"] for job in httpx.get(f"{process.address}/v1/jobs").json()["jobs"]}
            if set(states.values()) == {"done"}:
                break
            time.sleep(0.2)
        assert states == dict.fromkeys(accepted, "done")
        for job_id, pictures in accepted.items():
            rows = httpx.get(f"{process.address}/v1/jobs/{job_id}/results").text.splitlines()
            assert [json.loads(row)["number"] for row in rows] == list(range(pictures))
            assert all(json.loads(row)["caption"] for row in rows)
    finally:
        process.kill()
    record_property("kills", kills)
    record_property("jobs", len(accepted))
    record_property("pictures", sum(accepted.values()))
