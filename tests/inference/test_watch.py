"""What arrives in a folder is captioned once it is whole, what changes is captioned again, and a stop cuts nothing."""

import functools
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from captioning.errors import CaptioningError, DataError
from captioning.inference import watch as watch_module
from captioning.inference.folder import caption_images
from captioning.inference.left_out import LeftOut
from captioning.inference.metadata.changes import read_texts, undo
from captioning.inference.watch import OLD, FolderWatch, Watcher
from captioning.inference.writers import OutputOptions, open_writer
from captioning.runtime.stopping import StopSignals
from tests.inference.test_folder import SEARCH, Parrot

SETTLE = 5.0


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    return path


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(folder, clock):
    return FolderWatch([folder], SETTLE, clock)


def draw(path: Path, number: int, age: float = 0) -> Path:
    Image.new("RGB", (20, 24), (number, 0, 0)).save(path)
    if age:
        os.utime(path, (time.time() - age, time.time() - age))
    return path


def looked(watch: FolderWatch, clock: Clock, seconds: float = SETTLE) -> list[str]:
    """The names of what has arrived some seconds later; it counts as captioned."""
    clock.now += seconds
    ready, changed = watch.look()
    watch.done(ready, changed_by_us=False)
    return [path.name + "!" * (path in changed) for path in ready]


def test_pictures_arrive_when_they_no_longer_change(folder, watch, clock):
    draw(folder / "old.png", 1, age=2 * OLD)
    draw(folder / "new.png", 2)
    assert looked(watch, clock) == ["old.png"], "what has been there for long is whole"
    assert looked(watch, clock) == ["new.png"]
    part = folder / "slow.png"
    for size in range(1, 4):
        part.write_bytes(bytes(size))
        assert looked(watch, clock) == []
    draw(part, 3)
    assert looked(watch, clock) == []
    assert looked(watch, clock, SETTLE / 2) == []
    assert looked(watch, clock) == ["slow.png"]
    assert looked(watch, clock) == []
    draw(part, 4, age=7)
    assert looked(watch, clock) == []
    assert looked(watch, clock) == ["slow.png!"]


def test_what_programs_that_synchronise_write_meanwhile_is_passed_over(folder, watch, clock):
    hidden = (
        ".photo.jpg.icloud",
        ".pending-1-a.jpg",
        ".syncthing.a.jpg.tmp",
        "a.jpg.part",
        "a.jpg.crdownload",
        "~a.tmp",
    )
    for name in hidden:
        (folder / name).write_bytes(b"x")
    (folder / ".dropbox.cache").mkdir()
    draw(folder / ".dropbox.cache" / "a.png", 1)
    (folder / "phone").mkdir()
    draw(folder / "phone" / "b.png", 1)
    (folder / "phone" / "circle").symlink_to(folder)
    looked(watch, clock)
    assert looked(watch, clock) == ["b.png"]
    os.replace(folder / "phone" / "b.png", folder / "c.png")
    looked(watch, clock)
    assert looked(watch, clock) == ["c.png"]


def test_space_taken_in_advance_is_waited_for(folder, watch, clock):
    whole = draw(folder / "a.jpg", 1).read_bytes()
    (folder / "a.jpg").write_bytes(whole[:-200] + bytes(200))
    assert [looked(watch, clock) for _ in range(3)] == [[]] * 3
    (folder / "a.jpg").write_bytes(whole)
    looked(watch, clock)
    assert looked(watch, clock) == ["a.jpg"]


def test_a_drive_that_is_away_for_a_while_comes_back_as_it_was(folder, watch, clock):
    draw(folder / "a.png", 1, age=2 * OLD)
    assert looked(watch, clock) == ["a.png"]
    folder.rename(folder.parent / "away")
    assert looked(watch, clock) == []
    assert watch.unreachable == [folder]
    (folder.parent / "away").rename(folder)
    assert looked(watch, clock) == []
    assert watch.unreachable == []


def test_only_folders_are_watched(folder):
    with pytest.raises(DataError, match="only folders are watched"):
        FolderWatch([draw(folder / "a.png", 1)], SETTLE)
    with pytest.raises(CaptioningError, match="--every 0 cannot be used"):
        FolderWatch([folder], 0)


# Captioning what arrives


def run(folder: Path, options: OutputOptions, *acts, captioner=None, every: float = 0.02, rest: int = 9):
    """Watches a folder while the acts are done, each after the rounds before; stops then."""
    rounds, warnings = [], []

    def act() -> None:
        for each in (lambda: None, *acts):
            each()
            quiet, told = 0, len(rounds)
            while quiet < rest:
                time.sleep(every)
                quiet, told = (quiet + 1 if told == len(rounds) else 0), len(rounds)
        os.kill(os.getpid(), signal.SIGTERM)

    caption = functools.partial(caption_images, captioner or Parrot(), search=SEARCH)
    with open_writer(options, several=False) as writer:
        watcher = Watcher(caption, writer, LeftOut(options, writer), rounds.append, options.metadata)
        thread = threading.Thread(target=act)
        thread.start()
        total = watcher.run(FolderWatch([folder], every), every, warnings.append)
        thread.join()
    return total, rounds, warnings


