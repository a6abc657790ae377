"""The metadata chunks of a PNG and of a WebP."""

import struct
import zlib
from typing import NamedTuple

from captioning.errors import DataError
from captioning.inference.metadata.splices import Source, Splice
from captioning.inference.metadata.xmp import MAX_PACKET

MAX_CHUNKS = 200_000
PNG_XMP = b"XML:com.adobe.xmp\0"
OLD_EXIF = (b"raw profile type exif", b"raw profile type app1")
LARGEST_BLOCK = 64 << 20
EXIF_NAME = b"Exif\0\0"  # some programs put it before the block in a WebP
EXIF_FLAG, XMP_FLAG, ALPHA_FLAG = 0x08, 0x04, 0x10


class Chunk(NamedTuple):
    """A chunk: its name, where it begins and ends in the file, and where its payload does."""

    name: bytes
    start: int
    end: int
    payload: int
    size: int


def _payload(source: Source, chunk: Chunk | None) -> bytes:
    if not chunk:
        return b""
    if chunk.size > LARGEST_BLOCK:
        raise DataError(f"has {chunk.size:,} bytes of metadata, of which {LARGEST_BLOCK:,} at most were expected.")
    return source.at(chunk.payload, chunk.size)


class Png:
    """Reads the metadata chunks of a PNG, and says how to change them. A PNG has no place for IPTC."""

    iptc = b""

    def __init__(self, source: Source) -> None:
        self.source, self.chunks = source, self._find(source)
        self._exif = next((one for one in self.chunks if one.name == b"eXIf"), None)
        self._xmp = next((one for one in self.chunks if self._is_xmp(one)), None)

    def _find(self, source: Source) -> list[Chunk]:
        found: list[Chunk] = []
        place = 8
        while len(found) < MAX_CHUNKS:
            size, name = struct.unpack(">I4s", source.at(place, 8))
            end = place + 12 + size
            source.at(end - 1, 1)
            found.append(Chunk(name, place, end, place + 8, size))
            if name == b"IEND":
                return found
            place = end
        raise DataError(f"is a PNG of more than {MAX_CHUNKS:,} chunks; export it again.")

    def _is_xmp(self, chunk: Chunk) -> bool:
        name = self.source.up_to(chunk.payload, min(chunk.size, len(PNG_XMP)))
        return chunk.name == b"iTXt" and name == PNG_XMP

    def _is_old_exif(self, chunk: Chunk) -> bool:
        name = self.source.up_to(chunk.payload, min(chunk.size, 40)).partition(b"\0")[0].lower()
        return chunk.name in (b"tEXt", b"zTXt", b"iTXt") and name in OLD_EXIF

    @property
    def exif(self) -> bytes:
        """The EXIF block; empty where there is none."""
        return _payload(self.source, self._exif)

    @property
    def xmp(self) -> bytes:
        """The XMP packet."""
        payload = _payload(self.source, self._xmp)[len(PNG_XMP) :]
        if not payload:
            return b""
        is_compressed, rest = payload[:1] == b"\1", payload[2:].split(b"\0", 2)
        if len(rest) != 3:
            raise DataError("has a broken XMP chunk; repair or remove it.")
        return _inflated(rest[2]) if is_compressed else rest[2]

    def splices(self, *, exif: bytes, xmp: bytes, iptc: bytes) -> list[Splice]:
        """What replaces the chunks that differ; new ones follow the header."""
        place, splices = self.chunks[0].end, []
        if exif != self.exif:
            if not self._exif and any(map(self._is_old_exif, self.chunks)):
                raise DataError("has EXIF in ImageMagick's old form, which is left alone; use --sidecar --format xmp.")
            splices.append(_placed(self._exif, place, _png_chunk(b"eXIf", exif)))
        if xmp != self.xmp:
            splices.append(_placed(self._xmp, place, _png_chunk(b"iTXt", PNG_XMP + bytes(4) + xmp)))
        return splices


def _placed(old: Chunk | None, place: int, data: bytes) -> Splice:
    return Splice(old.start, old.end, data) if old else Splice(place, place, data)


