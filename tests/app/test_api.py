"""The app's programming interface, served by a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from PIL import Image

from captioning.serving import answers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "app.md").read_text(encoding="utf-8")
CALLS = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "gradio_client" in block]
HOSTILE = "<img src=x onerror=alert(1)>\"'"


@pytest.fixture(scope="module", autouse=True)
def process(saved, tmp_path_factory):
    """The app, started before the first test there by the time of the last; stopped, it leaves no trace."""
    scratch = tmp_path_factory.mktemp("scratch")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    command = [ROOT / "app_gradio.py", "--bundle", saved, "--port", port, "--feedback", scratch / "said" / "said.db"]
    settings = os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=settings)
    process.address = f"http://127.0.0.1:{port}"
    yield process
    process.send_signal(signal.SIGTERM)  # ends as Ctrl-C does, which a process begun in the background never hears
    assert "Stopped" in process.communicate(timeout=20)[0]
    assert process.returncode == 0
    assert not list(scratch.glob("captioning-*"))


@pytest.fixture(scope="module")
def client(process):
    assert any("The app is on" in line for line in process.stdout)
    client = Client(process.address, verbose=False, httpx_kwargs={"timeout": 60})  # a busy machine takes its time
    yield client
    client.close()


def ask(client, path, name="/caption"):
    sent = [handle_file(str(one)) for one in path] if isinstance(path, list) else handle_file(str(path))
    return client.predict(sent, "small", api_name=name)


def test_a_program_gets_what_the_captioner_says(client, captioner, photo):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    names = {name: [each["parameter_name"] for each in told["parameters"]] for name, told in endpoints.items()}
    assert names == {"/caption": ["image", "bundle", "options"], "/caption_batch": ["images", "bundle", "options"]}
    found, expected = ask(client, photo), captioner.caption(photo)
    assert found["caption"] == expected.text
    assert [word["text"] for word in found["words"]] == [word.text for word in expected.words]
    assert all(len(word["alternatives"]) == 5 for word in found["words"])
    assert len(found["alternatives"]) == 2
    assert (found["confidence"], found["sure"], found["bundle"]) == (None, None, "small")


def test_many_pictures_are_answered_in_order(client, pool, photo, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [photo, str(tmp_path / "empty.png"), photo]
    assert ask(client, paths, "/caption_batch") == list(answers.caption_each(pool, "small", paths))


def called(server: str, name: str, **values) -> str:
    """What a program without a library of Gradio's is answered, with values by name."""
    event = httpx.post(f"{server}/call/v2/{name}", json=values).json()["event_id"]
    *_, last = httpx.get(f"{server}/call/v2/{name}/{event}", timeout=60).text.strip().split("\n\n")
    return last  # heartbeats come before


def test_a_program_may_change_the_search(client, process, captioner, photo):
    server = f"{process.address}/gradio_api"
    [path] = httpx.post(f"{server}/upload", files={"files": Path(photo).read_bytes()}).json()
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    status, data = called(server, "caption", image=picture, options={"num_beams": 2, "max_length": 1}).splitlines()
    [found] = json.loads(data.removeprefix("data: "))
    assert (status, len(found["words"]), len(found["alternatives"])) == ("event: complete", 1, 1)
    greedy = client.predict([handle_file(photo)], options={"strategy": "greedy"}, api_name="/caption_batch")
    assert greedy[0]["caption"] == captioner.caption(photo, strategy="greedy").text
    refused = called(server, "caption", image=picture, options={"num_beam": 2})
    assert "did you mean num_beams" in refused
    assert httpx.get(f"{server}/openapi.json").json()["paths"]["/gradio_api/call/v2/caption"]


def odd_pictures(folder: Path, image: Image.Image) -> dict[str, str]:
    """Files that people send, each with what they are told; an empty text where it is captioned."""
    exif = Image.Exif()
    exif[274] = 6
    for name, data in (("zero.png", b""), ("text.png", b"hello"), ("x.svg", b"<svg><script/></svg>")):
        (folder / name).write_bytes(data)
    (folder / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    for name, mode, size in (("huge", "1", (11000, 9500)), ("dot", "RGB", (1, 1)), ("line", "RGB", (50000, 1))):
        Image.new(mode, size).save(folder / f"{name}.png")
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    image.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(np.asarray(image.convert("L")).astype("uint16") * 257).save(folder / "deep.png")
    image.convert("P").save(folder / "palette.png", transparency=0)
    image.save(folder / "turned.jpg", exif=exif)
    refused = {"zero.png": "is empty", "text.png": "not a picture", "x.heic": "HEIC", "x.svg": "SVG"}
    refused |= {"huge.png": "megapixels", "dot.png": "1 x 1", "line.png": "50000 x 1"}
    return refused | dict.fromkeys(("moving.gif", "print.jpg", "deep.png", "palette.png", "turned.jpg"), "")


def test_odd_pictures_are_told_what_is_wrong_and_the_next_one_works(client, captioner, pictures, photo, tmp_path):
    for name, says in odd_pictures(tmp_path, Image.fromarray(pictures[1])).items():
        if says:
            with pytest.raises(AppError, match=says):
                ask(client, tmp_path / name)
        else:
            assert ask(client, tmp_path / name)["caption"] == captioner.caption(tmp_path / name).text
    assert ask(client, photo)["caption"] == captioner.caption(photo).text


@pytest.mark.parametrize("block", CALLS)
def test_the_call_in_the_docs_works(client, process, photo, block, capsys):
    exec(block.replace("http://127.0.0.1:7860", process.address).replace("photo.jpg", photo), {})
    assert capsys.readouterr().out


def test_large_files_are_refused(client, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(11 * 2**20))
    with pytest.raises(ValueError, match="maximum file size"):
        ask(client, tmp_path / "large.png")


def test_a_program_that_sends_an_address_is_told_to_send_the_file(client):
    with pytest.raises(ValueError, match="send the file itself"):
        ask(client, "https://example.com/photo.png")


def test_no_file_of_this_machine_can_be_read(client, process, saved, photo):
    server = f"{process.address}/gradio_api"
    for path in ("/etc/passwd", photo, saved / "config.json", ROOT / "README.md", "../../etc/passwd"):
        assert httpx.get(f"{server}/file={path}").status_code in (403, 404)
        data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, "small", {}]
        assert httpx.post(f"{server}/call/caption", json={"data": data}).status_code == 422
    answer = httpx.post(f"{server}/run/caption", json={"data": [None, "small", {}]})
    assert answer.status_code == 404  # not past the queue


def test_everybody_is_answered_or_told_to_come_back(client, photo, tmp_path):
    from gradio_client import handle_file

    def one(path):
        try:
            return ask(client, path)["caption"]
        except QueueError as error:
            return str(error)

    Image.new("RGB", (6000, 6000)).save(tmp_path / "slow.png")
    slow = [client.submit(handle_file(str(tmp_path / "slow.png")), "small", api_name="/caption") for _ in range(2)]
    with ThreadPoolExecutor(34) as people:  # all come while those are read
        said = list(people.map(one, [photo] * 34))
    assert "Queue is full" in sorted(said)[0]
    assert len(set(said)) == 2
    assert all(job.result()["caption"] for job in slow)
