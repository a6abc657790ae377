"""Jobs end once each, in their order, whatever happens in between; others neither see nor end them."""

import json
import time

import pytest

from captioning.options import DecodeOptions
from captioning.serving import jobs
from captioning.serving.bodies import Picture
from captioning.serving.jobs import JobStore
from captioning.serving.problems import Problem
from captioning.serving.schemas import PictureCaption
from tests.serving.service import asked, jpeg, sent

FAST = {"num_beams": "1", "max_length": "4"}


@pytest.fixture
def store(tmp_path):
    return JobStore(tmp_path / "jobs.db")


def pictures(count):
    return [Picture(f"{number}.jpg", b"data") for number in range(count)]


def record(task):
    return task, PictureCaption(image=task.picture.name, caption="a dog")


def results(store, job):
    return [json.loads(line) for line in store.results(job.id).splitlines()]


def ended(client, job_id):
    """The job once it is over."""
    for _ in range(600):
        job = client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] in ("done", "cancelled"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def test_a_job_is_captioned_in_the_order_of_its_pictures(client, direct):
    files = [*sent(*range(200, 210)), ("images", ("broken.png", b"nothing"))]
    made = client.post("/v1/jobs", files=files, data=FAST)
    job = made.json()
    assert (made.status_code, made.headers["location"], job["pictures"]) == (202, f"/v1/jobs/{job['id']}", 11)
    over = ended(client, job["id"])
    assert (over["state"], over["answered"], bool(over["finished"])) == ("done", 11, True)
    found = client.get(f"/v1/jobs/{job['id']}/results")
    assert found.headers["content-type"] == "application/jsonl"
    rows = [json.loads(line) for line in found.text.splitlines()]
    assert [row["number"] for row in rows] == list(range(11))
    expected = [direct.caption(jpeg(200 + number), num_beams=1, max_length=4).text for number in range(10)]
    assert [row["caption"] for row in rows[:10]] == expected
    assert rows[10]["problem"]["code"] == "image_not_an_image"
    assert job["id"] in [each["id"] for each in client.get("/v1/jobs").json()["jobs"]]


def test_options_are_checked_when_a_job_is_made(client):
    assert client.post("/v1/jobs", files=sent(1), data={"num_beams": "99"}).status_code == 422
    assert client.post("/v1/jobs", files=sent(1), data={"captioner": "other"}).status_code == 422
    for path in ("/v1/jobs/none", "/v1/jobs/none/results"):
        assert client.get(path).json()["code"] == "job"


def test_a_cancelled_job_keeps_what_was_captioned(store):
    job = store.create("blog", "x", DecodeOptions(), pictures(5))
    store.finish([record(task) for task in store.take(2)])
    begun = store.take(1)
    store.cancel(job.id)
    store.finish([record(task) for task in begun])
    assert (store.find(job.id).state, len(results(store, job)), store.waiting()) == ("cancelled", 3, 0)
    assert not store.take()
    with pytest.raises(Problem, match="ended before"):
        store.cancel(job.id)


def test_what_was_begun_is_begun_again_after_a_crash_and_ends_once(store, tmp_path):
    job = store.create("blog", "x", DecodeOptions(num_beams=5, forbid=("a",)), pictures(3), boxes=True)
    store.finish([record(task) for task in store.take(1)])
    lost = store.take()  # and the process ends here
    again = JobStore(tmp_path / "jobs.db").take()
    assert [task.number for task in again] == [task.number for task in lost] == [1, 2]
    assert (again[0].options, again[0].boxes, again[0].tries) == (DecodeOptions(num_beams=5, forbid=("a",)), True, 1)
    store.finish([record(task) for task in again])
    store.finish([(task, PictureCaption(image="late", caption="late")) for task in lost])
    assert [row["caption"] for row in results(store, job)] == ["a dog"] * 3
    assert store.find(job.id).state == "done"


def test_a_picture_that_ends_the_process_each_time_is_given_up(client):
    service = client.service
    store = service.jobs
    service.runner.close()
    job = store.create("local", "flickr8k", DecodeOptions(num_beams=1, max_length=3), [Picture("0.jpg", jpeg(1))])
    for _ in range(jobs.MOST_TRIES):
        store.take()
    runner = jobs.JobRunner(store, service.batcher)
    ended(client, job.id)
    runner.close()
    assert results(store, job)[0]["problem"]["code"] == "given_up"
    service.runner = jobs.JobRunner(store, service.batcher)


def test_jobs_are_taken_one_after_the_other(store):
    first = store.create("blog", "x", DecodeOptions(), pictures(3))
    second = store.create("blog", "x", DecodeOptions(), pictures(1))
    assert [task.job for task in store.take(8)] == [first.id] * 3
    assert [job.id for job in store.list()] == [second.id, first.id]
    assert [job.state for job in store.list()] == ["queued", "running"]


def test_there_is_room_for_so_much(store, monkeypatch):
    monkeypatch.setattr(jobs, "ROOM", 10)
    store.create("blog", "x", DecodeOptions(), pictures(2))
    with pytest.raises(Problem, match="no room"):
        store.create("blog", "x", DecodeOptions(), pictures(1))
    store.finish([record(task) for task in store.take()])
    store.create("blog", "x", DecodeOptions(), pictures(1))


def test_old_jobs_are_forgotten(store, monkeypatch):
    old, new = (store.create("blog", "x", DecodeOptions(), pictures(1)) for _ in range(2))
    store.finish([record(task) for task in store.take()])
    store.forget_old()
    assert len(store.list()) == 2
    monkeypatch.setattr(jobs, "KEPT", -jobs.KEPT)
    store.forget_old()
    assert [job.id for job in store.list()] == [new.id]
    with pytest.raises(Problem, match="no such job"):
        store.find(old.id)


def test_a_key_sees_its_own_jobs_and_an_admin_all(box, tmp_path):
    with asked(box, tmp_path, has_keys=True, host="captions.example") as client:
        keys = client.service.access.keys
        one, other, chief = (
            {"authorization": f"Bearer {keys.create(name, role=role, per_hour=3)}"}
            for name, role in (("one", "caption"), ("other", "caption"), ("chief", "admin"))
        )
        job_id = client.post("/v1/jobs", files=sent(1, 2, 3), data=FAST, headers=one).json()["id"]
        assert client.post("/v1/captions", files=sent(4), headers=one).status_code == 429
        for method, path in (("GET", ""), ("GET", "/results"), ("DELETE", "")):
            assert client.request(method, f"/v1/jobs/{job_id}{path}", headers=other).status_code == 404
        assert client.get("/v1/jobs", headers=other).json() == {"jobs": []}
        for who in (one, chief):
            assert [job["id"] for job in client.get("/v1/jobs", headers=who).json()["jobs"]] == [job_id]
