"""A split over REST: callers get their captioner, what they say is kept with it, and the comparison finds it."""

import shutil

import pytest

import captioning
from captioning.data.feedback import FeedbackStore
from captioning.errors import CaptioningError
from captioning.evaluation.people import compare_feedback
from captioning.options import ServeOptions
from captioning.serving import rest
from captioning.serving.pool import CaptionerPool
from captioning.serving.split import read_split
from tests.serving.service import asked, lines, sent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A pool of two captioners with the same weights."""
    folders = [tmp_path_factory.mktemp("bundles") / name for name in ("old", "new")]
    for folder in folders:
        shutil.copytree(captioning.in_the_box(), folder)
    return CaptionerPool(folders, engine="onnx")


@pytest.fixture
def client(two, tmp_path):
    with asked(two, tmp_path, feedback=FeedbackStore(tmp_path / "said.db")) as client:
        client.service.split = read_split("old=50,new=50", two.names)
        client.said = tmp_path / "said.db"
        yield client


def given(client, subject, **fields):
    answer = client.post("/v1/captions", files=sent(1), data={"subject": subject, **fields})
    assert answer.status_code == 200
    return answer.json()["captioner"]


def say(client, **fields):
    return client.post("/v1/feedback", files=sent(1), data={"caption": "a dog", **fields})


def test_subjects_keep_their_captioner_and_a_named_one_goes_before(client):
    people = [f"user {number}" for number in range(12)]
    first = [given(client, person) for person in people]
    assert set(first) == {"old", "new"}
    assert [given(client, person) for person in people] == first
    assert {given(client, person, captioner="old") for person in people} == {"old"}
    assert len({given(client, "") for _ in range(3)}) == 1
    assert {line["captioner"] for line in lines(client)} == {"old", "new"}
    assert "user 1" not in client.log.getvalue()


def test_what_is_said_is_kept_with_its_captioner_and_compared(client):
    refused = say(client, subject="user 1", rating=5)
    assert (refused.status_code, refused.json()["code"]) == (422, "captioner")
    for number in range(24):
        captioner = given(client, f"user {number}")
        rating = 5 if captioner == "new" else 2
        assert say(client, subject=f"user {number}", captioner=captioner, rating=rating).status_code == 201
    other = {"old", "new"} - {given(client, "user 0")}
    assert say(client, subject="user 0", captioner=other.pop(), rating=1).status_code == 201
    told = compare_feedback([client.said])
    assert told.startswith("24 of 25 entries are on captions of the split.")
    assert "new is better by rating." in told
    kept = FeedbackStore(client.said).list()
    assert [set(entry.options) for entry in kept[:2]] == [{"through"}, {"through", "arm", "person"}]
    assert not any("user" in str(entry.options.values()) for entry in kept)


def test_options_make_the_split_and_leave_jobs_out(two, tmp_path):
    options = ServeOptions(split="old=90,new=10", jobs=False)
    service = rest.open_service(two, None, tmp_path, options)
    assert service.split == read_split("old=9,new=1", two.names)
    assert (service.jobs, service.runner) == (None, None)
    assert b"captioning_job_pictures 0.0" in service.telemetry.text()
    service.batcher.close()
    with pytest.raises(CaptioningError, match=r"^--split names nobody"):
        rest.open_service(two, None, tmp_path, ServeOptions(split="old=90,nobody=10"))
