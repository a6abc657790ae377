"""A file is whole or absent, whatever the disk does; a folder has one holder, and a dead one holds nothing."""

import contextlib
import errno
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captioning.errors import StorageError
from captioning.runtime import files
from captioning.runtime.files import (
    atomic_file,
    atomic_write,
    exclusive_lock,
    explain_disk_errors,
    is_same_disk,
    require_space,
)
from tests.faults import FaultyDisk

RACES = 100
HOLDER = """
import sys, time
from pathlib import Path
from captioning.runtime.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def refuse(number):
    def call(*arguments, **others):
        raise OSError(number, os.strerror(number))

    return call


def assert_only(folder: Path, name: str, data: bytes) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: data}


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    return path


@contextlib.contextmanager
def small_files_only():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:  # at once: the limit holds for pytest's own output too
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_whole_replaces(old):
    atomic_write(old, "nëw")
    assert_only(old.parent, "state", "nëw".encode())


def test_folders_are_made(tmp_path):
    atomic_write(tmp_path / "a" / "b" / "file", b"data")
    assert_only(tmp_path / "a" / "b", "file", b"data")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing(old, error):
    def write_half():
        with atomic_file(old) as file:
            file.write(b"half of")
            raise error

    with pytest.raises(error):
        write_half()
    assert_only(old.parent, "state", b"old")


def test_what_was_there_is_kept_under_another_name(old):
    for data in (b"new", b"newer"):
        with atomic_file(old, earlier=old.with_name("earlier")) as file:
            file.write(data)
    assert {path.name: path.read_bytes() for path in old.parent.iterdir()} == {"state": b"newer", "earlier": b"new"}


def test_what_is_written_is_on_the_disk_before_it_takes_its_name(old):
    with FaultyDisk(old.parent) as disk:
        atomic_write(old, b"new")
    order = [("open", ".state.tmp"), ("write", ".state.tmp"), ("fsync", ".state.tmp"), ("replace", "state")]
    assert disk.done[1:] == [*order, ("fsync", old.parent.name)]  # after mkdir


def test_the_name_is_taken_only_at_the_end(old):
    with atomic_file(old) as file:
        file.write(b"new")
        file.flush()
        assert old.read_bytes() == b"old"
    assert_only(old.parent, "state", b"new")


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_the_disk_refuses_changes_nothing(old, monkeypatch, function, number):
    monkeypatch.setattr(files.os, function, refuse(number))
    with pytest.raises(StorageError) as refused:
        atomic_write(old, b"new")
    monkeypatch.undo()
    assert_only(old.parent, "state", b"old")
    assert str(old) in str(refused.value)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota"), (errno.EIO, "error")],
)
def test_disk_errors_say_what_and_what_to_do(tmp_path, number, reason):
    path = tmp_path / "not" / "there"
    with pytest.raises(StorageError, match=r"MB free.*choose another folder") as refused, explain_disk_errors(path):
        refuse(number)()
    assert reason in str(refused.value)
    assert str(path) in str(refused.value)
    assert refused.value.exit_status == 4


def test_what_does_not_fit_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: (asked.append(path), usage._replace(free=2**30))[1])
    folder = tmp_path / "not" / "there"
    require_space(folder, 2**30)
    message = rf"{folder} needs 1,029 MB more .* has 1,024 MB free; .* --cache FOLDER\.$"
    with pytest.raises(StorageError, match=message):
        require_space(folder, 2**30 + 5 * 2**20)
    with pytest.raises(StorageError, match="--artifacts FOLDER"):
        require_space(folder, 2**31, flag="--artifacts")
    assert set(asked) == {tmp_path}
    assert not folder.parent.exists()


def test_the_real_disk_is_asked(tmp_path):
    require_space(tmp_path, 1)
    with pytest.raises(StorageError, match="free some space"):
        require_space(tmp_path, 2**60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full(old):
    old.with_name(f".{old.name}.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full"):
        atomic_write(old, b"new")
    assert_only(old.parent, "state", b"old")


def test_a_write_that_is_really_cut_short(old):
    with small_files_only(), pytest.raises(StorageError, match="could not be written"):
        atomic_write(old, b"new" * 100_000)
    assert_only(old.parent, "state", b"old")


def test_a_folder_that_cannot_be_made(old):
    with pytest.raises(StorageError, match="could not be written"):
        atomic_write(old / "below a file", b"new")
    with pytest.raises(StorageError, match="could not be written"), exclusive_lock(old):
        pass


@contextlib.contextmanager
def other_holder(folder: Path):
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(files.__file__).parents[2]) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_a_second_holder_is_refused_until_the_first_is_gone(tmp_path):
    folder = tmp_path / "training"
    with other_holder(folder) as process:
        with (
            pytest.raises(StorageError, match=rf"process {process.pid} on .*, since 20.*--name") as refused,
            exclusive_lock(folder),
        ):
            pass
        assert str(folder) in str(refused.value)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with exclusive_lock(folder):
            assert str(os.getpid()) in (folder / ".lock").read_text()


def test_a_folder_is_free_again_after_the_block(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), exclusive_lock(tmp_path):
            raise ValueError("x")
    with (
        exclusive_lock(tmp_path),
        pytest.raises(StorageError, match=f"process {os.getpid()}"),
        exclusive_lock(tmp_path),
    ):
        pass


def test_two_folders_have_two_holders(tmp_path):
    with exclusive_lock(tmp_path / "a"), exclusive_lock(tmp_path / "b"):
        pass


def hold_now(folder: Path, start, told) -> None:
    """What one of two processes does that want a folder at the same moment."""
    start.wait()
    try:
        with exclusive_lock(folder):
            (folder / "inside").touch(exist_ok=False)
            time.sleep(0.01)
            (folder / "inside").unlink()
            told.put("held")
    except StorageError as refused:
        told.put(str(refused))


@pytest.mark.slow
def test_two_that_want_a_folder_at_once(tmp_path, record_property):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["captioning.runtime.files", "pytest"])
    refused = 0
    for number in range(RACES):
        start, told, folder = context.Barrier(2), context.SimpleQueue(), tmp_path / str(number)
        both = [context.Process(target=hold_now, args=(folder, start, told)) for _ in range(2)]
        for process in both:
            process.start()
        found = sorted(told.get() for _ in both)
        for process in both:
            process.join(timeout=60)
            assert process.exitcode == 0
        assert found[-1] == "held"
        assert found[0] == "held" or re.match(r"Another training \((process \d+ on|started just now)", found[0]), found
        refused += found[0] != "held"
    assert refused > RACES / 4
    record_property("races", RACES)
    record_property("refused", refused)
    record_property("both inside", 0)


def test_folders_that_are_not_there_yet_have_the_disk_of_what_is_above_them(tmp_path):
    assert is_same_disk(tmp_path / "a" / "b", tmp_path / "c")
    if os.path.isdir("/dev/shm") and os.stat("/dev/shm").st_dev != os.stat(tmp_path).st_dev:
        assert not is_same_disk(tmp_path / "a", Path("/dev/shm/a"))
