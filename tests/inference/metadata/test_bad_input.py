"""Files that cannot be written are named in one sentence each, nothing of them is lost, and the others are written."""

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from captioning.errors import CaptioningError, DataError
from captioning.inference.metadata import changes, iptc, picture
from captioning.inference.metadata.changes import read_texts, undo
from captioning.inference.metadata.jpeg import EXIF, EXTENDED_XMP, PHOTOSHOP, PICTURES, XMP
from captioning.inference.metadata.splices import source_of, spliced
from captioning.inference.metadata.xmp import edit
from captioning.inference.writers import OutputOptions, open_writer
from tests.inference.metadata import samples
from tests.inference.metadata.samples import TEXTS
from tests.inference.test_writers import said

ADVICE = "use --sidecar --format xmp."


def with_segment(marker: int, payload: bytes, data: bytes | None = None) -> bytes:
    data = data or samples.picture("jpeg")
    return data[:20] + b"\xff" + struct.pack(">BH", marker, 2 + len(payload)) + payload + data[20:]


def large_xmp() -> bytes:
    """A packet without padding that takes all of a segment but 300 bytes."""
    inner = f"<rdf:Description xmlns:a='urn:a' a:b='{'x' * 64_900}'/>"
    rdf = "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"
    return f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {rdf}>{inner}</rdf:RDF></x:xmpmeta>".encode()


def large_exif() -> bytes:
    return b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x927C, 7, 65_490, 26) + bytes(4 + 65_490)


BAD = {  # name of a file -> its content, and what is said
    "xmp is full.jpg": (with_segment(0xE1, XMP + large_xmp()), r"has no room for this text.*65,502; " + ADVICE),
    "exif is full.jpg": (with_segment(0xE1, EXIF + large_exif()), "has no room for this text in its EXIF.*" + ADVICE),
    "broken exif.jpg": (with_segment(0xE1, EXIF + b"II*\0\xff\xff\xff\0"), "ends too early"),
    "exif of another kind.jpg": (with_segment(0xE1, EXIF + b"what is this"), "has a TIFF header of an unknown kind"),
    "exif of many tags.jpg": (with_segment(0xE1, EXIF + b"II*\0\x08\0\0\0\xff\xff"), "has 65,535 tags"),
    "latin.jpg": (with_segment(0xE1, XMP + b"<a>\xe9</a>"), "is neither UTF-8 nor UTF-16; save it as UTF-8"),
    "entities.jpg": (with_segment(0xE1, XMP + b"<!DOCTYPE a []><a/>"), "with a document type"),
    "broken iptc.jpg": (
        with_segment(0xED, PHOTOSHOP + b"8BIM\4\4\0\0\0\0\0\6\x1c\2\x78\0\xff?"),
        "IPTC block that ends too early",
    ),
    "broken resources.jpg": (with_segment(0xED, PHOTOSHOP + b"8BIM\4\4\0\0\xff\0\0\0"), "Photoshop block that ends"),
    "extended.jpg": (
        with_segment(0xE1, EXTENDED_XMP + b"<dc:description>x</dc:description>"),
        "has its description in extended XMP.*" + ADVICE,
    ),
    "old exif.png": (
        samples.picture("png", pnginfo=samples.png_text("Raw profile type exif", "\nexif\n       4\n00")),
        "has EXIF in ImageMagick's old form.*" + ADVICE,
    ),
    "photo.gif": (b"GIF89a" + bytes(30), "is no JPEG, PNG, WebP or TIFF.*" + ADVICE),
    "nothing.jpg": (b"", "is no JPEG, PNG, WebP or TIFF.*" + ADVICE),
}


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "j.jsonl"


def write(journal: Path, images: list[Path], **more) -> list[str]:
    place = {} if "sidecar" in more else {"metadata": True}
    with open_writer(OutputOptions(journal=journal, **place, **more), several=False) as writer:
        return list(writer.add({image: said("a dog runs") for image in images if image not in writer}).values())


