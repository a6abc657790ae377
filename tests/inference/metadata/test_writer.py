"""Captions go into pictures and XMP sidecars once, whole, after what was there, and come out again by undo."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captioning.errors import CaptioningError, DataError, StorageError
from captioning.inference.metadata import picture
from captioning.inference.metadata.changes import read_texts, undo
from captioning.inference.metadata.journal import Journal
from captioning.inference.metadata.splices import source_of, spliced
from captioning.inference.writers import OutputOptions, open_writer
from tests.inference.metadata import samples
from tests.inference.test_writers import said

SUFFIX = {"jpeg": "jpg", "png": "png", "webp": "webp", "tiff": "tif"}


@pytest.fixture
def album(tmp_path):
    """A picture of each format, whose modification time is long ago."""
    folder = tmp_path / "album"
    folder.mkdir()
    for kind, suffix in SUFFIX.items():
        path = folder / f"{kind}.{suffix}"
        path.write_bytes(samples.picture(kind))
        os.utime(path, ns=(10**18, 10**18))
    return sorted(folder.iterdir())


def options(tmp_path, **more) -> OutputOptions:
    place = {} if more.get("sidecar") else {"metadata": True}
    return OutputOptions(journal=tmp_path / "journal.jsonl", **place, **more)


def write(asked: OutputOptions, images: list[Path], text: str = "a dog runs", **more) -> tuple[int, list[str]]:
    """How many captions were asked for, and what was refused."""
    with open_writer(asked, several=False) as writer:
        new = {image: said(text, **more) for image in images if image not in writer}
        return len(new), list(writer.add(new).values())


def give(path: Path, **texts: str) -> None:
    path.write_bytes(spliced(path.read_bytes(), picture.splices(source_of(path.read_bytes()), texts)))


def state(paths: list[Path]) -> dict:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) for path in paths}


def test_captions_are_written_once_and_undone_to_the_last_byte(album, tmp_path):
    album[0].chmod(0o640)
    before = state(album)
    asked = options(tmp_path, suffix=" (machine-written)")
    assert write(asked, album) == (4, [])
    for path in album:
        texts = read_texts(path, "picture")
        assert texts["description"] == texts["exif"] == "a dog runs (machine-written)"
        assert texts["alternative"] == "A dog runs. (machine-written)"
        assert path.stat().st_mode == before[path][2]
        assert path.stat().st_mtime_ns > 10**18
    assert write(asked, album) == (0, [])
    result, earlier = undo(tmp_path / "journal.jsonl")
    assert result.text(earlier) == "4 files as before."
    assert state(album) == before
    with pytest.raises(DataError, match="holds no run that could be undone"):
        undo(tmp_path / "journal.jsonl")


def test_times_are_kept_where_asked(album, tmp_path):
    write(options(tmp_path, keep_times=True), album)
    assert {path.stat().st_mtime_ns for path in album} == {10**18}


@pytest.mark.parametrize("where", [{}, {"sidecar": True, "format": "xmp"}])
@pytest.mark.parametrize(
    ("if_exists", "expected"),
    [("skip", "old"), ("overwrite", "a dog"), ("append", "old\na dog"), ("prepend", "a dog\nold")],
)
def test_what_happens_to_a_text_that_is_there(album, tmp_path, where, if_exists, expected):
    places = album
    give(album[0], description="old")
    if where:
        write(options(tmp_path, **where), album, "old")
        places = [path.with_name(f"{path.name}.xmp") for path in album]
        (tmp_path / "journal.jsonl").unlink()
    else:
        for path in album:
            give(path, description="old")
    before = state(places)
    for _ in range(2 if if_exists in ("append", "prepend") else 1):  # the second time nothing is added
        write(options(tmp_path, if_exists=if_exists, **where), album, "a dog")
    kind = "xmp" if where else "picture"
    assert {read_texts(place, kind)["description"] for place in places} == {expected}
    while (tmp_path / "journal.jsonl").exists() and undo(tmp_path / "journal.jsonl")[1]:
        pass
    assert {place: content[0] for place, content in state(places).items()} == {
        place: content[0] for place, content in before.items()
    }


def test_what_a_camera_writes_is_no_caption(album, tmp_path):
    for path in album:
        give(path, exif="OLYMPUS DIGITAL CAMERA         ")
    assert write(options(tmp_path, if_exists="append"), album[:2]) == (2, [])
    assert write(options(tmp_path), album[2:]) == (2, [])
    assert {read_texts(path, "picture")["exif"] for path in album} == {"a dog runs"}


def test_sidecars_are_made_and_removed_by_undo(album, tmp_path):
    write(options(tmp_path, sidecar=True, format="xmp", xmp_name="stem"), album)
    places = [path.with_suffix(".xmp") for path in album]
    assert all(
        read_texts(place, "xmp") == {"description": "a dog runs", "alternative": "A dog runs."} for place in places
    )
    undo(tmp_path / "journal.jsonl")
    assert not any(place.exists() for place in places)


def test_sidecars_of_other_programs_keep_all_they_had(album, tmp_path):
    texts = {"x.xmp": samples.LIGHTROOM, "y.xmp": samples.DIGIKAM, "z.xmp": samples.DIGIKAM}
    images = [tmp_path / name.replace(".xmp", ".jpg") for name in texts]
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-16" if name == "z.xmp" else "utf-8")
    asked = options(tmp_path, sidecar=True, format="xmp", xmp_name="stem", if_exists="append")
    assert write(asked, images) == (3, [])
    for name, text in texts.items():
        new = (tmp_path / name).read_text("utf-16" if name == "z.xmp" else "utf-8")
        old_lines = [line for line in text.splitlines() if "By the lake" not in line and "x:xmpmeta>" not in line]
        assert all(line in new for line in old_lines if "rdf:RDF>" not in line)
    assert read_texts(tmp_path / "y.xmp", "xmp")["description"] == "By the lake\na dog runs"
    assert read_texts(tmp_path / "x.xmp", "xmp")["description"] == "a dog runs"


def test_pictures_of_one_stem_do_not_share_a_sidecar(tmp_path):
    images = [tmp_path / "a.jpg", tmp_path / "a.png"]
    asked = options(tmp_path, sidecar=True, format="xmp", xmp_name="stem")
    assert write(asked, images)[1] == [f"{images[1]} would share a.xmp with a.jpg; use --xmp-name full."]


# Going on after a kill


def stop_after(asked: OutputOptions, image: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), open_writer(asked, several=False) as writer:
        writer.add({image: said("first")})
        raise KeyboardInterrupt


def test_an_unfinished_run_is_gone_on_with_and_a_finished_one_is_not(album, tmp_path):
    asked = options(tmp_path, if_exists="overwrite")
    for path in album:
        give(path, description="old")
    before = state(album)
    stop_after(asked, album[0])
    assert write(asked, album, "second") == (3, [])
    assert [read_texts(path, "picture")["description"] for path in album] == ["first", *["second"] * 3]
    assert write(asked, album, "third") == (4, [])
    assert undo(tmp_path / "journal.jsonl")[1] == 1
    assert undo(tmp_path / "journal.jsonl")[0].files == 4
    assert state(album) == before


def test_a_change_that_was_noted_and_never_made_is_made_by_the_next_run(album, tmp_path, monkeypatch):
    before = state(album)
    asked = options(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            write(asked, album)
    assert state(album) == before
    assert write(asked, album) == (4, [])
    assert undo(tmp_path / "journal.jsonl")[0].text(0) == "4 files as before."
    assert state(album) == before


def kill(*paths):
    raise KeyboardInterrupt


def test_a_finished_run_that_is_started_again_changes_nothing(album, tmp_path):
    before = state(album)
    assert write(options(tmp_path, if_exists="append"), album) == (4, [])
    after = state(album)
    write(options(tmp_path, if_exists="append"), album)
    assert state(album) == after
    assert undo(tmp_path / "journal.jsonl")[0].text(0) == "4 files as before."
    assert state(album) == before


SCRIPT = """
import sys, time
from pathlib import Path
from captioning.inference.writers import OutputOptions, open_writer
from tests.inference.test_writers import said
folder = Path(sys.argv[1])
images = sorted(folder.glob("*.jpg"))
options = OutputOptions(metadata=True, if_exists=sys.argv[2], journal=folder / "j.jsonl")
with open_writer(options, several=False) as writer:
    for image in images:
        if image not in writer:
            assert not writer.add({image: said("new " + image.stem)})
            print(image, flush=True)
