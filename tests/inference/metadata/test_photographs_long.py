"""Three hundred real photographs get captions in their metadata, though the run is killed again and again."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from captioning.data.images import read_image
from captioning.inference.metadata.changes import read_texts
from captioning.inference.metadata.journal import Entry
from captioning.inference.metadata.journal import read as read_journal
from tests.inference.metadata.test_readers import EXIFTOOL, EXIV2, IMPLIED, OURS, dumps, exiftool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("CAPTIONING_PHOTOGRAPHS" not in os.environ, reason="CAPTIONING_PHOTOGRAPHS names no folder"),
    pytest.mark.skipif(not (EXIFTOOL and EXIV2), reason="ExifTool and Exiv2 are not both installed"),
]
ROOT = Path(__file__).parents[3]
COUNT, KILLS = 300, 20
PAIRS, PAIR = 3, 60  # runs for the rates, and photographs of each
RUN = """
import sys
from captioning import cli
from captioning.inference import folder
folder.BATCH = 8  # so that a run that is killed early has not captioned many in vain
sys.exit(cli.main(sys.argv[1:]))
"""
CAMERA = (
    *("-Make=Maker", "-Model=Model 1", "-Artist=Ä", "-GPSLatitude=47.4", "-GPSLatitudeRef=N", "-GPSLongitude=8.5"),
    *("-EXIF:DateTimeOriginal=2020:01:02 03:04:05", "-EXIF:UserComment=by hand", "-Orientation#=6"),
)
PROGRAM = ("-XMP-xmp:Rating=4", "-XMP-dc:Subject=Alps", "-XMP-dc:Description-de=Am See", "-XMP-crs:Exposure2012=+0.35")
AGENCY = ("-IPTC:Keywords=lake", "-IPTC:By-line=me", "-City=Zürich", "-Photoshop:IPTCDigest=new", "-Copyright=me")
NEW_BLOCKS = {"File:ExifByteOrder", "RIFF:Copy1:ImageWidth", "RIFF:Copy1:ImageHeight"}  # of files that had none before
KINDS = ((), CAMERA, PROGRAM, AGENCY, (*CAMERA, *PROGRAM, *AGENCY))
SUFFIXES = ("jpg", "jpg", "jpg", "png", "webp", "tif")


def fill(folder: Path) -> list[Path]:
    """Copies of photographs in four formats, with metadata of five kinds."""
    folder.mkdir()
    photographs = sorted(Path(os.environ["CAPTIONING_PHOTOGRAPHS"]).glob("*.jpg"))[:COUNT]
    if len(photographs) < COUNT:
        pytest.skip(f"{COUNT} photographs are needed")
    groups: dict[int, list[Path]] = {}
    for number, photograph in enumerate(photographs):
        suffix = SUFFIXES[number // len(KINDS) % len(SUFFIXES)]
        path = folder / f"{photograph.stem}.{suffix}"
        if suffix == "jpg":
            shutil.copyfile(photograph, path)
        else:
            Image.open(photograph).save(path, {"tif": "tiff"}.get(suffix, suffix))
        groups.setdefault(number % len(KINDS), []).append(path)
    for number, paths in groups.items():
        if KINDS[number]:
            exiftool("-q", "-m", "-overwrite_original", *KINDS[number], *paths)
    return sorted(folder.iterdir())


def digests(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


def start(folder: Path, journal: Path) -> subprocess.Popen[str]:
    arguments = ["caption", folder, "--metadata", "--if-exists", "overwrite", "--journal", journal]
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def lines_of(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def kill_on_the_way(folder: Path, journal: Path, dice: random.Random) -> tuple[int, int]:
    """Kills runs while they write, each after some more files; how often, and how many files were looked at then."""
    kills = looked = 0
    seen: dict[Path, int] = {}
    for number in range(KILLS):
        target = (number + dice.random()) * COUNT / (KILLS + 2)
        run = start(folder, journal)
        while run.poll() is None and lines_of(journal) < max(target, 2):
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        kills += run.returncode == -signal.SIGKILL
        for path in sorted(folder.glob("[!.]*")):
            if seen.get(path) != path.stat().st_mtime_ns:
                seen[path] = path.stat().st_mtime_ns
                read_image(path, size=32)
                read_texts(path, "picture")
                looked += 1
    return kills, looked


def test_captions_in_three_hundred_photographs(tmp_path, record_property):
    folder, journal = tmp_path / "photographs", tmp_path / "journal.jsonl"
    paths = fill(folder)
    before, old, shown = digests(paths), dumps(paths), [pixels(path) for path in paths]
    kills, looked = kill_on_the_way(folder, journal, random.Random(0))
    last = start(folder, journal)
    told = last.communicate()[1]
    assert last.returncode == 0, told
    runs, _ = read_journal(journal)
    written = [entry.file for run in runs for entry in run.entries]
    last_of: dict[str, Entry] = {}
    twice = 0  # a file that was noted and not yet replaced when the run was killed is noted again
    for entry in (entry for run in runs for entry in run.entries):
        twice += entry.file in last_of and last_of[entry.file].before != entry.before
        last_of[entry.file] = entry
    record_property("photographs", len(paths))
    record_property("kills", kills)
    record_property("changed files, all whole after a kill", looked)
    record_property("runs in the journal", len(runs))
    record_property("files noted anew since they were not replaced before a kill", len(written) - len(set(written)))
    record_property("files written twice", twice)
    assert not twice
    differing = compare(paths, old, dumps(paths), shown)
    record_property("other tags or pixels that differ", len(differing))
    assert not differing
    found = found_by_exiv2(paths)
    record_property("captions that Exiv2 finds", found)
    assert found == len(paths) == COUNT
    assert len(runs) == 1
    assert set(written) == {f"photographs/{path.name}" for path in paths}
    assert kills == KILLS
    undo = [sys.executable, "-m", "captioning", "undo", journal]
    done = subprocess.run(undo, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(folder.glob("[!.]*")) == paths
    record_property(
        "files as before, byte for byte, after undo", sum(a == b for a, b in zip(digests(paths), before, strict=True))
    )
    assert digests(paths) == before


def seconds_of(*arguments: str | Path) -> float:
    """The processor time of a run of the command, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "captioning", "caption", *arguments], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_metadata_costs_at_most_a_tenth_of_the_time(tmp_path, record_property):
    photographs = sorted(Path(os.environ["CAPTIONING_PHOTOGRAPHS"]).glob("*.jpg"))[:PAIR]
    ratios = []
    for number in range(PAIRS):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        for photograph in photographs:
            shutil.copyfile(photograph, folder / photograph.name)
        lines = seconds_of(folder, "--output", tmp_path / f"{number}.csv", "--per-image")
        metadata = seconds_of(folder, "--metadata", "--journal", tmp_path / f"{number}.jsonl", "--per-image")
        ratios.append(metadata / lines)
        record_property(f"pair {number + 1}: processor s with --output, --metadata", f"{lines:.1f} {metadata:.1f}")
    record_property("--metadata costs more by %, median", round(100 * (statistics.median(ratios) - 1), 1))
    assert statistics.median(ratios) < 1.1


