"""Tags in the first directory of a TIFF file or an EXIF block, changed without moving any other byte.

What does not fit into its place is appended at the end, so that MakerNotes and other offsets stay right.
"""

import struct
from typing import NamedTuple

from captioning.errors import DataError
from captioning.inference.metadata.splices import Source, Splice

SUBFILE_TYPE, IMAGE_DESCRIPTION, XMP, IPTC, PHOTOSHOP, DNG_VERSION = 254, 270, 700, 33723, 34377, 50706
BYTE, ASCII, LONG = 1, 2, 4
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
EMPTY = b"MM\0*\0\0\0\x08" + bytes(6)  # an EXIF block without a tag
MAX_ENTRIES = 4096
MAX_VALUE = 16 << 20
LAST_OFFSET = 2**32 - 1

Change = tuple[int, bytes] | None  # type and value of a tag; None removes it


class Entry(NamedTuple):
    """One tag: its type, its number of values, its 4 bytes of value or offset, and the place of the entry itself."""

    tag: int
    kind: int
    number: int
    value: bytes
    place: int

    @property
    def length(self) -> int:
        """Bytes of all its values."""
        return SIZES.get(self.kind, 1) * self.number


class Directory:
    """The first directory."""

    def __init__(self, source: Source) -> None:
        self.source = source
        head = source.at(0, 8)
        self.order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4], "")
        if not self.order:
            raise DataError("has a TIFF header of an unknown kind; repair or remove it.")
        (self.place,) = struct.unpack(self.order + "I", head[4:])
        (count,) = struct.unpack(self.order + "H", source.at(self.place, 2))
        if count > MAX_ENTRIES:
            raise DataError(f"has {count:,} tags in a directory, of which {MAX_ENTRIES:,} at most were expected.")
        raw = source.at(self.place + 2, 12 * count + 4)
        self.end, self.next = self.place + len(raw) + 2, raw[-4:]
        self.entries = [
            self._entry(raw[start : start + 12], self.place + 2 + start) for start in range(0, 12 * count, 12)
        ]

    def _entry(self, raw: bytes, place: int) -> Entry:
        tag, kind, number, value = struct.unpack(self.order + "HHI4s", raw)
        return Entry(tag, kind, number, value, place)

    def find(self, tag: int) -> Entry | None:
        """The first entry of a tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)

    def offset(self, entry: Entry) -> int:
        """Where the values of an entry are."""
        return entry.place + 8 if entry.length <= 4 else struct.unpack(self.order + "I", entry.value)[0]

    def value(self, tag: int) -> bytes | None:
        """The bytes of a tag's values; None where it is absent."""
        entry = self.find(tag)
        if not entry:
            return None
        if entry.length > MAX_VALUE:
            raise DataError(f"has a tag of {entry.length:,} bytes, of which {MAX_VALUE:,} at most were expected.")
        return self.source.at(self.offset(entry), entry.length)

    def splices(self, changes: dict[int, Change]) -> list[Splice]:
        """What sets or removes tags. Entries are changed in place, unless one is added or removed."""
        known = {entry.tag: entry for entry in reversed(self.entries)}
        splices: list[Splice] = []
        end = bytearray(self.source.size % 2)  # appended bytes begin at an even offset
        packed: dict[int, bytes | None] = {}
        for tag, change in changes.items():
            if change:
                packed[tag] = self._place(tag, *change, known.get(tag), splices, end)
            elif tag in known:
                packed[tag] = None
        if all(tag in known and entry for tag, entry in packed.items()):
            splices += [Splice(known[tag].place, known[tag].place + 12, entry or b"") for tag, entry in packed.items()]
        else:
            splices += self._moved(packed, end)
        if end and len(end) > self.source.size % 2:
            splices.append(Splice(self.source.size, self.source.size, bytes(end)))
        return splices

    def _place(
        self, tag: int, kind: int, data: bytes, old: Entry | None, splices: list[Splice], end: bytearray
    ) -> bytes:
        """The 12 bytes of the entry; its value goes to the old place if it fits, otherwise to the end."""
        number = len(data) // SIZES[kind]
        if len(data) <= 4:
            return struct.pack(self.order + "HHI4s", tag, kind, number, data.ljust(4, b"\0"))
        if old and old.length > 4 and len(data) <= old.length and self._is_apart(old):
            place = self.offset(old)
            splices.append(Splice(place, place + old.length, data.ljust(old.length, b"\0")))
        else:
            place = self._append(data, end)
        return struct.pack(self.order + "HHII", tag, kind, number, place)

    def _is_apart(self, entry: Entry) -> bool:
        start = self.offset(entry)
        end = start + entry.length
        others = [(self.offset(one), one.length) for one in self.entries if one.length > 4 and one is not entry]
        is_shared = any(start < place + length and place < end for place, length in others)
        return start >= 8 and end <= self.source.size and (end <= self.place or start >= self.end) and not is_shared

    def _append(self, data: bytes, end: bytearray) -> int:
        place = self.source.size + len(end)
        end += data + bytes(len(data) % 2)
        if self.source.size + len(end) > LAST_OFFSET:
            raise DataError("is as large as a TIFF can be; use --sidecar --format xmp.")
        return place

    def _moved(self, packed: dict[int, bytes | None], end: bytearray) -> list[Splice]:
        """A new directory at the end, to which the header points."""
        kept = [struct.pack(self.order + "HHI4s", *entry[:4]) for entry in self.entries if entry.tag not in packed]
        entries = sorted([*kept, *filter(None, packed.values())], key=self._tag)
        place = self._append(struct.pack(self.order + "H", len(entries)) + b"".join(entries) + self.next, end)
        return [Splice(4, 8, struct.pack(self.order + "I", place))]

    def _tag(self, entry: bytes) -> int:
        return int(struct.unpack(self.order + "H", entry[:2])[0])


def text_of(value: bytes | None) -> str:
    """The text of an ASCII tag: UTF-8 as the Metadata Working Group asks for, otherwise Latin-1."""
    raw = (value or b"").split(b"\0")[0].strip()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def as_ascii(text: str) -> tuple[int, bytes]:
    """The type and value of a text tag."""
    return ASCII, text.encode() + b"\0"
