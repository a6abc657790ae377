"""The metadata segments of a JPEG: EXIF and XMP in APP1, IPTC in Photoshop's APP13, pictures' places in APP2 (MPF)."""

import struct
from typing import NamedTuple

from captioning.errors import DataError
from captioning.inference.metadata import iptc as iptc_block
from captioning.inference.metadata import xmp as xmp_packet
from captioning.inference.metadata.splices import Source, Splice
from captioning.inference.metadata.tiff import Directory

EXIF, XMP, PHOTOSHOP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
EXTENDED_XMP, PICTURES = b"http://ns.adobe.com/xmp/extension/\0", b"MPF\0"
APP0, APP1, APP2, APP13 = 0xE0, 0xE1, 0xE2, 0xED
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
LARGEST = 65533  # bytes of a segment after its length
LARGEST_XMP = 65502  # bytes of a packet, by Adobe's specification
MAX_SEGMENTS = 10_000
MAX_FILL = 1000
MP_ENTRY = 0xB002
MAX_PICTURES = 100
ADVICE = "use --sidecar --format xmp"


class Segment(NamedTuple):
    """A segment from its marker to its end; `name` is how its payload begins."""

    marker: int
    start: int
    end: int
    name: bytes


def segments_of(source: Source) -> list[Segment]:
    """The segments before the pixels."""
    found: list[Segment] = []
    place = 2
    while len(found) < MAX_SEGMENTS:
        start = place
        head = source.at(place, 2)
        while head == b"\xff\xff" and place - start < MAX_FILL:  # bytes before a marker
            place += 1
            head = source.at(place, 2)
        if head[0] != 0xFF or head[1] in (0, 0xFF):
            raise DataError("is a JPEG whose segments are broken; export it again.")
        if head[1] in (START_OF_SCAN, END_OF_IMAGE):
            return found
        place += 2
        if head[1] not in ALONE:
            (length,) = struct.unpack(">H", source.at(place, 2))
            if length < 2:
                raise DataError("is a JPEG whose segments are broken; export it again.")
            source.at(place + length - 1, 1)
            found.append(Segment(head[1], start, place + length, source.up_to(place + 2, min(length - 2, 40))))
            place += length
    raise DataError(f"is a JPEG of more than {MAX_SEGMENTS:,} segments; export it again.")


