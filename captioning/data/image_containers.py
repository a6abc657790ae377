"""What the pixels need of a JPEG, PNG, GIF, WebP, BMP, AVIF or HEIC file; TIFF has a module of its own."""

import importlib.util
import struct
from collections.abc import Callable
from typing import BinaryIO

from captioning.data.image_blocks import MAX_FILE, NOTE, Blocks, damaged, too_many_bytes, unsupported
from captioning.data.image_raw import is_raw, preview_of
from captioning.data.image_tiff import keep_tiff
from captioning.errors import ImageError

MAX_WEBP = 18_000_000  # pixels; its decoder takes 15 bytes for each, other decoders 4
MAX_AVIF = 30_000_000  # pixels, of HEIC too; 9 bytes for each
LIMITS = {"WEBP": (MAX_WEBP, "WebP"), "AVIF": (MAX_AVIF, "AVIF"), "HEIF": (MAX_AVIF, "HEIC")}
MAX_SEVERAL_SCANS = 25_000_000  # pixels of a JPEG in several scans, which takes up to 12 bytes for each
MAX_SCANS, MAX_SCANNED = 1_000, 10**9  # usual are 10; and pixels times scans, a second's work
MAX_RUN_LENGTH = 2_000_000  # pixels, and bytes, of a run-length BMP, which Pillow decodes in Python
MAX_META = 250_000  # bytes that describe an AVIF or HEIC; those of a photograph are some 5,000

SCAN, JFIF, EXIF, ADOBE = 0xDA, 0xE0, 0xE1, 0xEE  # of the markers of a JPEG
TABLES = {0xC4, 0xCC, 0xDB, 0xDD}  # Huffman, arithmetic coding, quantisation, restarts
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
LONE_MARKERS = {0x00, 0x01, *range(0xD0, 0xDA), 0xFF}  # without a body, and what fills space
TRANSPARENCY = 0xF9  # of the extensions of a GIF
RUN_LENGTH = (1, 2)  # of the compressions of a BMP

MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"RIFF": "WEBP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}

HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
FOREIGN_MAGIC = {
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"<svg": "SVG",
    b"<?xml": "SVG or XML",
    b"8BPS": "Photoshop",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\0\0\0\x0cJXL": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
}


def open_blocks(file: BinaryIO, name: str) -> tuple[str, Blocks]:
    """Return the format, as Pillow calls it, of a file that can seek, and its blocks: those for Pillow are in `kept`.

    Of a camera's raw file they are those of its JPEG preview. Raises ImageError for what is no picture, is damaged, or
    would take too much time or memory.
    """
    blocks = Blocks(file, name)
    head = file.read(64)
    file.seek(0)
    if blocks.size > MAX_FILE:
        raise too_many_bytes(name, blocks.size)
    if is_raw(blocks):
        kind, blocks = "JPEG", preview_of(blocks)
    else:
        kind = _kind(head, name)
    KEEPERS[kind](blocks)
    blocks.kept.seek(0)
    return kind, blocks


def _kind(head: bytes, name: str) -> str:
    if found := next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), ""):
        return found
    if not head:
        raise ImageError("empty", f"{name} is empty; copy or download it again.")
    if head[4:8] == b"ftyp":
        return _brand(head, name)
    if foreign := next((kind for magic, kind in FOREIGN_MAGIC.items() if head.lstrip().startswith(magic)), ""):
        raise unsupported(name, foreign)
    expected = "expected JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF or HEIC"
    raise ImageError("not_an_image", f"{name} is not a picture; {expected}.")


def _brand(head: bytes, name: str) -> str:
    """AVIF or HEIF; a neutral brand such as mif1 leaves it to those that the file is also compatible with."""
    brands = [head[place : place + 4] for place in (8, *range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))]
    if brands[0] in (b"avif", b"avis") or (brands[0] in (b"mif1", b"msf1") and b"avif" in brands):
        return "AVIF"
    if not set(brands) & {*HEIC_BRANDS, b"mif1", b"msf1"}:
        raise unsupported(name, "a video or an unknown camera format")
    if importlib.util.find_spec("pillow_heif") is None:
        way = "pip install '.[heic]', or export it as JPEG"
        raise ImageError("unsupported_format", f"{name} is HEIC, which is not read without pillow-heif: {way}.")
    return "HEIF"


def _keep_jpeg(blocks: Blocks) -> None:
    """The frame's header, the tables, and all from the first scan on; of the APP segments JFIF and Adobe."""
    blocks.keep(blocks.read(2))
    pixels, components, progressive, code, body = 0, 0, False, 0, b""
    while code != SCAN:
        code, body = _segment(blocks)
        if code in FRAMES and len(body) > 5:
            height, width = struct.unpack(">HH", body[1:5])
            blocks.check_pixels(width, height)
            if pixels:  # a second frame, which would resize what Pillow has allocated
                raise damaged(blocks.name)
            pixels, components, progressive = width * height, body[5], code in PROGRESSIVE
        elif code == EXIF:
            blocks.note(body)
        is_colour = (code == JFIF and body.startswith(b"JFIF")) or (code == ADOBE and body.startswith(b"Adobe"))
        if is_colour or code in TABLES or code in FRAMES or code == SCAN:
            blocks.keep(struct.pack(">BBH", 0xFF, code, len(body) + 2), body)
    is_in_one_scan = components and not progressive and body[:1] == bytes((components,))
    blocks.keep(blocks.rest() if is_in_one_scan else _scans(blocks, pixels))


