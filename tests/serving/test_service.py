"""`captioning serve` in a process of its own: examples, page and interface beside each other, keys, TLS, stops."""

import json
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from captioning.app import service
from captioning.app.server import Service
from captioning.cli import main
from captioning.errors import CaptioningError, StorageError
from captioning.serving.keys import FILE, KeyStore
from tests.serving.service import ROOT, jpeg, running, sent

EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """The service that asks for keys; its key is process.key."""
    folder = tmp_path_factory.mktemp("process")
    key = KeyStore(folder / "state" / FILE).create("tests", role="admin")
    with running(folder, "--no-page", "--require-keys") as process:
        process.key = key
        yield process
        assert process.stop() == 0
        assert "Stopped" in process.log.read_text()


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(jpeg(1))
    return tmp_path / "photo.jpg"


def run(*command):
    """What a program prints, and its exit status."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr, done.returncode


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "captions_over_http.py"], ["node", "captions_over_http.mjs"], ["sh", "captions_over_http.sh"]],
    ids=["python", "javascript", "curl"],
)
def test_an_example_prints_the_caption_and_says_what_is_wrong(command, process, photo):
    program, script = command
    if not shutil.which(program) or (program == "sh" and not shutil.which("curl")):
        pytest.skip(f"no {program}")
    headers = {"authorization": f"Bearer {process.key}"}
    asked = httpx.post(f"{process.address}/v1/captions", files=sent(1), data={"num_beams": 5}, headers=headers)
    text, status = run(program, EXAMPLES / script, process.address, photo, process.key)
    assert (asked.json()["captions"][0]["caption"] in text, status) == (True, 0), text
    refused, status = run(program, EXAMPLES / script, process.address, photo, "wrong")
    assert "key" in refused
    assert status != 0


def test_the_curl_lines_in_the_docs_work(process, photo):
    calls = re.findall(r"^curl .*$", PAGE, re.MULTILINE)
    assert len(calls) >= 4
    for line in calls:
        line = line.replace("http://127.0.0.1:7860", process.address).replace("photo.jpg", str(photo))
        line = line.replace("curl ", f"curl --fail-with-body -s -H 'Authorization: Bearer {process.key}' ", 1)
        job = json.loads(run("sh", "-c", _curl(process, "v1/jobs"))[0])["jobs"]
        line = line.replace("JOB_ID", job[0]["id"] if job else "none")
        text, status = run("sh", "-c", f"cd {photo.parent} && {line}")
        assert status == 0, f"{line}: {text}"


def _curl(process, path):
    return f"curl -s -H 'Authorization: Bearer {process.key}' {process.address}/{path}"


def test_the_log_of_the_process_is_json_without_words(process):
    httpx.post(f"{process.address}/v1/captions", files=sent(1), headers={"x-api-key": process.key})
    told = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    assert told[-1]["key"]
    assert set(told[-1]) == {
        *("time", "id", "method", "route", "status", "ms", "outcome", "captioner", "pictures", "key")
    }
    assert process.key not in process.log.read_text()


def test_an_open_address_needs_a_key(tmp_path, capsys):
    places = service.Places([], tmp_path / "said.db", tmp_path / "state")
    with pytest.raises(CaptioningError, match="captioning keys create"):
        service.Guards().access(places, Service("0.0.0.0"))
    assert service.Guards().access(places, Service()) is None
    KeyStore(tmp_path / "state" / FILE).create("blog")
    assert service.Guards().access(places, Service("0.0.0.0"))
    KeyStore(tmp_path / "state" / FILE).revoke("blog")
    with pytest.raises(CaptioningError):
        service.Guards(require_keys=True).access(places, Service())
    assert main(["serve", "--host", "0.0.0.0", "--no-page", "--state", str(tmp_path / "none")]) == 2
    assert "there is no key" in capsys.readouterr().err


def test_two_services_do_not_share_their_jobs(tmp_path):
    with service.locked(tmp_path), pytest.raises(StorageError, match="Another service"), service.locked(tmp_path):
        pass
    with service.locked(tmp_path):
        pass


def test_certificates_that_cannot_be_used_are_refused(tmp_path):
    assert service.Guards().tls() == {}
    with pytest.raises(CaptioningError, match="give both"):
        service.Guards(certificate="a.pem").tls()
    (tmp_path / "bad.pem").write_text("nothing")
    with pytest.raises(CaptioningError, match="cannot be used"):
        service.Guards(certificate=str(tmp_path / "bad.pem"), certificate_key=str(tmp_path / "bad.pem")).tls()


@pytest.mark.slow
def test_the_page_and_the_interface_answer_side_by_side_over_https(tmp_path):
    certificate, key = _certificate(tmp_path)
    process = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        from tests.serving import service as parts

        process = parts.Process(tmp_path, "--tls-certificate", certificate, "--tls-key", key)
        process.address = process.address.replace("http:", "https:").replace("127.0.0.1", "localhost")
        try:
            process.wait()
            trust = ssl.create_default_context(cafile=str(certificate))
            with httpx.Client(base_url=process.address, verify=trust, timeout=60) as client:
                assert "gradio" in client.get("/").text.lower()
                found = client.post("/v1/captions", files=sent(1)).json()["captions"][0]["caption"]
                upload = client.post("/gradio_api/upload", files={"files": ("photo.jpg", jpeg(1))}).json()[0]
                picture = {"path": upload, "meta": {"_type": "gradio.FileData"}}
                event = client.post("/gradio_api/call/v2/caption", json={"image": picture}).json()["event_id"]
                page = client.get(f"/gradio_api/call/v2/caption/{event}").text
                assert json.dumps(found) in page
                assert client.get("/v1/nothing").status_code == 404
                assert client.get("/metrics").status_code == 200
        finally:
            process.kill()


def _certificate(folder: Path):
    """A certificate for localhost that signs itself, and its key."""
    made = folder / "certificate.pem", folder / "key.pem"
    names = "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        *names,
        "-out",
        made[0],
        "-keyout",
        made[1],
    )
    return made