class Jpeg:
    """Reads the metadata blocks of a JPEG, and says how to change them."""

    def __init__(self, source: Source) -> None:
        self.source, self.segments = source, segments_of(source)
        self._exif, self._xmp = self._first(APP1, EXIF), self._first(APP1, XMP)
        self._photoshop = [one for one in self.segments if one.marker == APP13 and one.name.startswith(PHOTOSHOP)]

    def _first(self, marker: int, name: bytes) -> Segment | None:
        return next((one for one in self.segments if one.marker == marker and one.name.startswith(name)), None)

    def _payload(self, segment: Segment | None, name: bytes) -> bytes:
        if not segment:
            return b""
        window = self._window(segment, name)
        return window.at(0, window.size)

    def _window(self, segment: Segment, name: bytes) -> Source:
        """What follows the name, up to the segment's end; fill bytes before the marker are not counted."""
        start = segment.start
        while self.source.at(start + 1, 1) == b"\xff":
            start += 1
        start += 4 + len(name)
        return self.source.window(start, segment.end - start)

    @property
    def exif(self) -> bytes:
        """The EXIF block; empty where there is none."""
        return self._payload(self._exif, EXIF)

    @property
    def xmp(self) -> bytes:
        """The XMP packet."""
        return self._payload(self._xmp, XMP)

    @property
    def iptc(self) -> bytes:
        """The IPTC block."""
        return iptc_block.iptc_in(self._resources())

    def _resources(self) -> bytes:
        return b"".join(self._payload(one, PHOTOSHOP) for one in self._photoshop)

    def splices(self, *, exif: bytes, xmp: bytes, iptc: bytes) -> list[Splice]:
        """What replaces the blocks that differ."""
        place = self._after_jfif()
        splices: list[Splice] = []
        if exif != self.exif:
            splices.append(self._replaced(self._exif, place, _segment(APP1, EXIF, exif, "EXIF")))
        if xmp != self.xmp:
            after = self._exif.end if self._exif else place
            splices.append(self._replaced(self._xmp, after, self._xmp_segment(xmp)))
        if iptc != self.iptc:
            splices += self._photoshop_splices(iptc, max([place, *(one.end for one in (self._exif, self._xmp) if one)]))
        return splices + self._pictures(splices)

    def _after_jfif(self) -> int:
        place = 2
        for segment in self.segments:
            if segment.marker != APP0:
                break
            place = segment.end
        return place

    def _replaced(self, old: Segment | None, place: int, data: bytes) -> Splice:
        return Splice(old.start, old.end, data) if old else Splice(place, place, data)

    def _xmp_segment(self, packet: bytes) -> bytes:
        if len(packet) > LARGEST_XMP:
            packet = xmp_packet.without_padding(packet)
        if len(packet) > LARGEST_XMP:
            size = f"{len(packet):,} bytes of XMP, where a JPEG holds {LARGEST_XMP:,}"
            raise DataError(f"has no room for this text, which would make {size}; {ADVICE}.")
        for name in (b"description", b"AltTextAccessibility"):
            if any(name in part for part in self._extended()):
                raise DataError(f"has its description in extended XMP, which is left as it is; {ADVICE}.")
        return _segment(APP1, XMP, packet, "XMP")

    def _extended(self) -> list[bytes]:
        found = [one for one in self.segments if one.marker == APP1 and one.name.startswith(EXTENDED_XMP)]
        return [self._payload(one, EXTENDED_XMP) for one in found]

    def _photoshop_splices(self, iptc: bytes, place: int) -> list[Splice]:
        """The Photoshop block in as many segments as it takes, where the first one was."""
        block = iptc_block.with_iptc(self._resources(), iptc)
        size = LARGEST - len(PHOTOSHOP)
        parts = [block[start : start + size] for start in range(0, len(block), size)]
        data = b"".join(_segment(APP13, PHOTOSHOP, part, "IPTC") for part in parts)
        if not self._photoshop:
            return [Splice(place, place, data)]
        first, *others = self._photoshop
        return [Splice(first.start, first.end, data), *(Splice(one.start, one.end, b"") for one in others)]

    def _pictures(self, splices: list[Splice]) -> list[Splice]:
        """Corrects the size of the first picture and the places of the others, which count from this segment on."""
        segment = self._first(APP2, PICTURES)
        if not segment or not splices:
            return []
        window = self._window(segment, PICTURES)
        try:
            directory = Directory(window)
            entry = directory.find(MP_ENTRY)
            data = directory.value(MP_ENTRY) or b""
        except DataError:
            return []  # broken before, and left so
        after = sum(splice.growth for splice in splices if splice.start >= segment.end)
        found, base = [], segment.end - window.size
        for start in range(0, min(len(data), 16 * MAX_PICTURES) - 15, 16):
            size, offset = struct.unpack(directory.order + "II", data[start + 4 : start + 12])
            if offset:
                offset += after
            elif size:
                size += sum(splice.growth for splice in splices)
            place = base + directory.offset(entry) + start + 4 if entry else 0
            found.append(Splice(place, place + 8, struct.pack(directory.order + "II", size, offset)))
        return found


def _segment(marker: int, name: bytes, payload: bytes, kind: str) -> bytes:
    if len(name) + len(payload) > LARGEST:
        raise DataError(f"has no room for this text in its {kind}, which takes 64 kB at most in a JPEG; {ADVICE}.")
    return b"\xff" + struct.pack(">BH", marker, 2 + len(name) + len(payload)) + name + payload
