"""Who a request is from: keys, tokens, roles, quotas; and without keys this computer alone."""

import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from captioning.errors import CaptioningError
from captioning.serving.access import Tokens
from tests.serving.service import asked, many, sent

SECRET = "a secret of more than thirty-two bytes"
CLAIMS = {"sub": "ada", "aud": "captions"}


def bearer(text):
    return {"authorization": f"Bearer {text}"}


def token(secret=SECRET, algorithm="HS256", **claims):
    return jwt.encode(CLAIMS | {"exp": time.time() + 60} | claims, secret, algorithm)


@pytest.fixture(scope="module")
def guarded(box, tmp_path_factory):
    """A client of a service that asks for keys or tokens, under a name of the network."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "secret").write_text(SECRET + "\n")
    tokens = Tokens.read(folder / "secret", "HS256", "captions")
    with asked(box, folder, has_keys=True, tokens=tokens, host="captions.example") as client:
        yield client


def status(client, key="", method="GET", path="/v1/captioners", **more):
    return client.request(method, path, headers=bearer(key) if key else {}, **more).status_code


def test_nothing_answers_without_a_key_but_health_and_the_document(guarded):
    document = guarded.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            expected = 200 if path in ("/healthz", "/readyz") else 401
            assert status(guarded, "", method.upper(), path) == expected, path
    refused = guarded.get("/v1/captioners")
    assert (refused.headers["www-authenticate"], refused.json()["code"]) == ("Bearer", "key")


def test_a_key_is_taken_in_two_headers_until_it_is_revoked(guarded):
    keys = guarded.service.access.keys
    key = keys.create("reader")
    assert status(guarded, key) == 200
    assert guarded.get("/v1/captioners", headers={"x-api-key": key}).status_code == 200
    for wrong in (key[:-1], "ck_1_2", "x" * 9000, "nonsense", "a.b.c"):
        assert status(guarded, wrong) == 401
    keys.revoke("reader")
    assert status(guarded, key) == 401


def test_figures_are_for_admins(guarded):
    keys = guarded.service.access.keys
    assert status(guarded, keys.create("plain"), path="/metrics") == 403
    assert status(guarded, keys.create("chief", role="admin"), path="/metrics") == 200


def test_exactly_a_quota_of_requests_passes(guarded):
    key = guarded.service.access.keys.create("few", per_hour=6)
    found = many(12, lambda number: guarded.post("/v1/captions", files=sent(number % 3), headers=bearer(key)))
    assert sorted(each.status_code for each in found) == [200] * 6 + [429] * 6
    refused = next(each for each in found if each.status_code == 429)
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert status(guarded, key, "POST", "/v1/captions", content=b"not read") == 429
    assert status(guarded, key) == 200


def test_tokens_are_taken_and_forged_ones_are_not(guarded):
    assert status(guarded, token()) == 200
    assert status(guarded, token(), path="/metrics") == 403
    assert status(guarded, token(role="admin"), path="/metrics") == 200
    for wrong in (
        token("another secret of more than thirty-two bytes"),
        token(exp=time.time() - 1),
        token(aud="others"),
        token(role="owner"),
        token(per_hour="many"),
        token(sub=""),
        jwt.encode(CLAIMS, SECRET),  # never expires
        jwt.encode(CLAIMS | {"exp": time.time() + 60}, None, "none"),
        token()[:-2],
    ):
        assert status(guarded, wrong) == 401


def test_a_tokens_quota_holds(guarded):
    limited = token(sub="limited", per_day=1)
    assert status(guarded, limited, "POST", "/v1/captions", files=sent(1)) == 200
    assert status(guarded, limited, "POST", "/v1/captions", files=sent(1)) == 429


def test_a_public_key_checks_tokens_and_signs_none(tmp_path, box):
    private = rsa.generate_private_key(65537, 2048)
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "public.pem").write_bytes(private.public_key().public_bytes(*form))
    tokens = Tokens.read(tmp_path / "public.pem", "RS256", "captions")
    assert tokens.caller(token(private, "RS256")).id == "jwt:ada"
    with asked(box, tmp_path, has_keys=True, tokens=tokens, host="captions.example") as client:
        assert status(client, token(private, "RS256")) == 200
        assert status(client, token(SECRET)) == 401  # another algorithm


@pytest.mark.parametrize(("text", "algorithm", "told"), [("short", "HS256", "at least 32"), ("no", "RS256", "PEM")])
def test_keys_of_tokens_that_cannot_be_used_are_refused(tmp_path, text, algorithm, told):
    (tmp_path / "key").write_text(text)
    with pytest.raises(CaptioningError, match=told):
        Tokens.read(tmp_path / "key", algorithm)
    with pytest.raises(CaptioningError, match="cannot be read"):
        Tokens.read(tmp_path / "none", algorithm)


def test_without_keys_only_this_computer_is_answered(client):
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/healthz", headers={"host": "127.0.0.1:80"}).status_code == 200
    foreign = {"origin": "https://evil.example"}
    assert client.post("/v1/captions", files=sent(1), headers=foreign).json()["code"] == "origin"
    other_page = {"sec-fetch-site": "cross-site"}
    assert client.delete("/v1/jobs/1", headers=other_page).status_code == 403
    assert client.get("/healthz", headers={"host": "a b"}).status_code == 400
