"""The captions in a picture's metadata: which there are, and how to write others."""

from collections.abc import Mapping
from typing import Protocol

from captioning.errors import DataError
from captioning.inference.metadata import iptc, xmp
from captioning.inference.metadata.chunks import Png, WebP
from captioning.inference.metadata.jpeg import Jpeg
from captioning.inference.metadata.splices import Source, Splice, source_of, spliced
from captioning.inference.metadata.tiff import (
    BYTE,
    DNG_VERSION,
    EMPTY,
    IMAGE_DESCRIPTION,
    IPTC,
    LONG,
    PHOTOSHOP,
    SUBFILE_TYPE,
    XMP,
    Change,
    Directory,
    as_ascii,
    text_of,
)

Texts = dict[str, str]  # by name: description, alternative (XMP), iptc, exif
NAMES = ("description", "alternative", "iptc", "exif")
FROM_CAMERAS = ("olympus digital camera", "sony dsc", "konica minolta digital camera", "minolta digital camera")


class Container(Protocol):
    """A file format's metadata blocks, each empty where there is none."""

    @property
    def exif(self) -> bytes: ...

    @property
    def xmp(self) -> bytes: ...

    @property
    def iptc(self) -> bytes: ...

    def splices(self, *, exif: bytes, xmp: bytes, iptc: bytes) -> list[Splice]: ...


def _container(source: Source) -> Container | None:
    head = source.up_to(0, 12)
    if head.startswith(b"\xff\xd8\xff"):
        return Jpeg(source)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Png(source)
    return WebP(source) if head[:4] == b"RIFF" and head[8:] == b"WEBP" else None


def _tiff(source: Source) -> Directory:
    head = source.up_to(0, 12)
    if head[:4] not in (b"II*\0", b"MM\0*") or head[8:10] == b"CR":
        raise DataError("is no JPEG, PNG, WebP or TIFF, which alone are written into; use --sidecar --format xmp.")
    directory = Directory(source)
    subfile = directory.value(SUBFILE_TYPE) or b"\0"
    is_reduced = subfile[0 if directory.order == "<" else -1] & 1  # the picture itself is in another directory
    if is_reduced or directory.find(DNG_VERSION):
        raise DataError("is a raw file, which is never written into; use --sidecar --format xmp.")
    return directory


def read(source: Source) -> Texts:
    """The texts in a picture's metadata, the empty ones left out."""
    container = _container(source)
    if container:
        block, packet, iim = container.exif, container.xmp, container.iptc
        exif = Directory(source_of(block)).value(IMAGE_DESCRIPTION) if block else None
    else:
        directory = _tiff(source)
        exif, packet, iim = (directory.value(tag) or b"" for tag in (IMAGE_DESCRIPTION, XMP, IPTC))
    texts = (xmp.read(packet) if packet else {}) | {"iptc": iptc.read(iim) if iim else "", "exif": text_of(exif)}
    return {name: text for name, text in texts.items() if text}


def is_by_a_person(text: str) -> bool:
    """Whether a text is more than what some cameras write into every picture."""
    return bool(text.strip()) and " ".join(text.lower().split()) not in FROM_CAMERAS


def splices(source: Source, texts: Mapping[str, str | None]) -> list[Splice]:
    """What writes these texts; None removes one. IPTC is left out where the format has no place for it."""
    packet_texts = {name: texts[name] for name in xmp.PROPERTIES if name in texts}
    container = _container(source)
    if not container:
        return _tiff_splices(_tiff(source), texts, packet_texts)
    block, packet, iim = container.exif, container.xmp, container.iptc
    if "exif" in texts and (block or texts["exif"]):
        change = {IMAGE_DESCRIPTION: as_ascii(text) if (text := texts["exif"]) else None}
        block = block or EMPTY
        block = spliced(block, Directory(source_of(block)).splices(change))
    if packet or any(packet_texts.values()):
        packet = xmp.edit(packet, packet_texts)
    if "iptc" in texts and (iim or texts["iptc"]):
        iim = iptc.edit(iim, texts["iptc"])
    return container.splices(exif=block, xmp=packet, iptc=iim)


def _tiff_splices(
    directory: Directory, texts: Mapping[str, str | None], packet_texts: dict[str, str | None]
) -> list[Splice]:
    changes: dict[int, Change] = {}
    packet, iim = directory.value(XMP) or b"", directory.value(IPTC) or b""
    if "exif" in texts:
        changes[IMAGE_DESCRIPTION] = as_ascii(text) if (text := texts["exif"]) else None
    if packet or any(packet_texts.values()):
        changes[XMP] = (BYTE, xmp.edit(packet, packet_texts))
    if "iptc" in texts and (iim or texts["iptc"]):
        bare = iptc.edit(iim.rstrip(b"\0"), texts["iptc"])
        fresh = bare + bytes(-len(bare) % 4)
        changes[IPTC] = (LONG, fresh) if fresh else None
        return [*_digest_splices(directory, {iim: fresh, iim.rstrip(b"\0"): bare}), *directory.splices(changes)]
    return directory.splices(changes)


def _digest_splices(directory: Directory, fresh: dict[bytes, bytes]) -> list[Splice]:
    """Renews Photoshop's digest of the IPTC block, which some programs take with its padding and some without."""
    block, entry = directory.value(PHOTOSHOP), directory.find(PHOTOSHOP)
    for old, new in fresh.items() if block and entry else ():
        renewed = iptc.renewed_digest(block or b"", old, new)
        if entry and renewed != block:
            start = directory.offset(entry)
            return [Splice(start, start + len(renewed), renewed)]
    return []


def has_place_for_iptc(source: Source) -> bool:
    """Whether the format keeps IPTC: JPEG and TIFF do."""
    return source.up_to(0, 2) in (b"\xff\xd8", b"II", b"MM")