def test_each_is_named_in_a_sentence_and_the_others_are_written(tmp_path, journal):
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content)
    good = [tmp_path / "a.jpg", tmp_path / "two\nlines.jpg"]
    for path in good:
        path.write_bytes(samples.picture("jpeg"))
    told = write(journal, [good[0], *(tmp_path / name for name in BAD), good[1]])
    assert len(told) == len(BAD), told
    for sentence, (name, (content, saying)) in zip(told, BAD.items(), strict=True):
        assert sentence.startswith(f"{tmp_path}/{name} ")
        assert re.search(saying, sentence), sentence
        assert sentence.isprintable()
        assert sentence.endswith(".")
        assert (tmp_path / name).read_bytes() == content
    assert [read_texts(path, "picture")["description"] for path in good] == ["a dog runs"] * 2
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_text_that_is_too_long_for_a_segment_is_refused(tmp_path, journal):
    path = tmp_path / "a\nb.jpg"
    path.write_bytes(samples.picture("jpeg"))
    with open_writer(OutputOptions(metadata=True, journal=journal), several=False) as writer:
        [sentence] = writer.add({path: said("dog " * 10_000)}).values()
    assert sentence.startswith(f"{tmp_path}/a\\nb.jpg cannot hold a text of 39,999 bytes in its IPTC block")
    assert path.read_bytes() == samples.picture("jpeg")


def test_a_read_only_file_is_left(tmp_path, journal):
    path = tmp_path / "a.jpg"
    path.write_bytes(samples.picture("jpeg"))
    path.chmod(0o444)
    assert write(journal, [path]) == [f"{path} is read-only; allow writing to it, or {ADVICE}"]
    assert path.read_bytes() == samples.picture("jpeg")


def test_a_symbolic_link_is_left_and_its_sidecar_is_written(tmp_path, journal):
    (tmp_path / "real.jpg").write_bytes(samples.picture("jpeg"))
    link = tmp_path / "link.jpg"
    link.symlink_to("real.jpg")
    assert write(journal, [link]) == [f"{link} is a symbolic link; give the file that it points to."]
    assert link.is_symlink()
    assert (tmp_path / "real.jpg").read_bytes() == samples.picture("jpeg")
    assert write(journal, [link], sidecar=True, format="xmp") == []
    assert (tmp_path / "link.jpg.xmp").exists()


def test_a_file_that_vanishes_is_named(tmp_path, journal, monkeypatch):
    gone, changed = tmp_path / "gone.jpg", tmp_path / "changed.jpg"
    for path in (gone, changed):
        path.write_bytes(samples.picture("jpeg"))
    real = changes.copy

    def copy(*arguments):
        gone.unlink(missing_ok=True)
        changed.unlink()
        changed.write_bytes(b"by another program")
        return real(*arguments)

    assert write(journal, [tmp_path / "never.jpg"]) == [
        f"{tmp_path}/never.jpg is not there any more; nothing was written."
    ]
    monkeypatch.setattr(changes, "copy", copy)
    assert write(journal, [gone]) == [f"{gone} is not there any more; nothing was written."]
    changed.write_bytes(samples.picture("jpeg"))
    [sentence] = write(journal, [changed])
    assert sentence == f"{changed} was changed by another program meanwhile; nothing was written, try again."
    assert changed.read_bytes() == b"by another program"
    assert not gone.exists()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs the right to mount")
def test_a_full_disk_is_named_and_loses_nothing(tmp_path, journal):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if done.returncode:
        pytest.skip("cannot mount here")
    try:
        images = [disk / "a.jpg", disk / "b.jpg"]
        for path in images:
            path.write_bytes(samples.picture("jpeg") + bytes(200_000))  # there is room to write both at once
        (disk / "filling").write_bytes(bytes((1 << 20) - 400_000 - 120_000))
        before = [path.read_bytes() for path in images]
        for place in (journal, disk / "j.jsonl"):
            told = write(place, images)
            assert len(told) == 2
            assert all("could not be written: the disk is full; free some space" in one for one in told)
            assert [path.read_bytes() for path in images] == before
            assert not [path for path in disk.iterdir() if path.name.endswith(".tmp")]
        (disk / "filling").unlink()
        assert write(disk / "j.jsonl", images) == []
        assert not undo(disk / "j.jsonl")[0].problems
        assert [path.read_bytes() for path in images] == before
    finally:
        subprocess.run(["umount", disk], check=True)


# What is special in a JPEG


