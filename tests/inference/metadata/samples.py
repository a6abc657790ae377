"""Pictures and XMP sidecars of the forms that programs write, made here after their public documentation."""

import io
import struct

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

TEXTS = {
    "description": "Ein Hund läuft & <bellt>",
    "alternative": "Ein Hund.",
    "iptc": "Ein Hund läuft",
    "exif": "Ein Hund läuft\nüber Gras",
}
FORMATS = ("jpeg", "png", "webp", "webp-lossless", "webp-alpha", "tiff", "tiff-lzw", "tiff-big-endian")
LIGHTROOM = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   xmp:Rating="4"
   xmp:CreatorTool="Adobe Photoshop Lightroom Classic 9.0 (Windows)"
   crs:Exposure2012="+0.35"
   crs:HasSettings="True">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Alps &amp; lakes</rdf:li>
     <rdf:li>夏</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <xmpMM:History>
    <rdf:Seq>
     <rdf:li stEvt:action="saved" stEvt:changed="/metadata"/>
    </rdf:Seq>
   </xmpMM:History>
   <crs:ToneCurvePV2012>
    <rdf:Seq>
     <rdf:li>0, 0</rdf:li>
     <rdf:li>255, 255</rdf:li>
    </rdf:Seq>
   </crs:ToneCurvePV2012>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DIGIKAM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   digiKam:PickLabel="3"
   digiKam:ColorLabel="1"
   MicrosoftPhoto:Rating="50">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>Places/Zürich</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>Places|Zürich</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">By the lake</rdf:li>
     <rdf:li xml:lang="de-CH">Am See</rdf:li>
    </rdf:Alt>
   </dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def kept(kind: str) -> dict[str, str]:
    """What a picture of this kind can hold of the texts."""
    return {name: text for name, text in TEXTS.items() if name != "iptc" or kind.startswith(("jpeg", "tiff"))}


def picture(kind: str, **options: object) -> bytes:
    """A small picture as a file of this kind."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), "uint8"))
    more = {"lossless": True} if kind == "webp-lossless" else {"compression": "tiff_lzw"} if kind == "tiff-lzw" else {}
    if kind == "webp-alpha":
        image.putalpha(128)
    target = io.BytesIO()
    image.save(target, kind.partition("-")[0], **more, **options)
    return big_endian_tiff(image) if kind == "tiff-big-endian" else target.getvalue()


def big_endian_tiff(image: Image.Image) -> bytes:
    """A TIFF as old Macintosh programs wrote it."""
    tags = [(256, 3, 1, image.width << 16), (257, 3, 1, image.height << 16), (258, 3, 1, 8 << 16), (259, 3, 1, 1 << 16)]
    tags += [(262, 3, 1, 1 << 16), (273, 4, 1, 8), (277, 3, 1, 1 << 16), (279, 4, 1, image.width * image.height)]
    pixels = image.convert("L").tobytes()
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + bytes(4)
    return b"MM\0*" + struct.pack(">I", 8 + len(pixels)) + pixels + directory


def pixels(data: bytes) -> np.ndarray:
    """What the picture shows."""
    return np.asarray(Image.open(io.BytesIO(data)))


def exif_block() -> bytes:
    """An EXIF block with a MakerNote, a thumbnail directory and a place."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Model 1", 6
    exif.get_ifd(0x8769)[0x927C] = b"MakerNote with offsets \0\1\2\3"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes().removeprefix(b"Exif\0\0")


def png_text(name: str, text: str) -> PngInfo:
    """A text chunk, for `picture`."""
    info = PngInfo()
    info.add_text(name, text, zip=True)
    return info
