"""The command line writes captions into photographs and takes them back."""

import shlex

import pytest
from PIL import Image

from captioning.inference.metadata.changes import read_texts
from tests.test_cli import assert_refused, run

BEGIN = "a red ball"


@pytest.fixture
def album(pictures, tmp_path, monkeypatch):
    """Two photographs and what is none; the current folder is another one."""
    folder = tmp_path / "album"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for number, suffix in enumerate(("jpg", "png")):
        Image.fromarray(pictures[number]).save(folder / f"{number}.{suffix}")
    return folder


def test_captions_go_into_photographs_and_out_again(loaded, album, capsys, tmp_path):
    before = {path: path.read_bytes() for path in album.iterdir()}
    status, out, err = run(capsys, "caption", album, "--metadata", "--suffix", " (machine-written)")
    assert (status, out) == (0, "")
    first, second = err.splitlines()
    assert first == "captioning: 2 captions in the images' metadata, confidence unknown."
    assert second == "captioning: python -m captioning undo captions-journal.jsonl takes this back."
    for path in before:
        assert read_texts(path, "picture")["description"] == f"{loaded.caption(path)} (machine-written)"
    _, _, err = run(capsys, "caption", album, "--metadata")
    assert err == "captioning: 0 new captions in the images' metadata, 2 there already.\n"
    status, _, err = run(capsys, *shlex.split(second)[4:6])
    assert (status, err) == (0, "captioning: 2 files as before.\n")
    assert {path: path.read_bytes() for path in album.iterdir()} == before


def test_what_cannot_be_written_is_named_and_the_status_is_1(loaded, album, capsys):
    Image.open(album / "0.jpg").save(album / "2.gif")
    (album / "1.png").chmod(0o444)
    status, _, err = run(capsys, "caption", album, "--metadata")
    assert status == 1
    first, *named, last = err.splitlines()
    assert first == "captioning: 1 caption in the images' metadata, confidence unknown, 2 left out:"
    assert named[0].startswith(f"  {album}/1.png is read-only; ")
    assert named[1].startswith(f"  {album}/2.gif is no JPEG, PNG, WebP or TIFF")
    assert last.endswith("takes this back.")


def test_sidecars_for_other_programs(loaded, album, capsys):
    assert run(capsys, "caption", album, "--sidecar", "--format", "xmp", "--journal", album.parent / "j")[0] == 0
    assert sorted(path.name for path in album.iterdir()) == ["0.jpg", "0.jpg.xmp", "1.png", "1.png.xmp"]
    assert run(capsys, "undo", album.parent / "j")[0] == 0
    assert sorted(path.name for path in album.iterdir()) == ["0.jpg", "1.png"]


def test_text_sidecars_that_are_changed_can_be_undone(loaded, album, capsys):
    (album / "0.txt").write_bytes(b"by hand\xff\r\n")
    run(capsys, "caption", album, "--sidecar", "--if-exists", "append")
    assert (album / "0.txt").read_bytes() == f"by hand\udcff\n{loaded.caption(album / '0.jpg')}\n".encode(
        "utf-8", "surrogateescape"
    )
    assert run(capsys, "undo", "captions-journal.jsonl")[2] == "captioning: 2 files as before.\n"
    assert (album / "0.txt").read_bytes() == b"by hand\xff\r\n"
    assert not (album / "1.txt").exists()


def test_captions_begin_as_asked(loaded, album, capsys):
    _, out, _ = run(capsys, "caption", album, "--begin", BEGIN, "--prefix", "AI: ")
    texts = [line.split("\t")[1] for line in out.splitlines()]
    assert texts == [f"AI: {loaded.caption(path, begin=BEGIN)}" for path in sorted(album.iterdir())]
    assert all(text.startswith(f"AI: {BEGIN}") for text in texts)
    assert_refused(capsys, "caption", album, "--begin", "a zeppelin", saying="cannot begin with zeppelin")


def test_a_journal_that_is_not_there_is_named(capsys, tmp_path):
    assert_refused(capsys, "undo", tmp_path / "none.jsonl", saying="is not there; name the journal of the run")
