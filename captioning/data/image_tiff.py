"""What the pixels need of a TIFF file: its first directory, less the entries that are not about pixels."""

import math
import struct
from typing import NamedTuple

from captioning.data.image_blocks import Blocks, damaged, unsupported

MAX_VALUES = 400_000  # bytes of one entry's values; a 16-bit colour map takes as much
MAX_STRIPS = 20_000

WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 259, 262, 274
STRIPS, SAMPLES, ROWS, PLANES, TILES = 273, 277, 278, 284, 324
PIXEL_TAGS = {WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, PLANES}
PIXEL_TAGS |= {258, 266, 317, 320, 338, 339}  # bits, fill order, predictor, colour map, extra samples, sample format
PIXEL_TAGS |= {279, 292, 293}  # sizes of strips, fax
SUBFILE_TYPE, THUMBNAIL, DNG_VERSION = 254, 1, 50706
COMPRESSIONS = {1, 2, 3, 4, 5, 8, 32773, 32946}  # none, fax, LZW, deflate, PackBits; not JPEG: see SECURITY.md
PHOTOMETRICS = {0, 1, 2, 3, 5}  # grey, RGB, palette, CMYK; not YCbCr
SHORT, SIZES = 3, {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes by type


class Entry(NamedTuple):
    """An entry of a directory: the type and number of its values, and these or where they are."""

    kind: int
    number: int
    value: bytes


def keep_tiff(blocks: Blocks) -> None:
    """Keep the file with the entries that pixels need in its only directory, and note the orientation."""
    blocks.keep(blocks.rest())
    blocks.go(0)
    head = blocks.read(8)
    order = "<" if head.startswith(b"II") else ">"
    (start,) = struct.unpack(order + "I", head[4:])
    blocks.go(start)
    (count,) = struct.unpack(order + "H", blocks.read(2))
    entries: dict[int, Entry] = {}
    for tag, *entry in struct.iter_unpack(order + "HHI4s", blocks.read(12 * count)):
        entries.setdefault(tag, Entry(*entry))
    facts = {tag: _number(entry, order) for tag, entry in entries.items() if entry.number == 1}
    _check_kind(blocks, facts, entries)
    kept = {tag: entries[tag] for tag in sorted(entries.keys() & PIXEL_TAGS)}
    if any(entry.number * SIZES.get(entry.kind, 1) > MAX_VALUES for entry in kept.values()):
        raise damaged(blocks.name)
    _check_parts(blocks, facts, kept)
    blocks.exif_orientation = facts.get(ORIENTATION, 0)
    blocks.kept.seek(start)
    lines = (struct.pack(order + "HHI4s", tag, *entry) for tag, entry in kept.items() if tag != ORIENTATION)
    blocks.keep(struct.pack(order + "H", len(kept)), *lines, bytes(4))  # and no next directory


def _number(entry: Entry, order: str) -> int:
    """The only value of an entry, of type SHORT or LONG."""
    return struct.unpack(order + "HH" if entry.kind == SHORT else order + "I", entry.value)[0]


def _check_kind(blocks: Blocks, facts: dict[int, int], entries: dict[int, Entry]) -> None:
    if DNG_VERSION in entries or facts.get(SUBFILE_TYPE, 0) & THUMBNAIL:
        raise unsupported(blocks.name, "a camera's raw file")
    is_usual = facts.get(COMPRESSION, 1) in COMPRESSIONS and facts.get(PHOTOMETRIC, 0) in PHOTOMETRICS
    if not is_usual or TILES in entries:
        raise unsupported(blocks.name, "TIFF in tiles, or with a rare compression or colour space")


def _check_parts(blocks: Blocks, facts: dict[int, int], kept: dict[int, Entry]) -> None:
    """Refuse more strips than cover the picture once, each of which Pillow would decode."""
    width, height = facts.get(WIDTH, 0), facts.get(HEIGHT, 0)
    blocks.check_pixels(width, height)
    if not (width and height):
        raise damaged(blocks.name)
    planes = facts.get(SAMPLES, 1) if facts.get(PLANES, 1) == 2 else 1
    expected = math.ceil(height / min(facts.get(ROWS, 0) or height, height)) * planes
    if STRIPS in kept and kept[STRIPS].number > min(expected, MAX_STRIPS):
        raise damaged(blocks.name)