def _png_chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def _inflated(data: bytes) -> bytes:
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(data, MAX_PACKET + 1)
    except zlib.error:
        raise DataError("has a broken XMP chunk; repair or remove it.") from None
    if len(found) > MAX_PACKET:
        raise DataError(f"has more than {MAX_PACKET:,} bytes of XMP; remove some.")
    return found


class WebP:
    """Reads the metadata chunks of a WebP, and says how to change them. A WebP has no place for IPTC."""

    iptc = b""

    def __init__(self, source: Source) -> None:
        self.source = source
        (size,) = struct.unpack("<4xI", source.at(0, 8))
        self.end = 8 + size
        if self.end > source.size:
            raise DataError("is a WebP that ends too early; copy or export it again.")
        self.chunks = self._find(source)
        self._exif, self._xmp = self._first(b"EXIF"), self._first(b"XMP ")

    def _find(self, source: Source) -> list[Chunk]:
        found: list[Chunk] = []
        place = 12
        while place + 8 <= self.end and len(found) < MAX_CHUNKS:
            name, size = struct.unpack("<4sI", source.at(place, 8))
            if place + 8 + size > self.end:
                raise DataError("is a WebP whose chunks are broken; export it again.")
            end = min(place + 8 + size + size % 2, self.end)
            found.append(Chunk(name, place, end, place + 8, size))
            place = end
        if not found or len(found) == MAX_CHUNKS:
            raise DataError("is a WebP with too few or too many chunks; export it again.")
        return found

    def _first(self, name: bytes) -> Chunk | None:
        return next((one for one in self.chunks if one.name == name), None)

    @property
    def exif(self) -> bytes:
        """The EXIF block; empty where there is none."""
        return _payload(self.source, self._exif).removeprefix(EXIF_NAME)

    @property
    def xmp(self) -> bytes:
        """The XMP packet."""
        return _payload(self.source, self._xmp)

    def splices(self, *, exif: bytes, xmp: bytes, iptc: bytes) -> list[Splice]:
        """What replaces the chunks that differ; new ones go to the end, and the header names them."""
        splices, flags = [], 0
        if exif != self.exif:
            splices.append(_placed(self._exif, self.end, _riff_chunk(b"EXIF", exif)))
            flags |= EXIF_FLAG
        if xmp != self.xmp:
            splices.append(_placed(self._xmp, self.end, _riff_chunk(b"XMP ", xmp)))
            flags |= XMP_FLAG
        if splices:
            if self.end % 2:  # the last chunk lacks its padding
                splices.insert(0, Splice(self.end, self.end, b"\0"))
            splices.insert(0, self._header(flags))
            size = self.end - 8 + sum(splice.growth for splice in splices)
            splices.insert(0, Splice(4, 8, struct.pack("<I", size)))
        return splices

    def _header(self, flags: int) -> Splice:
        """The extended header with these flags set; a simple WebP gets one."""
        extended = self._first(b"VP8X")
        if extended:
            place = extended.payload
            return Splice(place, place + 1, bytes([self.source.at(place, 1)[0] | flags]))
        width, height, alpha = self._canvas()
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        payload = bytes([flags | (ALPHA_FLAG if alpha else 0), 0, 0, 0]) + size
        return Splice(12, 12, _riff_chunk(b"VP8X", payload))

    def _canvas(self) -> tuple[int, int, bool]:
        """Width, height, and whether there is transparency, of a simple WebP."""
        chunk = self.chunks[0]
        if chunk.name == b"VP8 " and chunk.size >= 10:
            width, height = struct.unpack("<HH", self.source.at(chunk.payload + 6, 4))
            return width & 0x3FFF, height & 0x3FFF, False
        if chunk.name == b"VP8L" and chunk.size >= 5:
            (bits,) = struct.unpack("<I", self.source.at(chunk.payload + 1, 4))
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
        raise DataError("is a WebP without a picture that could be measured; export it again.")


def _riff_chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)
