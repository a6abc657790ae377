"""Files of every picture format built to cost time or memory: one kind of block over and over, at each place."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator

from PIL import Image

from tests.data.test_images import ANIMATION, chunk, encoded, photo

SIZE = 10_000_000  # bytes of a file
LARGE = 7_000  # pixels to a side, just within what is read
Files = Iterator[tuple[str, bytes, Callable[[], bytes], bytes]]  # name, what comes first, the block, what comes last


def overlapping_exif(entries: int) -> bytes:
    """EXIF whose entries all have the same long value."""
    lines = b"".join(struct.pack("<HHII", 0x100 + n, 1, 12 * entries, 8) for n in range(entries))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", entries) + lines + bytes(4)


def flat(kind: str, side: int, mode: str = "RGB", **options: object) -> bytes:
    return encoded(Image.new(mode, (side, side), 1 if mode in ("L", "P", "1") else "red"), kind, **options).getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpegs(rng: random.Random, large: int) -> Files:
    plain = encoded(photo(), "JPEG").getvalue()
    tables = plain[plain.index(b"\xff\xdb") : plain.index(b"\xff\xc0")]
    blocks = {
        "empty APP": lambda: segment(rng.randrange(0xE0, 0xF0), b""),
        "full APP": lambda: segment(rng.randrange(0xE0, 0xF0), bytes(65_000)),
        "empty comment": lambda: segment(0xFE, b""),
        "comment": lambda: segment(0xFE, bytes(rng.randrange(300))),
        "padding": lambda: b"\xff" * rng.randrange(1, 100_000),
        "zeros": lambda: bytes(rng.randrange(1, 100_000)),
        "tables": lambda: tables,
        "empty table": lambda: segment(rng.choice((0xC4, 0xDB)), b""),
        "restart interval": lambda: segment(0xDD, struct.pack(">H", rng.randrange(9))),
        "EXIF": lambda: segment(0xE1, overlapping_exif(rng.choice((1, 5_000)))),
        "JFIF": lambda: segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        "Photoshop": lambda: segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 1000),
        "several pictures": lambda: segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + bytes(100)),
        "profile": lambda: segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)),
        "frame header": lambda: plain[plain.index(b"\xff\xc0") :][:19],
        "lone marker": lambda: b"\xff" + bytes((rng.randrange(0xD0, 0xD8),)),
    }
    for name, block in blocks.items():
        yield name, plain[:2], block, plain[2:]
        yield f"{name} in the scan", plain[:-40], block, plain[-40:]
    for side in (64, large // 3, large * 7 // 10, large):
        waves = flat("JPEG", side, progressive=True, subsampling=0)
        last = waves[waves.rindex(b"\xff\xda") : -2]
        for name in ("padding", "empty comment", "tables"):
            yield f"{name} between scans of {side}", waves[: -2 - len(last)], blocks[name], last + waves[-2:]
        yield f"scans of {side}", waves[:-2], lambda last=last: last, waves[-2:]
        yield f"empty scans of {side}", waves[:-2], lambda last=last: last[:10], waves[-2:]
        yield f"pixels of {side}", waves, lambda: b"", b""
        yield f"pictures one after the other of {side}", b"", lambda waves=waves: waves, b""


def pngs(rng: random.Random, large: int) -> Files:
    plain = encoded(photo(), "PNG").getvalue()
    start, wide = 33, flat("PNG", large)
    bomb = zlib.compress(bytes(10**7), 9)
    blocks = {
        "empty chunk": lambda: chunk(rng.choice((b"prVt", b"IDAT", b"tEXt", b"eXIf", b"tRNS", b"PLTE")), b""),
        "empty IDAT": lambda: chunk(b"IDAT", b""),
        "text": lambda: chunk(b"tEXt", b"a\0" + bytes(rng.randrange(300))),
        "packed text": lambda: chunk(b"zTXt", b"a\0\0" + bomb),
        "international text": lambda: chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(rng.randrange(99_999))),
        "profile": lambda: chunk(b"iCCP", b"a\0\0" + bomb),
        "EXIF": lambda: chunk(b"eXIf", overlapping_exif(rng.choice((1, 5_000, 60_000)))[6:]),
        "palette": lambda: chunk(b"PLTE", bytes(768)),
        "animation": lambda: ANIMATION,
        "frames": lambda: ANIMATION[20:] + chunk(b"fdAT", bytes(4) + plain[41:-16]),
        "header": lambda: plain[8:33],
        "zeros": lambda: bytes(rng.randrange(1, 100_000)),
    }
    for name, block in blocks.items():
        yield name, plain[:start], block, plain[start:]
        yield f"{name} at the end", plain[:-12], block, plain[-12:]
        yield f"{name} in a large one", wide[:start], block, wide[start:]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", large, large, 8, 6, 0, 0, 1))
    yield "empty parts", plain[:8] + header, lambda: chunk(b"IDAT", b"\x78\x01" + b"\0\0\0\xff\xff" * 10_000), b""
    for depth, colours in ((8, 6), (16, 6), (16, 0), (1, 0)):
        for interlaced in (0, 1):
            head = chunk(b"IHDR", struct.pack(">IIBBBBB", large, large, depth, colours, 0, 0, interlaced))
            bits = depth * (4 if colours == 6 else 1)
            body = zlib.compress(bytes(large * (large * bits // 8 + 3) + 99_999), 1)
            yield f"pixels of {depth} bits, {interlaced}", plain[:8] + head + chunk(b"IDAT", body), lambda: b"", b""


def gifs(rng: random.Random, large: int) -> Files:
    plain = encoded(photo().convert("P"), "GIF").getvalue()
    start = plain.index(b",", 13 + 3 * 2 ** ((plain[10] & 7) + 1))
    blocks = {
        "short comment": lambda: b"!\xfe\x01a\0",
        "long comment": lambda: b"!\xfe" + b"\xff" + bytes(255) + b"\0",
        "comment of many parts": lambda: b"!\xfe" + b"\x01a" * rng.randrange(1, 100_000) + b"\0",
        "empty extension": lambda: bytes((0x21, rng.randrange(256), 0)),
        "application": lambda: b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0",
        "transparency": lambda: b"!\xf9\x04\x01\0\0\x03\0",
        "text": lambda: b"!\x01\x0c" + bytes(12) + b"\x01a" * 100 + b"\0",
        "zeros": lambda: bytes(rng.randrange(1, 100_000)),
        "junk": lambda: bytes((rng.randrange(128, 256),)) * 1000,
    }
    for name, block in blocks.items():
        yield name, plain[:start], block, plain[start:]
        yield f"{name} at the end", plain[:-1], block, plain[-1:]
    frame = plain[start:-1]
    yield "frames", plain[:start], lambda: frame, b";"
    for side in (64, large):
        whole = flat("GIF", side, "P")
        start = whole.index(b",", 13)
        yield f"parts of one byte of {side}", whole[: start + 11], lambda: b"\x01\x00" * 1000, b"\0;"
        yield f"clear codes of {side}", whole[: start + 11], lambda: b"\xff" + b"\x00\x01" * 127 + b"\0", b"\0;"
        yield f"pixels of {side}", whole, lambda: b"", b""


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def webps(rng: random.Random, large: int) -> Files:
    def canvas(flags: int, side: int) -> bytes:
        return riff(b"VP8X", bytes((flags, 0, 0, 0)) + struct.pack("<I", side - 1)[:3] * 2)

    for side in (64, large * 4 // 7, large):
        still = flat("WEBP", side, lossless=rng.random() < 0.5)[12:]
        place = struct.pack("<I", side - 1)[:3] * 2
        frame = riff(b"ANMF", bytes(6) + place + bytes((100, 0, 0, 0)) + still)
        blocks = {
            "unknown": lambda: riff(bytes(rng.choices(range(65, 91), k=4)), bytes(rng.choice((0, 1, 300)))),
            "EXIF": lambda: riff(b"EXIF", overlapping_exif(rng.choice((1, 5_000, 60_000)))),
            "XMP": lambda: riff(b"XMP ", bytes(rng.randrange(1000))),
            "profile": lambda: riff(b"ICCP", b""),
            "transparency": lambda: riff(b"ALPH", b"\0"),
            "zeros": lambda: bytes(rng.randrange(1, 100_000)),
            "canvas": lambda side=side: canvas(0x3E, side),
            "picture": lambda still=still: still,
            "frame": lambda frame=frame: frame,
        }
        for name, block in blocks.items():
            yield f"{name} before {side}", b"RIFF" + canvas(0x2C, side), block, still
            yield f"{name} after {side}", b"RIFF" + canvas(0x2C, side) + still, block, b""
            animated = canvas(0x02, side) + riff(b"ANIM", bytes(6))
            yield f"{name} in an animation of {side}", b"RIFF" + animated + frame, block, b""


def bmps(rng: random.Random, large: int) -> Files:
    def head(kind: int, bits: int, side: int) -> bytes:
        size = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, kind, 0, 0, 0, 256, 0)
        return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + size + bytes(1024)

    for side in (64, large // 5, large):
        for bits, kind in ((8, 1), (4, 2)):
            for name, block in {
                "runs": lambda: bytes((rng.randrange(256), 7)) * 100,
                "runs of none": lambda: b"\x01\x07" * 1000,
                "ends of lines": lambda: b"\x01\x07\0\0" * 1000,
                "jumps": lambda: b"\0\x02\0\x01" * 1000,
                "literals": lambda: b"\0\x04abcd",
            }.items():
                yield f"{name} of {side}, {bits} bits", head(kind, bits, side), block, b""
        for bits in (1, 8, 24, 32):
            yield f"pixels of {side}, {bits} bits", head(0, bits, side), lambda: bytes(99_999), b""


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", len(body) + 8) + kind + body


def avifs(rng: random.Random, large: int) -> Files:
    for side in (64, large * 3 // 7, large):
        plain = flat("AVIF", side, speed=10)
        start = int.from_bytes(plain[:4], "big")
        end = start + int.from_bytes(plain[start : start + 4], "big")
        ftyp, meta, data = plain[:start], plain[start + 8 : end], plain[end:]
        inside = {
            "items": lambda: box(b"infe", b"\2\0\0\0", rng.randbytes(2), b"\0\0av01\0"),
            "places": lambda: box(b"iloc", b"\0\0\0\0\x44\0\0\x01", bytes(14)),
            "properties": lambda: box(b"ipco", box(b"ispe", bytes(12)) * 100),
            "nesting": lambda: box(b"meta", bytes(4), box(b"meta", bytes(4), box(b"iprp", box(b"ipco")))),
        }
        outside = {
            "empty boxes": lambda: box(b"free"),
            "unknown boxes": lambda: box(bytes(rng.choices(range(97, 123), k=4)), bytes(rng.randrange(99))),
            "films": lambda: box(b"moov", box(b"trak", box(b"mdia", box(b"minf")))),
            "zeros": lambda: bytes(rng.randrange(1, 99_999)),
            "data": lambda: box(b"mdat", bytes(rng.randrange(99_999))),
            "descriptions": lambda meta=meta: box(b"meta", meta),
            "EXIF": lambda: box(b"Exif", overlapping_exif(60_000)),
        }
        for name, block in inside.items():
            for count in (5, 2_000, 10_000):
                yield f"{count} {name} of {side}", ftyp + box(b"meta", meta, block() * count), lambda: b"", data
        for name, block in outside.items():
            yield f"{name} of {side}", ftyp, block, plain[start:]
            yield f"{name} after {side}", plain, block, b""


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    """The head of a TIFF; each entry is a tag, a type, a number of values, and the value or its place."""
    lines = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + lines + bytes(4)


def tiffs(rng: random.Random, large: int) -> Files:
    def head(side: int, *more: tuple[int, int, int, int], compression: int = 1, bits: int = 8) -> bytes:
        size = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1)]
        return tiff(*size, *more)

    zeros = zlib.compress(bytes(large * large), 9)
    for side in (64, large * 3 // 7, large):
        for count in (100, 19_000, 2_000_000):
            strips = [(273, 4, count, 300), (279, 4, count, 300)]
            yield f"{count} strips of {side}", head(side, *strips, (278, 4, 1, side - 1)), lambda: bytes(1000), b""
            yield f"{count} rows of {side}", head(side, *strips, (278, 4, 1, 1)), lambda: bytes(1000), b""
            tiles = [(324, 4, count, 300), (325, 4, count, 300), (322, 4, 1, 16), (323, 4, 1, 16)]
            yield f"{count} tiles of {side}", head(side, *tiles), lambda: b"\x08\0\0\0" * 250, b""
        for compression in (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000):
            whole = [(273, 4, 1, 300), (279, 4, 1, len(zeros)), (278, 4, 1, side)]
            first = head(side, *whole, compression=compression)
            yield f"zeros in {compression} of {side}", first, lambda: bytes(1000), b""
            yield f"bombs in {compression} of {side}", first.ljust(300, b"\0"), lambda: zeros, b""
            tile = [(324, 4, 1, 300), (325, 4, 1, len(zeros)), (322, 4, 1, 1 << 15), (323, 4, 1, 1 << 15)]
            first = head(side, *tile, compression=compression)
            yield f"large tiles in {compression} of {side}", first.ljust(300, b"\0"), lambda: zeros, b""
        for mode, bits in (("1", 1), ("L", 8), ("RGB", 8), ("CMYK", 8), ("F", 32), ("I", 32)):
            packed = rng.choice(("tiff_lzw", "tiff_deflate", "packbits")) if bits < 32 else "tiff_deflate"
            plain = flat("TIFF", side, mode, compression=packed)
            yield f"pixels of {side}, {mode}, {packed}", plain, lambda: b"", b""
            yield f"{mode} before {side}", plain, lambda: bytes(1000), b""
    long = [(tag, 1, 5_000_000, 8) for tag in range(60_000)]
    yield "long values", tiff(*long), lambda: bytes(1000), b""
    yield "long values of pixels", head(64, (320, 3, 2_000_000, 8), (347, 7, 5_000_000, 8)), lambda: bytes(1000), b""
    nested = [(330, 4, 1, 8), (34665, 4, 1, 8), (34853, 4, 1, 8), (273, 4, 1, 300)]
    yield "nesting", head(64, *nested), lambda: tiff(*nested)[8:], b""


FORMATS = {"JPEG": jpegs, "PNG": pngs, "GIF": gifs, "WEBP": webps, "BMP": bmps, "TIFF": tiffs, "AVIF": avifs}


def hostile_files(seed: int, size: int = SIZE, large: int = LARGE) -> Iterator[tuple[str, bytes]]:
    """Yields a file of each kind, of at most `size` bytes and mostly as many, with a name that says what is in it."""
    rng = random.Random(seed)
    for kind, make in FORMATS.items():
        for name, first, block, last in make(rng, large):
            data = _filled(rng, first, block, last, size)
            if len(data) <= size:
                yield f"{kind}: {name}", data


def _filled(rng: random.Random, first: bytes, block: Callable[[], bytes], last: bytes, size: int) -> bytes:
    """The block over and over between first and last, in a few forms."""
    some = b"".join(block() for _ in range(rng.randrange(1, 20)))
    times = (size - 8 - len(first) - len(last)) // len(some) if some else 0
    whole = first + some * max(0, times) + last
    return whole[:4] + struct.pack("<I", len(whole) - 8) + b"WEBP" + whole[4:] if whole[:4] == b"RIFF" else whole
