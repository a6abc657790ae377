"""Bundles that the app cannot open, left out or an error where a person named them; captioners that do not answer."""

import json
import shutil
import threading
from types import SimpleNamespace

import gradio as gr
import pytest

from captioning.app import server
from captioning.app.widgets import refusing
from captioning.errors import BundleError, CaptioningError, ImageError
from captioning.serving import pool
from captioning.serving.pool import CaptionerPool, find_bundles
from tests.served import served


@pytest.fixture
def artifacts(saved, tmp_path, monkeypatch):
    """A folder with a whole bundle between some of other formats, altered, half gone, and only whole to the eye."""
    for name in ("altered", "foreign", "half", "small", "unfit", "void"):
        shutil.copytree(saved, tmp_path / "artifacts" / name)
    folder = tmp_path / "artifacts"
    config = json.loads((saved / "config.json").read_text())
    del config["sum"]
    (folder / "altered" / "model.weights.h5").write_bytes(b"something else")
    (folder / "foreign" / "config.json").write_text(json.dumps(config | {"format": 0}))
    (folder / "half" / "vocabulary.json").unlink()
    fewer = config["model"] | {"vocabulary_size": 9}
    (folder / "unfit" / "config.json").write_text(json.dumps(config | {"model": fewer}))
    (folder / "void" / "config.json").write_text("[]")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return folder


def test_broken_bundles_are_left_out_each_with_a_sentence(artifacts, capsys):
    shelf = CaptionerPool(find_bundles(artifacts))
    server.open_first(shelf, strict=False)
    assert shelf.names == ["small", "unfit"]
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"Loading {name} ..." for name in ("altered", "half", "small")]
    told = ("altered", "not the file"), ("half", "lacks vocabulary"), ("foreign", "format 0"), ("void", "format none")
    for line, (name, says) in zip(err.splitlines(), told, strict=True):
        assert line.startswith(f"{name} is left out: ")
        assert says in line


def test_one_that_breaks_when_it_is_chosen_is_told_and_the_others_go_on(artifacts):
    shelf = CaptionerPool([artifacts / "small", artifacts / "unfit"])
    server.open_first(shelf, strict=True)
    with pytest.raises(gr.Error, match="unfit has a vocabulary of"), refusing():
        shelf.search("unfit")
    assert shelf.search("small").num_beams


def test_the_first_that_cannot_be_loaded_gives_way_to_the_next(artifacts, capsys):
    shelf = CaptionerPool([artifacts / "unfit", artifacts / "small"])
    server.open_first(shelf, strict=False)
    assert shelf.names == ["small"]
    assert "unfit is left out" in capsys.readouterr().err


def test_no_page_waits_for_a_first_caption(artifacts, monkeypatch):
    asked = []

    def refuse(*_, **how):
        asked.append(how["region"])
        raise CaptioningError("no caption")

    monkeypatch.setattr("captioning.inference.captioner.Captioner.caption", refuse)
    shelf = CaptionerPool([artifacts / "small"])
    server.open_first(shelf, strict=True)
    assert asked == []
    server.warm_up(shelf, "small")
    assert asked == [None]


@pytest.mark.whole
def test_stopped_while_it_prepares_a_first_caption_it_ends_as_at_any_other_time(saved, tmp_path):
    with served(saved, tmp_path / "app") as app:
        assert app.stop() == 0
        assert "Stopped" in app.printed
        assert app.uploads == []


@pytest.mark.parametrize("names", [["half", "small"], ["small", "half"]])
def test_a_broken_bundle_that_was_named_is_an_error(artifacts, names):
    with pytest.raises(BundleError, match="lacks vocabulary"):
        server.open_first(CaptionerPool([artifacts / name for name in names]), strict=True)


def test_where_none_is_left_there_is_nothing_to_serve(artifacts, capsys):
    with pytest.raises(BundleError, match="No bundle is left"):
        server.open_first(CaptionerPool([artifacts / "half", artifacts / "void"]), strict=False)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_bundle_that_may_not_be_read_is_one_that_is_broken(artifacts, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("captioning.inference.bundle_files.os.open", refuse)
    with pytest.raises(BundleError, match=r"cannot be read \(Permission denied\)"):
        CaptionerPool([artifacts / "small"]).check("small")


def test_one_that_hangs_is_given_up_and_the_next_is_answered(saved, monkeypatch):
    forever, made = threading.Event(), []

    def load(folder, **_):
        made.append(SimpleNamespace(caption=(lambda: "a dog") if made else forever.wait))
        return made[-1]

    monkeypatch.setattr("captioning.load", load)
    monkeypatch.setattr(pool, "LONGEST", 0.2)
    shelf = CaptionerPool([saved])
    with pytest.raises(CaptioningError, match="did not answer"), shelf.captioner("small") as captioner:
        captioner.caption()
    with shelf.captioner("small") as captioner:
        assert captioner.caption() == "a dog"
    forever.set()


def test_what_a_captioner_refuses_is_told_as_it_is(saved):
    with CaptionerPool([saved]).captioner("small") as captioner:
        with pytest.raises(ImageError, match="does not exist"):
            captioner.caption("nowhere.png")
        assert captioner.image_size == 32


def test_captioners_are_unloaded_when_nobody_asks_and_loaded_again(saved, tmp_path, loaded, monkeypatch):
    folders = [saved, shutil.copytree(saved, tmp_path / "other")]
    two = CaptionerPool(folders)
    clock = [100.0]
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for name in ("small", "other"):
        clock[0] += 10
        two.search(name)
    assert (two.tidy(idle=30), two.loaded) == ([], ["small", "other"])
    clock[0] += 25
    assert (two.tidy(idle=30), two.loaded) == (["small"], ["other"])
    two.search("small")
    assert two.loaded == ["other", "small"]


def test_memory_has_a_ceiling_above_which_the_oldest_goes(saved, tmp_path, loaded, monkeypatch):
    two = CaptionerPool([saved, shutil.copytree(saved, tmp_path / "other")])
    two.search("small")
    two.search("other")
    assert pool.resident_megabytes() > 20
    monkeypatch.setattr(pool, "resident_megabytes", lambda: 500)
    assert two.tidy(memory=600) == []
    assert two.tidy(memory=400) == ["small"]
    assert two.tidy(memory=400) == []  # one stays
    assert two.loaded == ["other"]


def test_a_captioner_is_lent_in_the_order_of_the_requests(saved, loaded):
    one, order = CaptionerPool([saved]), []

    def ask(number):
        with one.captioner("small"):
            order.append(number)

    people = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    with one.captioner("small"):
        for number, person in enumerate(people):
            person.start()
            while len(one._lock._waiting) <= number:
                pass
    for person in people:
        person.join()
    assert order == list(range(6))