def test_a_photoshop_block_of_several_segments_is_kept(tmp_path):
    resource = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 100_000) + bytes(range(250)) * 400
    block = resource + b"8BIM\4\4\0\0" + struct.pack(">I", 8) + b"\x1c\2\x19\0\3lak"
    data = with_segment(0xED, PHOTOSHOP + block[60_000:])
    data = with_segment(0xED, PHOTOSHOP + block[:60_000], data)
    new = spliced(data, picture.splices(source_of(data), TEXTS))
    container = picture._container(source_of(new))
    found = iptc.resources(container._resources())
    assert [one.number for one in found] == [0x040C, 0x0404]
    assert found[0].data == bytes(range(250)) * 400
    assert [one.data for one in iptc.data_sets(found[1].data)[0] if one.key == (2, 25)] == [b"lak"]
    assert picture.read(source_of(new)) == TEXTS


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_places_of_further_pictures_in_the_file_stay_right(order):
    first, second = samples.picture("jpeg"), samples.picture("jpeg")
    entries = 2
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 1)
    head += struct.pack(order + "HHII", 0xB002, 7, 16 * entries, 26) + bytes(4)
    size = len(first) + 4 + len(PICTURES) + len(head) + 16 * entries
    base = 20 + 4 + len(PICTURES)
    listed = struct.pack(order + "IIII", 0x030000, size, 0, 0) + struct.pack(
        order + "IIII", 0, len(second), size - base, 0
    )
    data = with_segment(0xE2, PICTURES + head + listed, first) + second
    assert data[size:] == second
    new = spliced(data, picture.splices(source_of(data), TEXTS))
    at = new.index(PICTURES) + 4
    (_, length, _, _), (_, _, offset, _) = (
        struct.unpack(order + "IIII", new[at + 26 + start : at + 42 + start]) for start in (0, 16)
    )
    assert new[at + offset :] == second
    assert new[:length].endswith(first[-200:])
    assert length == len(new) - len(second)


def test_extended_xmp_without_a_description_is_left_as_it_is():
    extended = EXTENDED_XMP + b"0" * 40 + b"<a:history/>"
    data = with_segment(0xE1, extended)
    assert extended in spliced(data, picture.splices(source_of(data), TEXTS))


def test_a_full_packet_has_room_once_its_padding_is_gone():
    padded = edit(b"", {"description": "old"}).replace(b"<?xpacket end", b" " * 64_000 + b"<?xpacket end")
    data = with_segment(0xE1, XMP + padded)
    long = {"description": "a dog " * 1000}
    assert picture.read(source_of(spliced(data, picture.splices(source_of(data), long)))) == long


# IPTC


def test_a_resource_of_another_program_is_no_iptc_and_is_kept():
    other = b"AgHg\4\4\0\0" + struct.pack(">I", 8) + b"\x1c\2\x78\0\3old"
    assert iptc.iptc_in(other) == b""
    new = iptc.with_iptc(other, b"\x1c\2\x78\0\3new")
    assert new.startswith(other)
    assert iptc.read(iptc.iptc_in(new)) == "new"


def test_iptc_keeps_its_character_set():
    latin = b"\x1c\2\x19\0\2\xe4\xf6\x1c\2\x69\0\1x"
    assert iptc.read(iptc.edit(latin, "läuft")) == "läuft"
    assert b"l\xe4uft" in iptc.edit(latin, "läuft")
    with pytest.raises(DataError, match="lacks letters of this text"):
        iptc.edit(latin, "犬")
    ascii_only = b"\x1c\2\x19\0\2ab"
    assert iptc.edit(ascii_only, "犬").startswith(b"\x1c\1\x5a\0\3\x1b%G")
    assert ascii_only in iptc.edit(ascii_only, "犬")
    assert iptc.edit(iptc.edit(latin, "läuft"), None) == latin


def test_iptc_of_a_long_value_is_kept():
    long = b"\x1c\2\x19\x80\4" + struct.pack(">I", 40_000) + bytes([65]) * 40_000
    assert iptc.edit(long, "a dog") == long + b"\x1c\2\x78\0\5a dog"
    with pytest.raises(CaptioningError, match="impossible length"):
        iptc.read(b"\x1c\2\x19\x80\xff")
