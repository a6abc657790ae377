"""The JPEG preview in the raw file of a camera: CR2, NEF, ARW, DNG, PEF, SRW, ORF, RW2, RAF and CR3.

Of the file only its directories and that preview are read. The raw pixels themselves are never decoded.
"""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

from captioning.data.image_blocks import MAX_PIXELS, Blocks, damaged
from captioning.data.image_tiff import DNG_VERSION, ORIENTATION, PHOTOMETRIC, SUBFILE_TYPE, THUMBNAIL
from captioning.errors import ImageError

ENOUGH = 1000  # pixels of the longer side: the smallest preview of as many is used, so that reading it is quick
FEWEST = 320  # less is a thumbnail
MAX_DIRECTORIES, MAX_ENTRIES, MAX_PREVIEWS = 30, 4096, 20
MAX_PREVIEW = 100_000_000  # bytes
MAX_SEGMENTS = 1000  # of a preview, before its size is stated

TIFF_HEADS = (b"II*\0", b"MM\0*")
RAW_HEADS = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJI")  # three of ORF, RW2, RAF
COMPRESSION, STRIPS, STRIP_SIZES, SUB_DIRECTORIES, JPEG_START, JPEG_SIZE = 259, 273, 279, 330, 513, 514
JPEG_FROM_RAW, EXIF, MAKER_NOTE, CAMERA_SETTINGS = 0x002E, 0x8769, 0x927C, 0x2020  # Panasonic; Olympus
PREVIEW_START, PREVIEW_SIZE = 0x0101, 0x0102  # in Olympus' camera settings
FILTER_ARRAY = 32803  # how pixels of a sensor are called
JPEG_COMPRESSIONS = (6, 7)
DECODED = (0xC0, 0xC1, 0xC2)  # frames; a lossless one holds the raw pixels
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4}  # bytes by type
CANON_PREVIEW = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
CANON_FACTS = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")


class Preview(NamedTuple):
    """Where a JPEG is in the file, and its sides in pixels."""

    start: int
    size: int
    longest: int
    pixels: int


class Entry(NamedTuple):
    """A tag: its type, its number of values, and where they are."""

    kind: int
    number: int
    place: int


def is_raw(blocks: Blocks) -> bool:
    """Whether a file of this beginning is a camera's raw file; the reading place is the start again."""
    blocks.go(0)
    head = blocks.read(min(16, blocks.size))
    blocks.go(0)
    if head[:4] in RAW_HEADS or head[4:12] == b"ftypcrx ":
        return True
    if head[:4] not in TIFF_HEADS or len(head) < 16:
        return False
    if head[8:10] == b"CR":
        return True
    tiff = _Tiff(blocks, 0)
    tags = tiff.directory(tiff.first)
    is_thumbnail = tiff.number(tags.get(SUBFILE_TYPE)) & THUMBNAIL
    is_sensor = tiff.number(tags.get(PHOTOMETRIC)) == FILTER_ARRAY
    blocks.go(0)
    return DNG_VERSION in tags or bool(is_thumbnail) or is_sensor


def preview_of(blocks: Blocks) -> Blocks:
    """The preview as a file of its own, with the orientation that the raw file states."""
    blocks.go(0)
    head = blocks.read(12)
    if head.startswith(b"FUJI"):
        found, orientation = _of_fuji(blocks), 0
    elif head[4:] == b"ftypcrx ":
        found, orientation = _of_canon(blocks)
    else:
        found, orientation = _of_tiff(blocks)
    previews = [each for place in found[:MAX_PREVIEWS] if (each := _measured(blocks, *place))]
    usable = sorted((each for each in previews if each.pixels <= MAX_PIXELS), key=lambda each: each.pixels)
    chosen = next((each for each in usable if each.longest >= ENOUGH), usable[-1] if usable else None)
    if not chosen or chosen.longest < FEWEST:
        raise _no_preview(blocks.name)
    blocks.go(chosen.start)
    preview = Blocks(io.BytesIO(blocks.read(chosen.size)), blocks.name)
    preview.exif_orientation = orientation
    return preview


