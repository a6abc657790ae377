"""Ten thousand images, some of them bad: each is captioned once or named once, however often the run is killed."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from captioning.inference import folder as album
from captioning.inference.folder import caption_folder, caption_images, find_images_in
from captioning.inference.records import name_of
from captioning.inference.writers import OutputOptions, open_writer
from tests.inference.test_folder import SEARCH, Parrot

pytestmark = pytest.mark.slow

ROOT = Path(album.__file__).parents[2]
IMAGES, BAD, KILLS = 10_000, 300, 100
RUN = """
import sys, time
from pathlib import Path
from captioning.inference import folder as album
from tests.inference.test_folder import Parrot
from tests.inference.test_folder_long import written
album.BATCH = 8
class Slow(Parrot):
    def caption_features(self, features, options):
        time.sleep(0.05)
        return super().caption_features(features, options)
print("begun", flush=True)
written(Path(sys.argv[1]), Path(sys.argv[2]), Slow())
"""
STRANGE = (
    "line\nbreak.png",
    'quo"te.png',
    "=1+1.png",
    "\U0001f408.png",
    "tab\t.png",
    "comma, \u05d0.png",
    " .png",
    "'.png",
)


def written(folder: Path, output: Path, captioner: Parrot) -> list[str]:
    caption = functools.partial(caption_images, captioner, search=SEARCH)
    with open_writer(OutputOptions(output=output), several=False) as book:
        return caption_folder(caption, find_images_in([folder]), book).problems


def fill(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (20, 24), (number % 256, number // 256, 0)).save(folder / f"{number:05}.bmp")


def spoil(folder: Path, count: int) -> None:
    """Makes some unreadable, in turn empty, cut, foreign, a pipe, a link to nothing, one to itself, a folder's name."""
    for number, path in enumerate(random.Random(0).sample(sorted(folder.iterdir()), count)):
        whole = path.read_bytes()
        path.unlink()
        kind = number % 6
        if kind < 3:
            path.write_bytes((b"", whole[:60], b"%PDF-1.4")[kind])
        elif kind == 3:
            os.mkfifo(path)
        else:
            path.symlink_to("nothing" if kind == 4 else path)


def test_of_ten_thousand_images_each_has_its_line_or_its_sentence(tmp_path, record_property):
    folder, output = tmp_path / "images", tmp_path / "captions.jsonl"
    fill(folder, IMAGES - len(STRANGE) - 1)
    spoil(folder, BAD)
    for name in STRANGE:
        Image.new("RGB", (20, 24)).save(folder / name)
    shutil.copy(folder / STRANGE[0], os.fsencode(folder) + b"/latin-\xe9.png")
    images, bad = find_images_in([folder]), written(folder, output, Parrot())
    lines = [json.loads(line)["image"] for line in output.read_text("utf-8").splitlines()]
    record_property("images", len(images))
    record_property("lines", len(lines))
    record_property("named as bad", len(bad))
    assert len(images) == IMAGES == len(lines) + len(bad)
    assert len(bad) == BAD
    assert lines == [name for name in map(name_of, images) if name in set(lines)], "the order is that of the images"
    named = {sentence.partition(".bmp ")[0] + ".bmp" for sentence in bad}
    assert len(named) == BAD
    assert not named & set(lines)
    again = Parrot()
    assert len(written(folder, output, again)) == BAD, "they are tried again"
    assert not any(again.seen)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "json"])
def test_killed_at_any_moment_no_image_is_missing_or_there_twice(tmp_path, record_property, kind):
    folder, output, calm = tmp_path / "images", tmp_path / f"captions.{kind}", tmp_path / f"calm.{kind}"
    fill(folder, 4000)
    written(folder, calm, Parrot())
    dice, kills = random.Random(0), 0
    while kills < KILLS // 3:
        run = subprocess.Popen([sys.executable, "-c", RUN, folder, output], cwd=ROOT, stdout=subprocess.PIPE)
        assert run.stdout.readline() == b"begun\n"
        time.sleep(dice.uniform(0.2, 1))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        kills += run.returncode == -signal.SIGKILL
    part = output.with_name(f"{output.name}.part") if kind == "json" else output
    lines = len(part.read_bytes().splitlines())
    assert lines < 4000, "there is something left to caption for the last that was killed"
    record_property("lines by then", lines)
    written(folder, output, Parrot())
    assert output.read_bytes() == calm.read_bytes()
    record_property("kills", kills)
    record_property("missing, doubled or half lines", 0)