@pytest.mark.parametrize("kind", ["csv", "txt"])
def test_lines_are_added_and_replaced(folder, tmp_path, kind):
    options = OutputOptions(output=tmp_path / f"c.{kind}", watch=True)
    draw(folder / "a.png", 1, age=2 * OLD)
    total, _, _ = run(
        folder, options, *(functools.partial(draw, folder / name, n) for name, n in (("b.png", 2), ("a.png", 33)))
    )
    text = options.output.read_text()
    assert [text.count(f"number {number}") for number in (1, 2, 33)] == [0, 1, 1]
    assert total.written == 3
    again = Parrot()
    total, rounds, _ = run(folder, options, captioner=again)
    assert not again.seen
    assert not rounds


def texts(path: Path) -> list[str]:
    return [text for name, text in read_texts(path, "picture").items() if name == "description"]


@pytest.mark.parametrize("if_exists", ["skip", "append"])
def test_metadata_is_written_once_and_undone(folder, tmp_path, if_exists):
    options = OutputOptions(metadata=True, journal=tmp_path / "j", watch=True, if_exists=if_exists)
    paths = [draw(folder / f"{number}.png", number, age=2 * OLD) for number in range(3)]
    before = [path.read_bytes() for path in paths]
    total, rounds, _ = run(folder, options, functools.partial(draw, folder / "9.png", 9))
    assert [total.written, len(rounds)] == [4, 2], "what was written does not arrive again"
    paths.append(folder / "9.png")
    before.append(draw(tmp_path / "9.png", 9).read_bytes())
    again = Parrot()
    run(folder, options, functools.partial(draw, folder / "10.png", 10), captioner=again)
    assert again.seen == [1], "the next start goes on"
    assert [texts(path) for path in paths] == [["number 0"], ["number 1"], ["number 2"], ["number 9"]]
    assert not undo(tmp_path / "j")[0].problems
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("sidecar", ["txt", "xmp"])
def test_beside_a_changed_picture_our_caption_is_replaced_and_a_person_s_text_stays(folder, tmp_path, sidecar):
    options = OutputOptions(
        sidecar=True,
        format=sidecar,
        journal=tmp_path / "j",
        watch=True,
        if_exists="append" if sidecar == "txt" else "skip",
    )
    mine, theirs = draw(folder / "mine.png", 1), draw(folder / "theirs.png", 2)
    beside = [path.with_suffix(".txt") if sidecar == "txt" else Path(f"{path}.xmp") for path in (mine, theirs)]

    def change() -> None:
        beside[1].write_text(beside[1].read_text().replace("number 2", "by hand"))
        draw(theirs, 44)
        draw(mine, 33)

    total, _, _ = run(folder, options, change)
    assert "number 33" in beside[0].read_text()
    assert "number 1" not in beside[0].read_text()
    assert "by hand" in beside[1].read_text()
    assert not total.problems


def test_half_a_picture_is_waited_for_and_named_at_the_end(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_module, "TRIES", 99)
    options = OutputOptions(output=tmp_path / "c.csv", watch=True)
    whole = draw(tmp_path / "whole.png", 7).read_bytes()
    (folder / "half.png").write_bytes(whole[:60])
    (folder / "late.png").write_bytes(whole[:50])
    draw(folder / "a.png", 1)

    def complete() -> None:
        (folder / "late.png").write_bytes(whole)

    total, _, warnings = run(folder, options, complete, every=0.1, rest=6)
    assert total.written == 2
    lines = options.output.read_text().splitlines()[1:]
    assert [line.split(",")[1].strip('"') for line in lines] == ["number 1", "number 7"]
    assert not total.problems
    assert warnings == [f"{folder}/half.png was not whole yet; the next start captions it."]


def test_what_stays_half_is_named(folder, tmp_path):
    options = OutputOptions(output=tmp_path / "c.csv", watch=True)
    (folder / "half.png").write_bytes(draw(tmp_path / "whole.png", 7).read_bytes()[:60])
    total, rounds, _ = run(folder, options, lambda: time.sleep(1), every=0.01)
    assert len(rounds) == 1
    assert total.problems == [f"{folder}/half.png is cut short or damaged; copy or download it again."]


def test_json_cannot_be_watched(tmp_path):
    with pytest.raises(CaptioningError, match=r"--watch cannot write a \.json; use \.jsonl or \.csv\."):
        OutputOptions(output=tmp_path / "c.json", watch=True)


# Signals


def _send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_waits_for_what_must_not_be_cut(number):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt), signals.allowed():
            raise AssertionError
    with pytest.raises(KeyboardInterrupt), StopSignals() as signals, signals.allowed():
        _send(number)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_stop_is_obeyed_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals():
        _send(signal.SIGINT, signal.SIGINT)