def _no_preview(name: str) -> ImageError:
    advice = "export it as JPEG, or let the camera write a JPEG beside it"
    return ImageError("unsupported_format", f"{name} is a camera's raw file without a preview that is read; {advice}.")


def _measured(blocks: Blocks, start: int, size: int) -> Preview | None:
    """The preview at a place, if it is a JPEG that can be decoded."""
    if not (0 < start < blocks.size and 4 < size <= min(MAX_PREVIEW, blocks.size - start)):
        return None
    end = start + size
    blocks.go(start)
    if blocks.read(2) != b"\xff\xd8":
        return None
    for _ in range(MAX_SEGMENTS):
        if blocks.place + 9 > end:
            return None
        mark, code, length = struct.unpack(">BBH", blocks.read(4))
        if mark != 0xFF or length < 2 or code in (0xD9, 0xDA):
            return None
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">xHH", blocks.read(5))
            return Preview(start, size, max(width, height), width * height) if code in DECODED else None
        if blocks.place + length - 2 > end:
            return None
        blocks.skip(length - 2)
    return None


class _Tiff:
    """The directories of a TIFF that begins at `base`."""

    def __init__(self, blocks: Blocks, base: int) -> None:
        self.blocks, self.base = blocks, base
        head = self.at(0, 8)
        self.order = "<" if head.startswith(b"II") else ">"
        (self.first,) = struct.unpack(self.order + "I", head[4:])

    def at(self, place: int, length: int) -> bytes:
        self.blocks.go(self.base + place)
        return self.blocks.read(length)

    def directory(self, place: int) -> dict[int, Entry]:
        """The tags of the directory at a place; 0 stands for its successor."""
        (count,) = struct.unpack(self.order + "H", self.at(place, 2))
        if count > MAX_ENTRIES:
            raise damaged(self.blocks.name)
        raw = self.at(place + 2, 12 * count)
        tags: dict[int, Entry] = {}
        for number, (tag, kind, length, value) in enumerate(struct.iter_unpack(self.order + "HHII", raw)):
            inside = place + 2 + 12 * number + 8
            tags.setdefault(tag, Entry(kind, length, inside if SIZES.get(kind, 8) * length <= 4 else value))
        follows = self.base + place + 2 + 12 * count + 4 <= self.blocks.size
        tags[0] = Entry(4, int(follows), place + 2 + 12 * count)
        return tags

    def numbers(self, entry: Entry | None) -> list[int]:
        """The first values of a tag of whole numbers."""
        if not entry or entry.kind not in (1, 3, 4, 13):
            return []
        number = min(entry.number, MAX_PREVIEWS)
        form = {1: "B", 3: "H"}.get(entry.kind, "I")
        return list(struct.unpack(f"{self.order}{number}{form}", self.at(entry.place, number * SIZES[entry.kind])))

    def number(self, entry: Entry | None) -> int:
        """The first value, 0 where there is none."""
        return next(iter(self.numbers(entry)), 0)

    def directories(self) -> Iterator[dict[int, Entry]]:
        """All directories: the first, its successors, and those within."""
        seen, ahead = set[int](), [self.first]
        while ahead and len(seen) < MAX_DIRECTORIES:
            place = ahead.pop(0)
            if place and place not in seen:
                seen.add(place)
                tags = self.directory(place)
                yield tags
                ahead += [*self.numbers(tags[0]), *self.numbers(tags.get(SUB_DIRECTORIES))]