"""


@pytest.mark.parametrize("if_exists", ["skip", pytest.param("append", marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_and_captions_no_file_twice(tmp_path, if_exists, record_property):
    data = samples.picture("jpeg", exif=b"Exif\0\0" + samples.exif_block())
    images = [tmp_path / f"{number:02}.jpg" for number in range(30)]
    for path in images:
        path.write_bytes(data)
        if if_exists == "append":
            give(path, description="old")
    before = state(images)
    kills = 0
    for number in range(20):
        run = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path, if_exists], stdout=subprocess.PIPE)
        assert run.stdout
        lines = iter(run.stdout.readline, b"")
        for _ in range(4):
            next(lines, None)
        time.sleep(0.003 * number)
        run.send_signal(signal.SIGKILL)
        run.stdout.close()
        kills += run.wait() == -signal.SIGKILL
        assert not [path for path in images if samples.pixels(path.read_bytes()).shape != (20, 30, 3)]
        if run.returncode == 0:
            break
    record_property("kills", kills)
    assert kills >= 3
    for path in images:
        old = "old\n" if if_exists == "append" else ""
        assert read_texts(path, "picture")["description"] == f"{old}new {path.stem}"
    undo(tmp_path / "j.jsonl")
    assert state(images) == before


# Undo after other programs


def test_undo_leaves_what_others_changed_but_for_the_texts(album, tmp_path):
    give(album[0], description="old")
    write(options(tmp_path, if_exists="overwrite"), album)
    give(album[0], exif="a dog runs!")  # by a person, afterwards
    album[1].write_bytes(album[1].read_bytes() + b"more")
    album[2].unlink()
    result, earlier = undo(tmp_path / "journal.jsonl")
    assert result.text(earlier).splitlines() == [
        "2 files as before, 1 of them in their texts alone, since other programs changed them later, "
        "2 left as they are:",
        f"  {album[2]} is not there any more.",
        f"  {album[0]} holds another text by now, which is kept.",
    ]
    assert read_texts(album[1], "picture") == {}
    assert album[1].read_bytes().endswith(b"more")


def test_undo_of_a_changed_file_brings_the_old_text_back(album, tmp_path):
    give(album[0], description="old")
    write(options(tmp_path, if_exists="append"), album[:1])
    album[0].write_bytes(album[0].read_bytes() + b"more")
    assert undo(tmp_path / "journal.jsonl")[0].texts == 1
    assert read_texts(album[0], "picture") == {"description": "old"}


# The journal


@pytest.mark.parametrize(
    "content", [b"name,price\n", b"a shopping list", b"[3]\n", b'{"end": 3}\n', b'{"file": "x"}\n', b"\xff\xd8\xff\n"]
)
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(content)
    for use in (undo, Journal):
        with pytest.raises(DataError, match=r"is not a journal of captions .*; name another file\.$"):
            use(journal)
    assert journal.read_bytes() == content


def test_two_runs_do_not_share_a_journal(tmp_path):
    first = Journal(tmp_path / "j.jsonl", {})
    with pytest.raises(StorageError, match="is written by another run"):
        Journal(tmp_path / "j.jsonl", {})
    first.close()
    assert not (tmp_path / "j.jsonl").exists()  # nothing was written to it


def test_half_a_line_of_a_killed_run_is_written_over(album, tmp_path):
    journal = tmp_path / "journal.jsonl"
    stop_after(options(tmp_path), album[0])
    whole = journal.read_bytes()
    for cut in (1, 10, len(whole) - 1):
        journal.write_bytes(whole[:-cut])
        write(options(tmp_path), album[1:2])
        assert journal.read_bytes().count(b"\n") >= 2
        assert undo(journal)[0].problems == []


def test_a_journal_that_was_moved_with_its_folder_still_leads_back(tmp_path):
    (tmp_path / "a").mkdir()
    data = samples.picture("jpeg")
    (tmp_path / "a" / "x\ny.jpg").write_bytes(data)
    write(OutputOptions(metadata=True, journal=tmp_path / "a" / "j"), [tmp_path / "a" / "x\ny.jpg"])
    (tmp_path / "a").rename(tmp_path / "b")
    undo(tmp_path / "b" / "j")
    assert hashlib.sha256((tmp_path / "b" / "x\ny.jpg").read_bytes()).digest() == hashlib.sha256(data).digest()


def test_what_does_not_go_together_is_refused():
    for more, saying in (
        ({"metadata": True, "sidecar": True}, "exclude each other"),
        ({"metadata": True, "format": "csv"}, "has no --format"),
        ({"format": "xmp"}, "give --sidecar too"),
        ({"sidecar": True, "xmp_name": "stem"}, "is for --sidecar --format xmp"),
        ({"keep_times": True}, "--keep-times is for"),
        ({"journal": Path("j")}, "--journal is for"),
    ):
        with pytest.raises(CaptioningError, match=saying):
            OutputOptions(**more)