def _segment(blocks: Blocks) -> tuple[int, bytes]:
    """The next marker that has a body, past whatever fills the space before it."""
    head = blocks.read(2)
    while head[0] != 0xFF or head[1] in LONE_MARKERS:
        head = head[1:] + blocks.read(1)
    return head[1], blocks.read(max(0, int.from_bytes(blocks.read(2), "big") - 2))


def _scans(blocks: Blocks, pixels: int) -> bytes:
    """The scans of one image. Each is a pass over all its pixels, though an empty one takes but ten bytes."""
    data = blocks.rest()
    end = data.find(b"\xff\xd9")
    data = data[: end + 2] if end >= 0 else data
    blocks.check_pixels(pixels, 1, MAX_SEVERAL_SCANS, "a progressive JPEG")
    scans = 1 + data.count(b"\xff\xda")
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
        raise damaged(blocks.name)
    return data


def _keep_png(blocks: Blocks) -> None:
    blocks.keep(blocks.read(8))
    kind = b""
    while kind != b"IEND" and blocks.place < blocks.size:
        head = blocks.read(8)
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            body = blocks.read(length + 4)
            blocks.keep(head, body)
            if kind == b"IHDR" and length >= 8:
                blocks.check_pixels(*struct.unpack(">II", body[:8]))
        elif kind in (b"eXIf", b"iTXt") and length <= NOTE:
            blocks.note(blocks.read(length + 4))
        else:
            blocks.skip(length + 4)


def _keep_gif(blocks: Blocks) -> None:
    """The palette, which colour is transparent, and all from the first frame on."""
    head = blocks.read(13)
    blocks.keep(head, blocks.read(_palette_size(head[10])))
    while (mark := blocks.read(1)) != b",":
        if mark == b";":
            raise damaged(blocks.name)
        if mark == b"!":
            label, size = blocks.read(2)
            if label == TRANSPARENCY and size == 4:
                blocks.keep(b"!\xf9\x04", blocks.read(4), b"\0")
                size = blocks.read(1)[0]
            while size:
                blocks.skip(size)
                size = blocks.read(1)[0]
    blocks.keep(mark, blocks.rest())


def _palette_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _keep_webp(blocks: Blocks) -> None:
    """The canvas and the first frame."""
    end = min(blocks.size, 8 + int.from_bytes(blocks.read(12)[4:8], "little"))
    parts: list[bytes] = []
    has_frame = False
    while blocks.place + 8 <= end:
        head = blocks.read(8)
        kind, length = struct.unpack("<4sI", head)
        length = min(length + length % 2, max(length, blocks.size - blocks.place))  # the last may lack its padding
        if kind == b"VP8X" and not parts:
            flags, *canvas = blocks.read(length)
            parts += [head, bytes((flags & 0x12, *canvas))]  # transparency and animation, and nothing else is there
        elif kind in (b"ANIM", b"ALPH", b"ANMF", b"VP8 ", b"VP8L") and not has_frame:
            parts += [head, blocks.read(length)]
            has_frame = kind not in (b"ANIM", b"ALPH")
        elif kind in (b"EXIF", b"XMP ") and length <= NOTE:
            blocks.note(blocks.read(length))
        else:
            blocks.skip(length)
    blocks.keep(b"RIFF", struct.pack("<I", 4 + sum(map(len, parts))), b"WEBP", *parts)


def _keep_bmp(blocks: Blocks) -> None:
    head = blocks.read(min(54, blocks.size))
    if len(head) == 54 and int.from_bytes(head[30:34], "little") in RUN_LENGTH:
        width, height = struct.unpack("<ii", head[18:26])
        blocks.check_pixels(max(abs(width * height), blocks.size), 1, MAX_RUN_LENGTH, "a run-length BMP")
    blocks.keep(head, blocks.rest())


def _keep_boxes(blocks: Blocks) -> None:
    """AVIF and HEIC: every byte stays at its place, but what is neither the picture nor describes it becomes free."""
    described = 0
    while blocks.place + 8 <= blocks.size:
        head = blocks.read(8)
        length, kind = struct.unpack(">I4s", head)
        if length == 1:
            head += blocks.read(8)
            length = int.from_bytes(head[8:], "big")
        length = length - len(head) if length else blocks.size - blocks.place
        if kind == b"mdat":
            blocks.keep(head, blocks.read(length))
        elif kind in (b"ftyp", b"meta"):
            described += length
            if described > MAX_META:
                raise damaged(blocks.name)
            # Pillow would unfold all of Exif to find the turn that the decoder has made already
            blocks.keep(head, blocks.read(length).replace(b"Exif", b"none").replace(b"avis", b"avif"))
        else:
            blocks.skip(length)
            blocks.keep(head[:4], b"free", head[8:], bytes(length))


KEEPERS: dict[str, Callable[[Blocks], None]] = {
    "JPEG": _keep_jpeg,
    "PNG": _keep_png,
    "GIF": _keep_gif,
    "BMP": _keep_bmp,
    "WEBP": _keep_webp,
    "TIFF": keep_tiff,
    "AVIF": _keep_boxes,
    "HEIF": _keep_boxes,
}
