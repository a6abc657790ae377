"""The caption in an IPTC-IIM block, and the Photoshop resources that hold such a block in a JPEG or TIFF."""

import hashlib
import struct
from typing import NamedTuple

from captioning.errors import DataError

CAPTION = (2, 120)  # Caption-Abstract
CHARACTER_SET = (1, 90)
UTF_8 = b"\x1b%G"
SHORT = 0x8000  # a dataset this long or longer has a length of another form
IPTC_RESOURCE, DIGEST_RESOURCE = 0x0404, 0x0425
OTHER = -1  # number of a resource of another program, which is kept
KINDS = (b"8BIM", b"AgHg", b"DCSR", b"MeSa", b"PHUT")


class DataSet(NamedTuple):
    """One value: its record and number, its text, and its bytes as they are in the block."""

    key: tuple[int, int]
    data: bytes
    whole: bytes


def data_sets(block: bytes) -> tuple[list[DataSet], bytes]:
    """The values of a block, and what follows them (padding)."""
    found, place = [], 0
    while block[place : place + 1] == b"\x1c":
        head = block[place : place + 5]
        if len(head) < 5:
            raise DataError("has an IPTC block that ends too early; repair or remove it.")
        record, number, length = struct.unpack(">xBBH", head)
        start = place + 5
        if length & SHORT:
            width = length & ~SHORT
            if width > 4:
                raise DataError("has an IPTC value of an impossible length; repair or remove the IPTC block.")
            length = int.from_bytes(block[start : start + width])
            start += width
        if start + length > len(block):
            raise DataError("has an IPTC block that ends too early; repair or remove it.")
        found.append(DataSet((record, number), block[start : start + length], block[place : start + length]))
        place = start + length
    if block[place:].strip(b"\0"):
        raise DataError("has an IPTC block that is broken; repair or remove it.")
    return found, block[place:]


def _packed(key: tuple[int, int], data: bytes) -> DataSet:
    if len(data) >= SHORT:
        raise DataError(f"cannot hold a text of {len(data):,} bytes in its IPTC block; shorten it.")
    return DataSet(key, data, b"\x1c" + struct.pack(">BBH", *key, len(data)) + data)


def _is_utf_8(found: list[DataSet]) -> bool:
    return any(one.key == CHARACTER_SET and one.data == UTF_8 for one in found)


def read(block: bytes) -> str:
    """The caption; empty where there is none."""
    found, _ = data_sets(block)
    raw = next((one.data for one in found if one.key == CAPTION), b"").strip(b"\0")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def edit(block: bytes, text: str | None) -> bytes:
    """The block with another caption, or without one. All other values keep their bytes and their order."""
    found, padding = data_sets(block)
    if not found:
        found = [_packed(CHARACTER_SET, UTF_8), _packed((2, 0), b"\0\4")] if text else []
    data = text.encode() if text else b""
    if not data.isascii() and not _is_utf_8(found):
        data, found = _in_its_characters(text or "", found)
    place = next((index for index, one in enumerate(found) if one.key == CAPTION), None)
    if place is None:
        place = next((index for index, one in enumerate(found) if one.key > CAPTION), len(found))
        found = [*found[:place], *([_packed(CAPTION, data)] if text else []), *found[place:]]
    else:
        found = [*found[:place], *([_packed(CAPTION, data)] if text else []), *found[place + 1 :]]
    return b"".join(one.whole for one in found) + padding


def _in_its_characters(text: str, found: list[DataSet]) -> tuple[bytes, list[DataSet]]:
    """The text in a block that does not say it is UTF-8: it will, if it is ASCII so far; otherwise Latin-1 is kept."""
    others = [one for one in found if one.key[0] > 1 and one.key not in (CAPTION, (2, 0))]
    if all(one.data.isascii() for one in others) and not any(one.key == CHARACTER_SET for one in found):
        return text.encode(), [_packed(CHARACTER_SET, UTF_8), *found]
    try:
        return text.encode("latin-1"), found
    except UnicodeEncodeError:
        raise DataError(
            "has an IPTC block in an old character set, which lacks letters of this text; use --sidecar --format xmp."
        ) from None


class Resource(NamedTuple):
    """A Photoshop resource: where it begins and ends in the block, padding included, and its data."""

    number: int
    start: int
    end: int
    data: bytes


def resources(block: bytes) -> list[Resource]:
    """The resources of a Photoshop block."""
    found, place = [], 0
    while block[place : place + 4] in KINDS:
        if place + 7 > len(block):
            raise DataError("has a Photoshop block that ends too early; repair or remove it.")
        (number,) = struct.unpack(">H", block[place + 4 : place + 6])
        name = 1 + block[place + 6]
        start = place + 6 + name + name % 2 + 4
        length = int.from_bytes(block[start - 4 : start])
        if start + length > len(block):
            raise DataError("has a Photoshop block that ends too early; repair or remove it.")
        end = min(start + length + length % 2, len(block))
        is_photoshop = block[place : place + 4] == KINDS[0]
        found.append(Resource(number if is_photoshop else OTHER, place, end, block[start : start + length]))
        place = end
    if block[place:].strip(b"\0"):
        raise DataError("has a Photoshop block that is broken; repair or remove it.")
    return found


def _resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)


def iptc_in(block: bytes) -> bytes:
    """The IPTC block within a Photoshop block; empty where there is none."""
    return next((one.data for one in resources(block) if one.number == IPTC_RESOURCE), b"")


def with_iptc(block: bytes, iptc: bytes) -> bytes:
    """The Photoshop block with another IPTC block. A digest that was right before is right again."""
    found = resources(block)
    old = next((one for one in found if one.number == IPTC_RESOURCE), None)
    fresh = _resource(IPTC_RESOURCE, iptc)
    block = renewed_digest(block, old.data if old else b"", iptc)
    if not old:
        end = found[-1].end if found else 0
        return block[:end] + bytes(end % 2) + fresh + block[end:]
    return block[: old.start] + (fresh if iptc else b"") + block[old.end :]


def renewed_digest(block: bytes, old: bytes, iptc: bytes) -> bytes:
    """The Photoshop block of the same length, whose digest of the IPTC block is renewed if it was right."""
    before = hashlib.md5(old, usedforsecurity=False).digest()
    for one in resources(block):
        if one.number == DIGEST_RESOURCE and one.data == before:
            start = block.index(before, one.start)
            return block[:start] + hashlib.md5(iptc, usedforsecurity=False).digest() + block[start + 16 :]
    return block
