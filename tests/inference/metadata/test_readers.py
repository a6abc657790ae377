"""ExifTool and Exiv2 find the captions that were written, and every other tag as it was before."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from captioning.inference.metadata import picture
from captioning.inference.metadata.changes import KINDS
from captioning.inference.metadata.splices import source_of, spliced
from tests.inference.metadata import samples
from tests.inference.metadata.samples import FORMATS, TEXTS, kept

EXIFTOOL, EXIV2 = shutil.which("exiftool"), shutil.which("exiv2")
OURS = {
    "XMP-dc:Description": "description",
    "XMP-iptcCore:AltTextAccessibility": "alternative",
    "IPTC:Caption-Abstract": "iptc",
    "IFD0:ImageDescription": "exif",
}
RICH = (
    *("-Make=Maker", "-Model=Model 1", "-Artist=Ä", "-GPSLatitude=47.4", "-GPSLatitudeRef=N", "-Copyright=me"),
    *("-XMP-xmp:Rating=4", "-XMP-dc:Subject=Alps", "-XMP-dc:Description-de=Am See", "-City=Zürich"),
    *(
        "-IPTC:Keywords=lake",
        "-IPTC:By-line=me",
        "-EXIF:UserComment=by hand",
        "-EXIF:DateTimeOriginal=2020:01:02 03:04:05",
    ),
    *("-XMP-photoshop:Headline=x", "-Photoshop:IPTCDigest=new"),
)
IMPLIED = {  # a new block or directory brings these along
    "IPTC:CodedCharacterSet",
    "IPTC:ApplicationRecordVersion",
    "File:CurrentIPTCDigest",  # computed by ExifTool
    "Photoshop:IPTCDigest",  # renewed where it was right
    "RIFF:WebP_Flags",
}


def exiftool(*arguments: str | Path) -> str:
    done = subprocess.run([EXIFTOOL, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def dumps(paths: list[Path]) -> list[dict]:
    """All tags of each file that ExifTool finds, but for those of the file system."""
    told = json.loads(exiftool("-json", "-a", "-G1:4", "-struct", "-n", "-b", *paths))
    hidden = ("System", "ExifTool", "SourceFile", "File:FileType")
    return [{name: value for name, value in tags.items() if not name.startswith(hidden)} for tags in told]


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A picture of each format, with metadata of many kinds that ExifTool has written."""
    folder = tmp_path_factory.mktemp("rich")
    paths = [folder / f"{kind}.{kind.partition('-')[0]}" for kind in FORMATS]
    for path, kind in zip(paths, FORMATS, strict=True):
        path.write_bytes(samples.picture(kind))
    exiftool("-q", "-m", "-overwrite_original", *RICH, *paths)
    return paths


@pytest.mark.skipif(not EXIFTOOL, reason="ExifTool is not installed")
def test_exiftool_finds_the_texts_and_every_other_tag_as_before(rich):
    before = dumps(rich)
    pixels = [samples.pixels(path.read_bytes()) for path in rich]
    for path in rich:
        data = path.read_bytes()
        path.write_bytes(spliced(data, picture.splices(source_of(data), TEXTS)))
    after = dumps(rich)
    for path, old, new, shown in zip(rich, before, after, pixels, strict=True):
        found = {OURS[name]: value for name, value in new.items() if name in OURS}
        assert found == kept(path.stem), path
        if path.suffix == ".jpeg":
            assert new["Photoshop:IPTCDigest"] == new["File:CurrentIPTCDigest"] != old["File:CurrentIPTCDigest"]
        if path.suffix == ".tiff":  # ExifTool counts the padding only when it reads
            assert new["Photoshop:IPTCDigest"] != old["Photoshop:IPTCDigest"]
        others = [{name: tags[name] for name in tags if name not in {*OURS, *IMPLIED}} for tags in (old, new)]
        assert others[0] == others[1], path
        assert len(others[0]) > 20
        assert (samples.pixels(path.read_bytes()) == shown).all()
    assert exiftool("-a", "-q", "-error", *rich) == ""


@pytest.mark.skipif(not EXIV2, reason="Exiv2 is not installed")
@pytest.mark.parametrize("kind", FORMATS)
def test_exiv2_finds_the_texts(kind, tmp_path):
    path = tmp_path / "photo"
    data = samples.picture(kind)
    path.write_bytes(spliced(data, picture.splices(source_of(data), TEXTS)))
    told = subprocess.run([EXIV2, "-PEIXkv", path], capture_output=True, text=True)
    assert told.stderr == ""
    assert f'Xmp.dc.description lang="x-default" {TEXTS["description"]}' in " ".join(told.stdout.split())
    assert 'AltTextAccessibility lang="x-default" Ein Hund.' in " ".join(told.stdout.split())
    assert "Exif.Image.ImageDescription" in told.stdout
    assert ("Iptc.Application2.Caption" in told.stdout) == ("iptc" in kept(kind))


@pytest.mark.skipif(not EXIFTOOL, reason="ExifTool is not installed")
def test_exiftool_finds_the_texts_in_sidecars_and_all_that_was_there(tmp_path):
    sidecars = {"none": "", "lightroom": samples.LIGHTROOM, "digikam": samples.DIGIKAM}
    paths = [tmp_path / f"{name}.xmp" for name in sidecars]
    for path, text in zip(paths, sidecars.values(), strict=True):
        path.write_text(text, "utf-8")
    before = [{}, *dumps(paths[1:])]
    for path in paths:
        texts = {"description": "A dog.", "alternative": "A dog & a cat."}
        path.write_bytes(spliced(path.read_bytes(), KINDS["xmp"].splices(source_of(path.read_bytes()), texts)))
    for old, new in zip(before, dumps(paths), strict=True):
        assert new.pop("XMP-dc:Description") == "A dog."
        assert new.pop("XMP-iptcCore:AltTextAccessibility") == "A dog & a cat."
        old.pop("XMP-dc:Description", None)
        assert {name: new[name] for name in old} == old
