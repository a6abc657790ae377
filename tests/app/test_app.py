"""The app without a browser: what its pages do with pictures and captions, and its programming interface, served."""

import asyncio
import csv
import dataclasses
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from PIL import Image

import app_gradio
from captioning.app import bundle_report, rendering, tables
from captioning.app import server as serve
from captioning.app.login_throttle import MOST
from captioning.data.feedback import FeedbackStore
from captioning.errors import BundleError, CaptioningError, ImageError
from captioning.inference.captioner import ENDING, Caption, Word
from captioning.options import DecodeOptions
from captioning.serving import answers, session
from captioning.serving.adjustments import AS_IT_IS, Adjustments
from captioning.serving.pool import CaptionerPool, find_bundles

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
README_CALLS = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "gradio_client" in block]
HOSTILE = "<img src=x onerror=alert(1)>\"'"


@pytest.fixture(scope="module")
def shelf(saved):
    return CaptionerPool([saved])


@pytest.fixture
def photo(pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


@pytest.fixture
def seen(shelf, photo):
    return session.describe(shelf, "small", photo)


def test_bundles_are_found_and_nothing_else_is_taken_for_one(tmp_path, saved):
    (tmp_path / "a.training").mkdir()
    for look in (find_bundles, lambda folder: CaptionerPool([folder])):
        with pytest.raises(BundleError, match="make train"):
            look(tmp_path)
    for name in ("b", "a", ".a.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert [folder.name for folder in find_bundles(tmp_path)] == ["a", "b"]
    (tmp_path / "b").rename(tmp_path / "pocket")
    assert [folder.name for folder in find_bundles(tmp_path)] == ["pocket", "a"]
    with pytest.raises(BundleError, match="share a name"):
        CaptionerPool([saved, saved])
    with pytest.raises(CaptioningError, match="choose one of small"):
        CaptionerPool([saved]).folder("../small")


def test_a_bundle_is_loaded_once_and_lent_to_one_at_a_time(saved, monkeypatch):
    loads, lent, most = [], [], []
    monkeypatch.setattr("captioning.load", lambda folder, **_: loads.append(folder) or object())
    shelf = CaptionerPool([saved])

    def borrow(_):
        with shelf.captioner("small"):
            lent.append(1)
            most.append(len(lent))
            time.sleep(0.01)
            lent.pop()

    with ThreadPoolExecutor(8) as people:
        list(people.map(borrow, range(8)))
    assert (loads, max(most), len(most)) == ([saved], 1, 8)


def test_a_picture_is_turned_clockwise_then_cut_then_brightened():
    image = np.zeros((4, 8, 3), "uint8")
    image[0, 0] = 100  # the corner that comes to the right
    adjusted = Adjustments(turns=1, brightness=2, crop=(0.5, 0, 1, 0.5)).apply(image)
    assert adjusted.shape == (4, 2, 3)
    assert (adjusted[0, -1, 0], adjusted.sum()) == (200, 600)
    assert Adjustments(brightness=9).apply(image).max() == 255
    assert np.array_equal(AS_IT_IS.apply(image), image)

    image = np.arange(64 * 64 * 3, dtype="uint8").reshape(64, 64, 3)  # a cut of a cut is a cut
    once, again = Adjustments(crop=(0.25, 0.5, 0.75, 1)), Adjustments(crop=(0.5, 0, 1, 0.5))
    assert np.array_equal(once.cropped(again.crop).apply(image), again.apply(once.apply(image)))


def test_a_picture_is_captioned_as_everywhere_else(shelf, captioner, photo, seen):
    expected = captioner.caption(photo)
    assert seen.caption.text == expected.text
    assert (len(seen.captions), len(seen.choices)) == (3, len(expected.words) + 1)  # as many as beams; with the end


def test_an_adjusted_picture_is_what_is_captioned(shelf, captioner, photo, pictures):
    adjustments = Adjustments(turns=1, crop=(0, 0, 1, 0.5))
    seen = session.describe(shelf, "small", photo, adjustments=adjustments)
    assert np.array_equal(seen.view, adjustments.apply(pictures[0]))
    assert seen.caption.text == captioner.caption(seen.view).text
    Image.new("RGB", (1300, 650)).save(photo)
    assert session.describe(shelf, "small", photo).view.shape == (320, 640, 3)


def test_another_word_changes_the_rest_and_nothing_before(shelf, seen):
    first, second = (word.text for word in seen.caption.words[:2])
    for word, _ in seen.choices[1]:
        fresh = session.reworded(shelf, seen, 1, word)
        said = [found.text for found in fresh.caption.words]
        assert said[:2] == ([first] if word == ENDING else [first, word])
        assert len(fresh.choices) == len(said) + 1
    with pytest.raises(CaptioningError, match="none of the other words"):
        session.reworded(shelf, seen, 1, second)


def test_a_caption_can_end_anywhere_and_another_be_looked_into(shelf, seen):
    assert session.turned(shelf, seen, 1).caption is seen.captions[1]
    seen.choices[2].append((ENDING, 0.25))
    fresh = session.reworded(shelf, seen, 2, ENDING)
    assert fresh.caption.words == seen.caption.words[:2]
    assert (fresh.caption.text, fresh.caption.score < 0) == (" ".join(word.text for word in fresh.caption.words), True)


def test_dials_are_options_and_back():
    options = DecodeOptions(num_beams=4, num_captions=4, force=("dog", "ball"), forbid=("cat",), length_penalty=0.5)
    values = session.values_of(options)
    assert session.options_of(values) == options
    asked = dict(zip(session.DIALS, values, strict=True)) | {"force": " dog,  ball;", "num_captions": 9}
    assert session.options_of(asked.values()) == options  # no more captions than beams
    assert session.options_of((asked | {"strategy": "greedy", "force": ""}).values()).num_captions == 1


def test_refusals_name_dials_and_no_folder_of_this_machine():
    with pytest.raises(CaptioningError) as caught:
        DecodeOptions(min_length=30)
    assert session.explained(caught.value) == "min length 30 cannot be used: at most max length 20 was expected."
    assert session.explained(BundleError("/home/ada/x/scenes lacks a/b")) == "scenes lacks a/b"
    assert "choose it again" in session.explained(ImageError("missing", "/tmp/x/y.png does not exist"))
    flag = "--encoder-weights FILE"
    assert flag in session.explained(BundleError(f"go online, or give {flag}"))


def test_every_word_and_the_end_can_be_pressed(seen):
    page = rendering.reader(seen, 1)
    places = re.findall(r'class="word[^"]*" data-event="select" data-value="(\d+)"', page)
    assert places == [str(place) for place in range(len(seen.caption.words) + 1)]
    assert [page.count(mark) for mark in ('aria-pressed="true"', 'class="chip"')] == [1, len(seen.choices[1])]
    assert rendering.stage(seen, 0) != rendering.stage(seen, 1)
    assert "The picture" in rendering.stage(seen, 99)
    assert len(re.findall('class="line"', rendering.others(seen))) == 3


def test_how_sure_is_said_in_words(seen):
    for confidence, says in ((0.83, "83% sure"), (0.2, "not sure, 20%"), (None, "")):
        caption = dataclasses.replace(seen.caption, confidence=confidence)
        fresh = dataclasses.replace(seen, captions=(caption,), data="holiday")
        assert (says or "Pale words") in rendering.reader(fresh, 0)
        assert rendering.reader(fresh, 0).count("of its own kind (holiday)") == (
            2 if says else 0
        )  # in sight, and in full
        assert session.told(fresh).endswith(f". {says}")


def test_nothing_shown_is_markup_of_others(seen, tmp_path):
    found = []
    caption = Caption(HOSTILE, (Word(HOSTILE, 0.5, np.ones((2, 2))),), -1.0, confidence=0.5)
    hostile = dataclasses.replace(seen, captions=(caption,), choices=[[(HOSTILE, 0.5)]] * 2, data=HOSTILE)
    store = FeedbackStore(tmp_path / "feedback.db")
    store.add(seen.view, bundle=HOSTILE, caption=HOSTILE, options={}, correction=f"dog {HOSTILE}", comment=HOSTILE)
    row = {"image": HOSTILE, "caption": HOSTILE, "confidence": 0.5, "problem": HOSTILE}
    learning = bundle_report.Learning((HOSTILE,), (None,), ((HOSTILE,), ("dog",)))
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.extend(attributes)
    shows = [show(hostile, 0) for show in (rendering.reader, rendering.stage)] + [rendering.others(hostile)]
    shows += [show(HOSTILE) for show in (rendering.notice, rendering.spoken)] + [tables.batch_table([row], [""])]
    for page in (*shows, tables.lapse(learning, 1), tables.feedback_list(store.list(), store, most=9)):
        assert "onerror" in page
        parser.feed(page)
    assert {("type", "button"), ("src", "x")} & set(found) == {("type", "button")}
    assert not {name for name, _ in found} & {"onerror", "alert(1)"}


def test_rows_are_harmless_to_spreadsheets(shelf, photo, tmp_path):
    (tmp_path / "=1+1.png").write_bytes(b"")
    rows = list(answers.caption_each(shelf, "small", [photo, str(tmp_path / "=1+1.png")]))
    assert [bool(row["caption"]) for row in rows] == [True, False]
    assert [row["problem"] and "is empty" in row["problem"] for row in rows] == [None, True]
    lines = list(csv.reader(io.StringIO(answers.rows_csv(rows))))
    assert [line[0] for line in lines] == ["image", "photo.png", "'=1+1.png"]
    assert json.loads(answers.rows_json(rows)) == rows


def test_the_record_of_a_training_is_told_as_far_as_there_is_one(tmp_path):
    from captioning.data.scenes.dataset import SIZES, draw_scene

    assert tables.score_table(bundle_report.score_cards(tmp_path)) == '<p class="faint">This bundle has no scores.</p>'
    assert "no record" in tables.lapse(bundle_report.learning(tmp_path), 1)
    assert bundle_report.curves(tmp_path) is None
    assert bundle_report.model_card(tmp_path) == "This bundle has no model card."

    scene = draw_scene(0, SIZES["train"] + 3)
    (tmp_path / "README.md").write_text("# it\n\n![where](attention.png)\n\nGood.\n")
    names = ["dev_00003.jpg", "dev_00004.jpg", "other.jpg"]
    (tmp_path / "learning.json").write_text(json.dumps({"images": names, "captions": [["a b", "c", "d"]] * 2}))
    lines = [{"image": f"Images/{name}", "caption": "", "references": list(scene.captions)} for name in names]
    (tmp_path / "predictions-dev.jsonl").write_text("\n".join(map(json.dumps, lines)))
    learning = bundle_report.learning(tmp_path)
    assert np.array_equal(learning.images[0], np.asarray(scene.image))  # drawn again, the others not at hand
    assert learning.images[1:] == (None, None)
    assert tables.lapse(learning, 2).count("<li>") == 3
    assert bundle_report.model_card(tmp_path) == "# it\n\nGood.\n"


def test_a_page_for_others_is_never_without_a_password():
    assert serve.Service().credentials() is None
    for service in (serve.Service(share=True), serve.Service(host="0.0.0.0")):
        assert service.is_public
        assert len(service.credentials()[1]) >= 16
        assert service.credentials() != service.credentials()
    assert serve.Service(auth="ada:love:lace").credentials() == ("ada", "love:lace")
    for auth in ("ada", "ada:", ":lace"):
        with pytest.raises(CaptioningError, match="user and a password"):
            serve.Service(auth=auth).credentials()
    assert "could not be reached" in serve.greeting(serve.Service(share=True), None, ("guest", "secret"))
    assert "secret" in serve.greeting(serve.Service(share=True), "https://x.example", ("guest", "secret"))
    assert "secret" not in serve.greeting(serve.Service(auth="ada:secret"), None, ("ada", "secret"))


def test_mistakes_end_in_one_sentence(tmp_path, saved, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, says in (
            (["--artifacts", tmp_path], "make train"),
            (["--bundle", saved, "--port", taken.getsockname()[1]], "choose another --port"),
            (["--bundle", saved, "--port", 99999], "choose another --port"),
            (["--bundle", saved, "--auth", "ada"], "--auth ada:lovelace"),
        ):
            assert app_gradio.main([str(argument) for argument in arguments]) == 2
            out, err = capsys.readouterr()
            assert says in err
            assert (out, len(err.splitlines())) == ("", 1)


def test_help_waits_for_nothing_heavy():
    script = "import app_gradio, sys; app_gradio.flag_parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"gradio", "keras", "numpy", "PIL"}


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
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/caption", "/caption_batch"]
    found, expected = ask(client, photo), captioner.caption(photo)
    assert found["caption"] == expected.text
    assert [word["text"] for word in found["words"]] == [word.text for word in expected.words]
    assert all(len(word["alternatives"]) == 5 for word in found["words"])
    assert len(found["alternatives"]) == 2
    assert (found["confidence"], found["sure"], found["bundle"]) == (None, None, "small")


def test_many_pictures_are_answered_in_order(client, shelf, photo, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [photo, str(tmp_path / "empty.png"), photo]
    assert ask(client, paths, "/caption_batch") == list(answers.caption_each(shelf, "small", paths))


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


@pytest.mark.parametrize("block", README_CALLS)
def test_the_call_in_the_readme_works(client, process, photo, block, capsys):
    exec(block.replace("http://127.0.0.1:7860", process.address).replace("photo.jpg", photo), {})
    assert capsys.readouterr().out


def test_large_files_are_refused(client, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(11 * 2**20))
    with pytest.raises(ValueError, match="maximum file size"):
        ask(client, tmp_path / "large.png")


def test_no_file_of_this_machine_can_be_read(client, process, saved, photo):
    server = f"{process.address}/gradio_api"
    for path in ("/etc/passwd", photo, saved / "config.json", ROOT / "README.md", "../../etc/passwd"):
        assert httpx.get(f"{server}/file={path}").status_code in (403, 404)
        data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, "small"]
        event = httpx.post(f"{server}/call/caption", json={"data": data}).json()["event_id"]
        assert httpx.get(f"{server}/call/caption/{event}").text.startswith("event: error")
    assert httpx.post(f"{server}/run/caption", json={"data": [None, "small"]}).status_code == 404  # not past the queue


def test_passwords_cannot_be_guessed_one_after_the_other(client, process):
    found = [httpx.post(f"{process.address}/login", data={"username": "a", "password": "b"}) for _ in range(MOST + 1)]
    assert [answer.status_code for answer in found] == [302] * MOST + [429]  # it has no password: sent on


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


@pytest.mark.parametrize("is_public", [True, False])
def test_feedback_is_shown_to_nobody_but_the_person_at_this_computer(shelf, tmp_path, is_public):
    from captioning.app.page import build_page

    async def build():  # in a loop that is closed again
        return build_page(shelf, FeedbackStore(tmp_path / "feedback.db"), is_public=is_public)

    page = asyncio.run(build())
    tabs = [block.label for block in page.blocks.values() if block.get_block_name() == "tabitem"]
    assert tabs == ["Caption", "Batch", "Captioner", *([] if is_public else ["Feedback"])]
    assert ("Export as CSV" in str(page.get_config_file())) is not is_public
