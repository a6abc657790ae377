"""The real command on a folder of pictures that cannot be written: each is named in a sentence, the others are done."""

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.inference.metadata.changes import read_texts
from tests.data.raw_files import nef
from tests.inference.metadata.test_bad_input import BAD, with_segment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
GOOD = ("a.jpg", "line\nbreak.jpg", "z.png")


def photograph(number: int) -> bytes:
    cells = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
    target = io.BytesIO()
    Image.fromarray(cells).resize((320, 240), Image.Resampling.BICUBIC).save(target, "JPEG")
    return target.getvalue()


def command(*arguments: str | Path) -> subprocess.Popen[str]:
    whole = [sys.executable, "-m", "captioning", *arguments]
    return subprocess.Popen(whole, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def sentences_of(told: str) -> list[str]:
    """The lines about single pictures."""
    return [line.strip() for line in told.splitlines() if line.startswith("  ")]


def test_bad_files_are_named_and_the_others_written(tmp_path, record_property):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    latin = b'<?xml version="1.0" encoding="iso-8859-1"?><a/>'
    (folder / "xmp in latin-1.jpg").write_bytes(with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + latin))
    (folder / "read only.jpg").write_bytes(photograph(1))
    (folder / "read only.jpg").chmod(0o444)
    (folder / "link.jpg").symlink_to("a.jpg")
    (folder / "link to nothing.jpg").symlink_to("nowhere.jpg")
    (folder / "raw.nef").write_bytes(nef())
    bad = {path: path.read_bytes() for path in folder.iterdir() if path.exists()}
    for number, name in enumerate(GOOD):
        Image.open(io.BytesIO(photograph(10 + number))).save(folder / name)
    count = len(list(folder.iterdir())) - len(GOOD)
    run = command("caption", folder, "--metadata", "--journal", tmp_path / "j")
    told = run.communicate()[1]
    named = sentences_of(told)
    record_property("bad files", count)
    record_property("sentences", len(named))
    assert run.returncode == 1, told
    assert len(named) == count, told
    assert all(sentence.startswith(str(folder)) and sentence.endswith(".") for sentence in named)
    assert told.startswith(f"captioning: {len(GOOD)} captions in the images' metadata")
    assert all(read_texts(folder / name, "picture")["description"] for name in GOOD)
    assert all(path.read_bytes() == content for path, content in bad.items() if path.name != "link.jpg")


def test_files_that_vanish_are_named(tmp_path, record_property):
    folder, journal = tmp_path / "pictures", tmp_path / "j"
    folder.mkdir()
    paths = [folder / f"{number:03}.jpg" for number in range(90)]
    for number, path in enumerate(paths):
        path.write_bytes(photograph(number))
    run = command("caption", folder, "--metadata", "--journal", journal)
    while run.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.002)
    for path in paths[-5:]:
        path.unlink()
    told = run.communicate()[1]
    record_property("files that vanished", 5)
    record_property("named", len(sentences_of(told)))
    assert run.returncode == 1, told
    assert len(sentences_of(told)) == 5, told
    assert all("is not there any more" in one or "does not exist" in one for one in sentences_of(told))
    assert all(read_texts(path, "picture")["description"] for path in paths[:-5])


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs the right to mount")
def test_a_full_disk_is_named(tmp_path, record_property):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        paths = [disk / f"{number}.jpg" for number in range(4)]
        for number, path in enumerate(paths):
            path.write_bytes(photograph(number))
        free = shutil.disk_usage(disk).free
        (disk / "filling").write_bytes(bytes(free - 4096))
        before = [path.read_bytes() for path in paths]
        run = command("caption", disk, "--metadata", "--journal", tmp_path / "j")
        told = run.communicate()[1]
        assert run.returncode == 1, told
        assert len(sentences_of(told)) == 4
        assert all("could not be written: the disk is full; free some space" in each for each in sentences_of(told))
        assert [path.read_bytes() for path in paths] == before
        (disk / "filling").unlink()
        run = command("caption", disk, "--metadata", "--journal", tmp_path / "j")
        told = run.communicate()[1]
        assert run.returncode == 0, told
        record_property("files left whole by a full disk", len(paths))
    finally:
        subprocess.run(["umount", disk], check=True)
