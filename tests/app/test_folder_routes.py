"""The addresses of the Folder tab: for this computer alone, for folders that are open, and for our own page."""

import asyncio
import csv
import io
import socket
import time
from types import SimpleNamespace

import httpx
import pytest
from PIL import Image

from captioning.app import server
from captioning.app.server import Service
from captioning.data.feedback import FeedbackStore
from captioning.inference.metadata.changes import read_texts

OWN = {"sec-fetch-site": "same-origin"}


def application(*parts):
    """The app, built in a loop that is closed again; without one Gradio opens a loop of its own."""

    async def build():
        return server.application(*parts)

    return asyncio.run(build())


@pytest.fixture(scope="module")
def served(saved, tmp_path_factory):
    """A client of the app, the folder of pictures, and the feedback."""
    from captioning.serving.pool import CaptionerPool

    place = tmp_path_factory.mktemp("served")
    (place / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (400, 300), (80 * number, 90, 40)).save(place / "photos" / f"{number}.jpg")
    (place / "photos" / "broken.jpg").write_bytes(b"no picture")
    (place / "secret.jpg").write_bytes((place / "photos" / "0.jpg").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(place / "scratch"))
        store = FeedbackStore(place / "feedback.db")
        app = application(CaptionerPool([saved]), store, Service(), None, str(place / "scratch"))
        with socket.create_server(("127.0.0.1", 0)) as listener, server.running(app, listener):
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, headers=OWN, timeout=60) as client:
                yield SimpleNamespace(client=client, photos=place / "photos", store=store)


def opened(served):
    return served.client.post("/folder/open", json={"folder": str(served.photos)}).json()


def settled(served, key):
    """The state once nothing is being done."""
    for _ in range(600):
        state = served.client.get(f"/folder/{key}/state").json()
        if not state["task"]:
            return state
        time.sleep(0.05)
    pytest.fail("it does not end")


def rows(served, key, **view):
    return served.client.get(f"/folder/{key}/rows", params=view).json()["rows"]


def test_a_folder_is_captioned_corrected_learnt_from_and_written(served):
    key = opened(served)["key"]
    assert opened(served)["key"] == key  # a second tab
    act = f"/folder/{key}"
    served.client.post(f"{act}/caption", json={"bundle": "small"})
    state = settled(served, key)
    assert (state["all"], state["none"], state["trouble"]) == (4, 1, 1), state
    first = rows(served, key)[0]
    put = {"id": first["id"], "text": "a dark square", "before": first["text"]}
    assert served.client.post(f"{act}/correct", json=put).status_code == 200
    assert served.client.post(f"{act}/correct", json=put).status_code == 422  # the other tab has not seen it
    assert [row["name"] for row in rows(served, key, words="squares")] == ["0.jpg"]
    for _ in range(600):
        said = served.store.list(corrected=True)
        if said:
            break
        time.sleep(0.05)
    assert [entry.correction for entry in said] == ["a dark square"]

    before = (served.photos / "0.jpg").read_bytes()
    served.client.post(
        f"{act}/write", json={"target": "metadata", "exists": "skip", "show": "corrected", "order": "name"}
    )
    assert "1 written" in settled(served, key)["said"]
    assert read_texts(served.photos / "0.jpg", "picture")["description"] == "a dark square"
    served.client.post(f"{act}/take-back", json={})
    assert "1 file as before" in settled(served, key)["said"]
    assert (served.photos / "0.jpg").read_bytes() == before
    assert rows(served, opened(served)["key"])[0]["text"] == "a dark square"

    answer = served.client.get(f"{act}/captions.csv", params={"show": "corrected"})
    assert next(csv.DictReader(io.StringIO(answer.text)))["caption"] == "a dark square"
    assert "attachment" in answer.headers["content-disposition"]
    assert served.client.post(f"{act}/undo", json={}).json()["done"] == 1
    assert rows(served, key)[0]["correction"] == ""


def test_pictures_are_made_small_and_no_other_file_is_read(served):
    key = opened(served)["key"]
    known = rows(served, key)
    answer = served.client.get(f"/folder/{key}/small/{known[0]['id']}")
    assert max(Image.open(io.BytesIO(answer.content)).size) == 320
    assert served.client.get(f"/folder/{key}/small/{known[-1]['id']}").status_code == 422  # broken.jpg
    assert served.client.get(f"/folder/{key}/small/99999").status_code == 422
    for path in ("small/../../secret.jpg", "small/%2e%2e%2fsecret.jpg", "tiny/1", "small/-1"):
        assert served.client.get(f"/folder/{key}/{path}").status_code == 404
    assert served.client.get(f"/folder/{'x' * 43}/small/{known[0]['id']}").status_code == 422


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"host": "evil.example"}])
def test_no_other_page_reads_or_changes_a_folder(served, headers):
    key = opened(served)["key"]
    assert served.client.get(f"/folder/{key}/rows", headers=headers).status_code == 403
    assert served.client.post("/folder/open", json={"folder": "/"}, headers=headers).status_code == 403


def test_what_cannot_be_opened_is_told_in_a_sentence(served):
    for folder, says in (
        ("/no/such/folder", "does not exist"),
        (str(served.photos / "0.jpg"), "is a file"),
        (7, "no text"),
    ):
        answer = served.client.post("/folder/open", json={"folder": folder})
        assert (answer.status_code, says in answer.json()["detail"]) == (422, True)
    key = opened(served)["key"]
    for action, asked in (("caption", {"bundle": "none"}), ("replace", {"find": " "}), ("correct", {"id": "1"})):
        assert served.client.post(f"/folder/{key}/{action}", json=asked).status_code == 422


@pytest.mark.parametrize(
    ("service", "credentials"), [(Service(host="0.0.0.0"), None), (Service(), ("ada", "lovelace-1815"))]
)
def test_it_is_there_for_this_computer_alone(pool, tmp_path, service, credentials, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    app = application(pool, FeedbackStore(tmp_path / "said.db"), service, credentials, str(tmp_path))
    assert not any(getattr(route, "path", "").startswith("/folder") for route in app.routes)
    with socket.create_server(("127.0.0.1", 0)) as listener, server.running(app, listener):
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/folder/open"
        assert httpx.post(address, json={"folder": "/"}, headers=OWN, timeout=60).status_code in (401, 404)
