"""A picture's file read block by block, so that no file costs much time or memory: the limits, and what passes them.

Pillow is handed a copy with what the pixels need. Comments, profiles, thumbnails and later frames never reach it.
"""

import io
import os
import re
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from captioning.errors import ImageError

MAX_FILE = 200_000_000  # bytes; 50 megapixels take as much uncompressed, with transparency
MAX_READS = 50_000  # to take a file apart; the largest PNG from the usual libraries needs half of them
MAX_PIXELS = 50_000_000
NOTE = 1 << 16  # bytes of EXIF or XMP; more is no note about how a picture is held

_EXIF_ORIENTATION, _SHORT = 0x0112, 3
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


@dataclass
class Blocks:
    """A file, read a limited number of times and never past its end; `kept` is the file for Pillow."""

    file: BinaryIO
    name: str
    kept: io.BytesIO = field(default_factory=io.BytesIO)
    place: int = 0
    reads: int = 0
    exif_orientation: int = 0  # 0 where nothing is said
    xmp_orientation: int = 0

    def __post_init__(self) -> None:
        self.size = self.file.seek(0, os.SEEK_END)
        self.file.seek(0)

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer are damage."""
        self.reads += 1
        if count > self.size - self.place or self.reads > MAX_READS:
            raise damaged(self.name)
        data = self.file.read(count)
        if len(data) < count:
            raise damaged(self.name)
        self.place += count
        return data

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes unread."""
        self.go(self.place + count)

    def go(self, place: int) -> None:
        """Go on at another place of the file."""
        if not 0 <= place <= self.size:
            raise damaged(self.name)
        self.place = self.file.seek(place)

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.read(self.size - self.place)

    def keep(self, *parts: bytes) -> None:
        """Add parts to the file for Pillow."""
        self.kept.writelines(parts)

    def note(self, body: bytes) -> None:
        """Take the orientation from a block of EXIF or XMP."""
        start = body.find(b"Exif\0\0", 0, 8)
        tiff = body[start + 6 :] if start >= 0 else body
        if tiff[:4] in (b"II*\0", b"MM\0*"):
            self.exif_orientation = self.exif_orientation or _orientation(tiff)
        elif found := _XMP_ORIENTATION.search(body):
            self.xmp_orientation = int(found[1])

    def check_pixels(self, width: int, height: int, limit: int = MAX_PIXELS, kind: str = "") -> None:
        """Refuse a picture of more pixels than are decoded."""
        if width * height > limit:
            raise too_many_pixels(self.name, limit, kind)


def damaged(name: str) -> ImageError:
    """What to raise for a file that begins as a picture and does not go on as one."""
    return ImageError("truncated", f"{name} is cut short or damaged; copy or download it again.")


def unsupported(name: str, kind: str) -> ImageError:
    """What to raise for a kind of file that is not read."""
    return ImageError("unsupported_format", f"{name} is {kind}, which is not read here; export it as JPEG or PNG.")


def too_many_pixels(name: str, limit: int = MAX_PIXELS, kind: str = "") -> ImageError:
    """What to raise for a picture of too many pixels; `kind` where less than usual is decoded."""
    most = f"{limit // 10**6} megapixels{kind and f', the most that is read of {kind}'}"
    return ImageError("too_large", f"{name} has more than {most}; make it smaller first.")


def too_many_bytes(name: str, size: int) -> ImageError:
    """What to raise for a file that is too large to be read."""
    most = f"at most {MAX_FILE // 10**6} MB were expected"
    return ImageError("too_large", f"{name} is a file of {size // 10**6:,} MB, {most}; save it as a smaller JPEG.")


def _orientation(tiff: bytes) -> int:
    """The orientation in the first directory of EXIF, 0 where there is none."""
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if (tag, kind, number) == (_EXIF_ORIENTATION, _SHORT, 1):
                return value
    except struct.error:  # a broken note about the picture is no reason to refuse it
        pass
    return 0