def compare(paths: list[Path], old: list[dict], new: list[dict], shown: list[bytes]) -> list[str]:
    """What differs besides the captions; each is there, once, and the same in all places of the file."""
    differing = []
    for path, was, now, image in zip(paths, old, new, shown, strict=True):
        texts = {OURS[name]: value for name, value in now.items() if name in OURS}
        places = {"description", "alternative", "exif"} | ({"iptc"} if path.suffix in (".jpg", ".tif") else set())
        assert set(texts) == places, (path, texts)
        assert len({texts[place] for place in places - {"alternative"}}) == 1
        assert "\n" not in texts["description"]
        implied = {*OURS, *IMPLIED, *(NEW_BLOCKS - was.keys())}
        names = {name for name in {*was, *now} - implied if was.get(name) != now.get(name)}
        differing += [f"{path.name} {name}: {was.get(name)} -> {now.get(name)}" for name in names]
        differing += [f"{path.name} pixels"] if pixels(path) != image else []
    return differing


def found_by_exiv2(paths: list[Path]) -> int:
    """In how many files Exiv2 finds the description that ExifTool finds, and the alternative text."""
    told = json.loads(exiftool("-json", "-XMP-dc:Description", "-XMP-iptcCore:AltTextAccessibility", *paths))
    count = 0
    for path, texts in zip(paths, told, strict=True):
        said = subprocess.run([EXIV2, "-q", "-PEIXkv", path], capture_output=True, text=True, errors="replace").stdout
        line = " ".join(said.split())
        has_both = f'lang="x-default" {texts["Description"]}' in line and texts["AltTextAccessibility"] in line
        count += has_both and "Exif.Image.ImageDescription" in line
    return count
