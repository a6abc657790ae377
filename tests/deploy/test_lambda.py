"""The Lambda handler answers events of API Gateway as the service answers requests."""

import base64
import importlib.util
import json
import warnings
from pathlib import Path

import pytest

from tests.serving.service import jpeg

FILE = Path(__file__).parents[2] / "deploy/lambda/handler.py"
pytest.importorskip("mangum")


@pytest.fixture(scope="module")
def handler():
    """The handler's module, loaded as AWS does."""
    found = importlib.util.spec_from_file_location("handler", FILE)
    module = importlib.util.module_from_spec(found)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # there is no event loop yet
        found.loader.exec_module(module)
    return module.handler


def event(method, path, body=b"", kind="application/json", *, is_binary=False):
    """An event of an HTTP API (version 2), as API Gateway sends it."""
    text = base64.b64encode(body).decode() if is_binary else body.decode()
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "abc.execute-api.eu-central-1.amazonaws.com", "content-type": kind},
        "requestContext": {
            "http": {"method": method, "path": path, "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1"},
            "stage": "$default",
        },
        "body": text,
        "isBase64Encoded": is_binary,
    }


def old_event(method, path, body):
    """An event of a REST API (version 1)."""
    headers = {"Host": "abc.execute-api.eu-central-1.amazonaws.com", "Content-Type": "application/json"}
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"resourcePath": "/{proxy+}", "httpMethod": method, "identity": {"sourceIp": "192.0.2.1"}},
        "body": body.decode(),
        "isBase64Encoded": False,
    }


def picture(seed=1):
    return json.dumps({"images": [base64.b64encode(jpeg(seed)).decode()]}).encode()


def test_a_picture_in_base64_is_captioned_through_both_kinds_of_gateway(handler, direct):
    expected = direct.caption(jpeg(1), num_captions=3).text
    for asked in (event("POST", "/v1/captions", picture()), old_event("POST", "/v1/captions", picture())):
        answer = handler(asked, None)
        assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
        assert json.loads(answer["body"])["captions"][0]["caption"] == expected
        assert json.loads(answer["body"])["captioner"]


def test_a_form_that_the_gateway_encodes_is_read(handler, direct):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n' + jpeg(2) + b"\r\n--x--\r\n"
    )
    answer = handler(event("POST", "/v1/captions", body, "multipart/form-data; boundary=x", is_binary=True), None)
    assert answer["statusCode"] == 200, answer["body"]
    assert json.loads(answer["body"])["captions"][0]["caption"] == direct.caption(jpeg(2), num_captions=3).text


def test_a_drawing_comes_in_base64(handler):
    answer = handler(event("POST", "/v1/attention", picture()), None)
    assert answer["isBase64Encoded"]
    assert base64.b64decode(answer["body"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/captions", b"{", 400, "json"),
        ("POST", "/v1/captions", b'{"images": ["?"]}', 422, "base64"),
        ("POST", "/v1/captions", b'{"images": ["aGVsbG8="]}', 422, "image_not_an_image"),
        ("POST", "/v1/captions", b'{"images": []}', 422, "no_picture"),
        ("POST", "/v1/captions", b"", 400, "json"),
        ("GET", "/v1/captions", b"", 405, "http"),
        ("GET", "/nothing", b"", 404, "http"),
        ("POST", "/v1/jobs", picture(), 404, "jobs"),
        ("POST", "/v1/feedback", picture()[:-1] + b', "caption": "a dog", "rating": 1}', 404, "feedback"),
    ],
)
def test_mistakes_are_problems_in_words(handler, method, path, body, status, code):
    answer = handler(event(method, path, body), None)
    problem = json.loads(answer["body"])
    assert (answer["statusCode"], problem["code"], answer["isBase64Encoded"]) == (status, code, False)
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer["headers"]["x-request-id"]


def test_it_says_that_it_lives(handler):
    for path in ("/healthz", "/readyz"):
        assert handler(event("GET", path), None)["statusCode"] == 200
