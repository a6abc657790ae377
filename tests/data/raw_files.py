"""Raw files of cameras, made after what is public about their formats; the preview is a picture of ours."""

import io
import struct

from PIL import Image

SMALL, LARGE = (1200, 800), (2400, 1600)


def jpeg(size: tuple[int, int], colour: str = "green", **options: object) -> bytes:
    """A picture whose left half has a colour of its own."""
    picture = Image.new("RGB", size, "white")
    picture.paste(colour, (0, 0, size[0] // 2, size[1]))
    target = io.BytesIO()
    picture.save(target, "JPEG", **options)
    return target.getvalue()


def directory(tags: list[tuple[int, int, int, int]], order: str = "<", following: int = 0) -> bytes:
    """A directory of tags: number, type, count, value or place."""
    packed = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + (struct.pack(order + "HH", value, 0) if kind == 3 and count == 1 else struct.pack(order + "I", value))
        for tag, kind, count, value in sorted(tags)
    )
    return struct.pack(order + "H", len(tags)) + packed + struct.pack(order + "I", following)


def _laid_out(head: bytes, blocks: list[bytes], start: int) -> bytes:
    return head.ljust(start, b"\0") + b"".join(blocks)


def nef(orientation: int = 1) -> bytes:
    """A thumbnail first, then a directory within with a large JPEG and another with sensor data."""
    preview, place = jpeg(LARGE), 1000
    first = directory(
        [
            (254, 4, 1, 1),
            (256, 4, 1, 160),
            (257, 4, 1, 120),
            (259, 3, 1, 1),
            (271, 2, 4, 7039310),
            (274, 3, 1, orientation),
            (330, 4, 2, 300),
        ],
    )
    inner = [directory([(254, 4, 1, 1), (259, 3, 1, 6), (513, 4, 1, place), (514, 4, 1, len(preview))])]
    inner += [directory([(254, 4, 1, 0), (259, 3, 1, 34713), (262, 3, 1, 32803), (273, 4, 1, 900), (279, 4, 1, 50)])]
    head = _laid_out(b"II*\0" + struct.pack("<I", 8) + first, [struct.pack("<II", 400, 500)], 300)
    head = head.ljust(400, b"\0") + inner[0]
    head = head.ljust(500, b"\0") + inner[1]
    return head.ljust(place, b"\0") + preview


def cr2(orientation: int = 1) -> bytes:
    """The JPEG is the strip of the first directory."""
    preview, place = jpeg(SMALL), 500
    tags = [(256, 3, 1, SMALL[0]), (257, 3, 1, SMALL[1]), (259, 3, 1, 6), (274, 3, 1, orientation)]
    tags += [(273, 4, 1, place), (279, 4, 1, len(preview))]
    return (b"II*\0" + struct.pack("<I", 16) + b"CR\2\0" + bytes(4) + directory(tags)).ljust(place, b"\0") + preview


def arw() -> bytes:
    """The JPEG's place is in the first directory, a thumbnail's in the next."""
    preview, thumbnail = jpeg(SMALL), jpeg((160, 120), "red")
    first = directory(
        [
            (254, 4, 1, 1),
            (259, 3, 1, 6),
            (271, 2, 4, 0x796E6F53 & 0xFFFFFF),
            (513, 4, 1, 600),
            (514, 4, 1, len(preview)),
        ],
        following=300,
    )
    second = directory([(259, 3, 1, 6), (513, 4, 1, 600 + len(preview)), (514, 4, 1, len(thumbnail))])
    head = (b"II*\0" + struct.pack("<I", 8) + first).ljust(300, b"\0") + second
    return head.ljust(600, b"\0") + preview + thumbnail


def dng(order: str = ">") -> bytes:
    """The JPEG is the strip of a directory within; the sensor's own is a lossless JPEG."""
    preview, place = jpeg(SMALL), 600
    first = directory([(254, 4, 1, 1), (259, 3, 1, 1), (330, 4, 2, 300), (50706, 1, 4, 0x01040000)], order)
    inner = directory(
        [
            (254, 4, 1, 1),
            (256, 4, 1, SMALL[0]),
            (257, 4, 1, SMALL[1]),
            (259, 3, 1, 7),
            (262, 3, 1, 6),
            (273, 4, 1, place),
            (279, 4, 1, len(preview)),
        ],
        order,
    )
    lossless = jpeg(LARGE).replace(b"\xff\xc0", b"\xff\xc3", 1)
    sensor = directory(
        [
            (254, 4, 1, 0),
            (259, 3, 1, 7),
            (262, 3, 1, 32803),
            (273, 4, 1, place + len(preview)),
            (279, 4, 1, len(lossless)),
        ],
        order,
    )
    head = ({"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8) + first).ljust(300, b"\0")
    head = (head + struct.pack(order + "II", 320, 460)).ljust(320, b"\0") + inner
    return (head.ljust(460, b"\0") + sensor).ljust(place, b"\0") + preview + lossless


def rw2() -> bytes:
    """The JPEG is the value of a tag."""
    preview = jpeg(SMALL)
    return (b"IIU\0" + struct.pack("<I", 8) + directory([(0x2E, 7, len(preview), 300)])).ljust(300, b"\0") + preview


def orf() -> bytes:
    """The JPEG's place is in the maker's notes, and counts from their beginning."""
    preview, note, settings = jpeg(SMALL), 200, 100
    head = b"IIRO" + struct.pack("<I", 8) + directory([(271, 2, 8, 180), (0x8769, 4, 1, 120)])
    head = head.ljust(120, b"\0") + directory([(0x927C, 7, 300 + len(preview), note)])
    head = head.ljust(180, b"\0") + b"OLYMPUS\0"
    inner = b"OLYMPUS\0II\3\0" + directory([(0x2020, 13, 1, settings)])
    inner = inner.ljust(settings, b"\0") + directory(
        [(0x100, 4, 1, 1), (0x101, 4, 1, 300), (0x102, 4, 1, len(preview))]
    )
    return head.ljust(note, b"\0") + inner.ljust(300, b"\0") + preview


def raf(orientation: int = 1) -> bytes:
    """The JPEG's place is in the header, the orientation in the JPEG."""
    exif = Image.Exif()
    exif[274] = orientation
    preview = jpeg(SMALL, exif=exif)
    head = b"FUJIFILMCCD-RAW 0201FF383501X-T1".ljust(84, b"\0") + struct.pack(">II", 200, len(preview))
    return head.ljust(200, b"\0") + preview


def box(name: bytes, *content: bytes) -> bytes:
    """A box of a CR3."""
    data = b"".join(content)
    return struct.pack(">I", 8 + len(data)) + name + data


def cr3(orientation: int = 1) -> bytes:
    """The JPEG is in a box of its own, the orientation in another."""
    preview = jpeg(SMALL)
    facts = b"II*\0" + struct.pack("<I", 8) + directory([(274, 3, 1, orientation)])
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    moov = box(b"moov", box(b"uuid", canon, box(b"CNCV", b"CanonCR3_001"), box(b"CMT1", facts)))
    inner = struct.pack(">IHHHHI", 0, 1, *SMALL, 1, len(preview)) + preview
    shown = box(
        b"uuid", bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16"), struct.pack(">II", 0, 1), box(b"PRVW", inner)
    )
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + moov + shown + box(b"mdat", bytes(500))


RAW = {f"a.{make.__name__}": make for make in (nef, cr2, arw, dng, rw2, orf, raf, cr3)}
