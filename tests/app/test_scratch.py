"""What people uploaded goes: old files, empty folders, and everything when the app stops."""

import os
import time
from pathlib import Path

from captioning.app import scratch
from captioning.app.scratch import scratch_folder, swept


def test_old_files_and_empty_folders_go_and_small_files_count(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "new").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(9000))
    (tmp_path / "two").write_bytes(b"")
    (tmp_path / "three").write_bytes(b"three")
    os.utime(tmp_path / "three", (0, time.time() - scratch.KEPT - 1))
    os.utime(tmp_path / "a" / "b", (0, time.time() - scratch.EMPTY - 1))
    assert swept(str(tmp_path)) == 9000 + scratch.BLOCK
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "new", "one", "two"]


def test_old_files_go_also_where_nobody_asks_for_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "SWEEP", 0.01)
    (tmp_path / "old").write_bytes(b"old")
    os.utime(tmp_path / "old", (0, 0))
    scratch.keep_swept(str(tmp_path))
    for _ in range(500):
        if not list(tmp_path.iterdir()):
            return
        time.sleep(0.01)
    raise AssertionError("it is still there")


def test_the_folder_is_gone_in_the_end_with_all_that_is_in_it(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with scratch_folder() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == folder
        assert oct(Path(folder).stat().st_mode & 0o777) == "0o700"  # to nobody else on this computer
        Path(folder, "a").mkdir()
        Path(folder, "a", "b").write_bytes(b"b")
    assert not Path(folder).exists()
