"""The REST interface says what the captioner says, refuses in one form, and logs nothing of what was sent."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from captioning.options import DecodeOptions
from captioning.serving.answers import answer
from captioning.serving.records import attention_box
from captioning.serving.session import describe
from tests.serving.service import jpeg, lines, sent


def caption(client, *seeds, **fields):
    """The answer to these pictures, with its status."""
    found = client.post("/v1/captions", files=sent(*seeds), data=fields)
    return found.status_code, found.json()


def test_a_caption_is_that_of_the_captioner(client, direct):
    status, found = caption(client, 1)
    expected = direct.caption(jpeg(1), num_captions=3)
    [told] = found["captions"]
    assert (status, found["captioner"], told["image"], told["problem"]) == (200, "flickr8k", "1.jpg", None)
    assert (told["caption"], told["sure"], told["verdict"]) == (expected.text, expected.sure, expected.verdict)
    assert told["confidence"] == pytest.approx(expected.confidence, abs=1e-3)
    assert [word["text"] for word in told["words"]] == [word.text for word in expected.words]
    assert [word["probability"] for word in told["words"]] == pytest.approx(
        [word.probability for word in expected.words], abs=1e-3
    )
    assert [other["caption"] for other in told["alternatives"]] == [other.text for other in expected.alternatives]
    assert all(word["box"] is None for word in told["words"])


def test_the_app_and_rest_give_equal_captions(client, box, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(jpeg(2))
    page = answer(describe(box, "flickr8k", str(tmp_path / "photo.jpg")))
    told = caption(client, 2)[1]["captions"][0]
    for name in ("caption", "sure", "verdict"):
        assert told[name] == page[name]
    assert [told["confidence"], told["score"]] == pytest.approx([page["confidence"], page["score"]], abs=1e-3)
    assert [each["caption"] for each in told["alternatives"]] == [each["caption"] for each in page["alternatives"]]


def test_pictures_in_json_are_captioned_as_those_in_a_form(client):
    texts = [base64.b64encode(jpeg(seed)).decode() for seed in (3, 4)]
    body = {"images": [texts[0], f"data:image/jpeg;base64,{texts[1]}"], "num_beams": 2, "boxes": True}
    found = client.post("/v1/captions", json=body).json()
    form = caption(client, 3, 4, num_beams="2", boxes="true")[1]
    for one, other in zip(found["captions"], form["captions"], strict=True):
        assert one | {"image": ""} == other | {"image": ""}
    assert [each["image"] for each in found["captions"]] == ["0", "1"]


def test_every_search_option_is_a_field(client, direct):
    options = DecodeOptions(num_beams=4, max_length=5, forbid=("a", "man"), num_captions=2)
    fields = {"num_beams": "4", "max_length": "5", "forbid": ["a", "man"], "num_captions": "2"}
    told = caption(client, 5, **fields)[1]["captions"][0]
    assert told["caption"] == direct.caption(jpeg(5), options).text
    assert len(told["alternatives"]) == 1
    described = client.get("/openapi.json").json()["paths"]["/v1/captions"]["post"]["requestBody"]["content"]
    for kind in ("multipart/form-data", "application/json"):
        assert set(DecodeOptions.__dataclass_fields__) < set(described[kind]["schema"]["properties"])


def test_a_box_surrounds_what_is_attended_to_most(client, direct):
    told = caption(client, 6, boxes="true")[1]["captions"][0]
    expected = [attention_box(word.attention) for word in direct.caption(jpeg(6), num_captions=3).words]
    assert [word["box"] for word in told["words"]] == [pytest.approx(box, abs=1e-3) for box in expected]
    attention = np.zeros((4, 4))
    attention[1, 2], attention[2, 2], attention[3, 0] = 0.5, 0.3, 0.2
    assert attention_box(attention) == (0.5, 0.25, 0.75, 0.75)


def test_one_bad_picture_among_several_is_told_in_its_place(client):
    files = [*sent(1), ("images", ("x.png", b"nothing", "image/png")), *sent(2)]
    first, bad, last = client.post("/v1/captions", files=files).json()["captions"]
    assert first["caption"]
    assert last["caption"]
    assert (bad["caption"], bad["problem"]["code"]) == (None, "image_not_an_image")


@pytest.mark.parametrize(
    ("sends", "status", "code", "told"),
    [
        ({"files": [("images", ("x.png", b"nothing"))]}, 422, "image_not_an_image", "is not a picture"),
        ({"files": [("images", ("x.png", b""))]}, 422, "image_empty", "is empty"),
        ({"files": [("images", ("x.png", bytes(11 * 2**20)))]}, 413, "image_too_large", "10 MB"),
        ({"files": sent(*range(17))}, 400, "http", "Too many files"),
        ({"files": [("image", ("x.png", b"1"))]}, 422, "invalid", "Pictures are sent as images"),
        ({"files": sent(1), "data": {"num_beam": "2"}}, 422, "invalid", "num_beam"),
        ({"files": sent(1), "data": {"num_beams": "many"}}, 422, "invalid", "num_beams"),
        ({"files": sent(1), "data": {"num_beams": "99"}}, 422, "invalid", "num_beams 99 cannot be used"),
        ({"files": sent(1), "data": {"force": "xyzzy"}}, 422, "invalid", "lacks that word"),
        ({"files": sent(1), "data": {"captioner": "other"}}, 422, "invalid", "choose one of flickr8k"),
        ({"files": sent(1), "data": {"language": "tlh"}}, 422, "invalid", "language tlh"),
        ({"data": {"num_beams": "2"}}, 415, "content_type", "multipart/form-data"),
        ({"json": {"images": []}}, 422, "no_picture", "No picture"),
        ({"json": {"images": "abc"}}, 422, "invalid", "list of texts"),
        ({"json": {"images": ["%%"]}}, 422, "base64", "images[0]"),
        ({"json": {"images": ["AA=="] * 17}}, 413, "too_many_images", "at most 16"),
        ({"json": [1]}, 422, "invalid", "no object"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "json", "no JSON"),
        ({"content": b"[" * 99_999, "headers": {"content-type": "application/json"}}, 400, "json", "nested"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "http", "boundary"),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "content_type", "application/json"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_form(client, sends, status, code, told):
    found = client.post("/v1/captions", **sends)
    assert found.headers["content-type"] == "application/problem+json"
    body = found.json()
    assert (found.status_code, body["status"], body["code"]) == (status, status, code)
    assert told in body["detail"]
    assert body["request_id"] == found.headers["x-request-id"]


def test_attention_is_drawn(client):
    found = client.post("/v1/attention", files=sent(1), data={"max_length": "2"})
    assert found.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(found.content)) as drawn:
        assert drawn.format == "PNG"
    found = client.post("/v1/attention", files=sent(1), data={"format": "gif", "max_length": "2"})
    with Image.open(io.BytesIO(found.content)) as drawn:
        assert (drawn.format, drawn.n_frames) == ("GIF", 3)


def test_feedback_is_kept_with_the_picture(client):
    said = {"caption": "a dog", "rating": "2", "correction": "a cat sits", "comment": "no dog"}
    found = client.post("/v1/feedback", files=sent(1), data=said)
    assert found.status_code == 201
    store = client.service.feedback
    kept = next(each for each in store.list() if each.id == found.json()["id"])
    assert (kept.bundle, kept.caption, kept.rating, kept.correction) == ("flickr8k", "a dog", 2, "a cat sits")
    assert store.image(kept).is_file()
    refused = client.post("/v1/feedback", files=sent(1), data={"caption": "a dog"})
    assert (refused.status_code, "empty" in refused.json()["detail"]) == (422, True)


def test_captioners_health_and_figures(client):
    [offer] = client.get("/v1/captioners").json()["captioners"]
    assert (offer["name"], offer["is_calibrated"], offer["is_loaded"]) == ("flickr8k", True, True)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    caption(client, 40)
    caption(client, 40)
    figures = client.get("/metrics").text
    assert re.search(r'captioning_requests_total\{method="POST",route="/v1/captions",status="200"\} \d', figures)
    assert re.search(r"captioning_cache_hits_total [1-9]", figures)
    assert re.search(r'captioning_confidence_count\{captioner="flickr8k"\} [1-9]', figures)
    assert "captioning_queue 0.0" in figures


def test_the_log_has_a_line_per_request_and_nothing_that_was_sent(client):
    before = len(lines(client))
    found = caption(client, 41, comment="secret")[0], caption(client, 41)
    first, second = lines(client)[before:]
    assert (first["status"], first["outcome"], found[0]) == (422, "invalid", 422)
    assert (second["captioner"], second["pictures"], second["outcome"]) == ("flickr8k", 1, "ok")
    assert second["id"] == found[1][1]["request_id"]
    text = client.log.getvalue()
    assert "41.jpg" not in text
    assert "secret" not in text
    assert found[1][1]["captions"][0]["caption"] not in text


def test_an_id_that_is_sent_is_kept_and_a_strange_one_is_not(client):
    assert client.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    strange = client.get("/healthz", headers={"x-request-id": "a b\t"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", strange)


def test_the_document_names_every_route_and_its_examples_work(client):
    document = client.get("/openapi.json").json()
    assert {
        "/v1/captions",
        "/v1/attention",
        "/v1/captioners",
        "/v1/feedback",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/results",
        "/healthz",
        "/readyz",
        "/metrics",
    } == set(document["paths"])
    for path in ("/v1/captions", "/v1/attention", "/v1/feedback", "/v1/jobs"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        found = client.post(path, json=content["application/json"]["example"])
        assert found.status_code in (200, 201, 202), found.text
    assert "$defs" not in json.dumps(document)


def test_unknown_addresses_and_methods_are_problems(client):
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/captions", 405), ("PUT", "/healthz", 405)):
        found = client.request(method, path)
        assert (found.status_code, found.json()["status"]) == (status, status)