def _of_tiff(blocks: Blocks) -> tuple[list[tuple[int, int]], int]:
    """Where previews may be, and the orientation."""
    tiff, found, orientation = _Tiff(blocks, 0), list[tuple[int, int]](), 0
    for tags in tiff.directories():
        orientation = orientation or tiff.number(tags.get(ORIENTATION))
        found += zip(tiff.numbers(tags.get(JPEG_START)), tiff.numbers(tags.get(JPEG_SIZE)), strict=False)
        if tiff.number(tags.get(COMPRESSION)) in JPEG_COMPRESSIONS:
            strips = tiff.numbers(tags.get(STRIPS))
            found += zip(strips, tiff.numbers(tags.get(STRIP_SIZES)), strict=False) if len(strips) == 1 else ()
        if JPEG_FROM_RAW in tags:
            found.append((tags[JPEG_FROM_RAW].place, tags[JPEG_FROM_RAW].number))
        if EXIF in tags:
            found += _of_olympus(tiff, tags)
    return found, orientation


def _of_olympus(tiff: _Tiff, tags: dict[int, Entry]) -> list[tuple[int, int]]:
    """The preview that Olympus' notes name; places in them count from their own beginning."""
    note = tiff.directory(tiff.number(tags[EXIF])).get(MAKER_NOTE)
    head = tiff.at(note.place, 12) if note and note.number >= 12 else b""
    skipped = {b"OLYMPUS\0": 12, b"OM SYSTE": 16}.get(head[:8], 0)
    if not note or not skipped:
        return []
    inner = _Tiff(tiff.blocks, tiff.base)
    inner.base += note.place
    settings = inner.directory(skipped).get(CAMERA_SETTINGS)
    if not settings:
        return []
    listed = inner.directory(settings.place if settings.kind == 7 else inner.number(settings))
    starts, sizes = inner.numbers(listed.get(PREVIEW_START)), inner.numbers(listed.get(PREVIEW_SIZE))
    return [(base + start, size) for start, size in zip(starts, sizes, strict=False) for base in (inner.base, 0)]


def _of_fuji(blocks: Blocks) -> list[tuple[int, int]]:
    blocks.go(84)
    start, size = struct.unpack(">II", blocks.read(8))
    return [(start, size)]


def _boxes(blocks: Blocks, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two places: name, start and end of what they hold."""
    for _ in range(MAX_ENTRIES):
        if start + 8 > end:
            return
        blocks.go(start)
        size, name = struct.unpack(">I4s", blocks.read(8))
        inner = start + 8
        if size == 1:
            size, inner = int.from_bytes(blocks.read(8), "big"), start + 16
        size = size or end - start
        if size < inner - start or start + size > end:
            return
        yield name, inner, start + size
        start += size


def _of_canon(blocks: Blocks) -> tuple[list[tuple[int, int]], int]:
    """The preview of a CR3, and the orientation in the first of its blocks of EXIF."""
    found, orientation = list[tuple[int, int]](), 0
    for name, start, end in list(_boxes(blocks, 0, blocks.size)):
        if name == b"uuid" and _starts_with(blocks, start, end, CANON_PREVIEW):
            for inner_name, inner, inner_end in list(_boxes(blocks, start + 24, end)):
                if inner_name == b"PRVW" and inner_end - inner > 16:
                    blocks.go(inner + 12)
                    found.append((inner + 16, int.from_bytes(blocks.read(4), "big")))
        elif name == b"moov":
            orientation = orientation or _canon_orientation(blocks, start, end)
    return found, orientation


def _canon_orientation(blocks: Blocks, start: int, end: int) -> int:
    for name, inner, inner_end in list(_boxes(blocks, start, end)):
        if name == b"uuid" and _starts_with(blocks, inner, inner_end, CANON_FACTS):
            for fact, place, _ in list(_boxes(blocks, inner + 16, inner_end)):
                if fact == b"CMT1":
                    tiff = _Tiff(blocks, place)
                    return tiff.number(tiff.directory(tiff.first).get(ORIENTATION))
    return 0


def _starts_with(blocks: Blocks, start: int, end: int, name: bytes) -> bool:
    if end - start < len(name):
        return False
    blocks.go(start)
    return blocks.read(len(name)) == name
