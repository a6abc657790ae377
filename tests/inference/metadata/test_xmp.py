"""XMP packets of every form are merged into, bounded, and refused in one sentence where they are broken."""

import re
import time

import pytest

from captioning.errors import DataError
from captioning.inference.metadata import xmp
from tests.inference.metadata.samples import DIGIKAM, LIGHTROOM

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
BOTH = {"description": 'A <dog> & "it"\nruns', "alternative": "A dog."}


def packet(inner: str, *, rdf: str = RDF) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {rdf}>{inner}</rdf:RDF></x:xmpmeta>'.encode()


FORMS = {
    "none": b"",
    "lightroom": LIGHTROOM.encode(),
    "digikam": DIGIKAM.encode(),
    "digikam with zeros after it": DIGIKAM.encode() + bytes(100),
    "padded": DIGIKAM.replace("<?xpacket end", " " * 2000 + "\n<?xpacket end").encode(),
    "utf-16": LIGHTROOM.encode("utf-16"),
    "utf-16 without a mark": LIGHTROOM.encode("utf-16-be"),
    "declared": b'<?xml version="1.0" encoding="UTF-8"?>\n' + LIGHTROOM.encode(),
    "no description": packet(""),
    "closed at once": packet("").replace(b"></rdf:RDF>", b"/>"),
    "attribute": packet(f"<rdf:Description {DC} rdf:about='' dc:description='old'  a:b='c' xmlns:a='urn:a'/>"),
    "plain text": packet(f"<rdf:Description {DC}><dc:description>old</dc:description></rdf:Description>"),
    "empty": packet(f"<rdf:Description {DC}><dc:description/></rdf:Description>"),
    "empty list": packet(f"<rdf:Description {DC}><dc:description><rdf:Alt/></dc:description></rdf:Description>"),
    "other languages": packet(
        f"<rdf:Description {DC} rdf:about='uuid:&quot;1'><dc:description><rdf:Alt>"
        "<rdf:li xml:lang='en'>old</rdf:li><rdf:li xml:lang='fr'>vieux</rdf:li></rdf:Alt></dc:description>"
        "</rdf:Description>"
    ),
    "other prefixes": packet(
        "<r:Description xmlns:e='http://purl.org/dc/elements/1.1/'><e:description><r:Alt><r:li xml:lang='x-default'>"
        "old</r:li></r:Alt></e:description></r:Description>"
    )
    .replace(b"rdf:RDF", b"r:RDF")
    .replace(b"xmlns:rdf", b"xmlns:r"),
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_are_set_replaced_and_removed_and_the_rest_stays(form):
    old = FORMS[form]
    new = xmp.edit(old, BOTH)
    assert xmp.read(new) == BOTH
    assert xmp.edit(new, BOTH) == new
    other = xmp.edit(new, {"description": "犬"})
    assert xmp.read(other) == {"description": "犬", "alternative": "A dog."}
    others = {"digikam": "Am See", "padded": "Am See", "other languages": "old"}
    left = next((text for name, text in others.items() if form.startswith(name)), "")
    assert xmp.read(xmp.edit(other, dict.fromkeys(BOTH))) == ({"description": left} if left else {})


@pytest.mark.parametrize("form", ["lightroom", "digikam", "padded", "other languages"])
def test_every_line_but_the_text_is_as_before(form):
    old = FORMS[form].decode()
    new = xmp.edit(FORMS[form], {"description": "NEW", "alternative": "NEW"}).decode()
    ours = r"(?s)  <rdf:Description xmlns:rdf=[^>]*>\n   <(?:dc|Iptc4xmpCore):.*?</rdf:Description>\n "
    left = re.sub(r"<rdf:li xml:lang=.x-default.>NEW</rdf:li>", "", re.sub(ours, "", new))
    expected = re.sub(r"<rdf:li xml:lang=.x-default.>By the lake</rdf:li>", "", old)
    assert "".join(left.split()) == "".join(expected.split())


def test_padding_is_used_up_so_that_the_size_stays():
    old = FORMS["padded"]
    assert len(xmp.edit(old, BOTH)) == len(old)
    assert len(xmp.without_padding(old)) < len(old) - 1900


def test_a_new_description_is_about_the_same():
    new = xmp.edit(FORMS["other languages"], {"alternative": "A dog."}).decode()
    assert new.count("&quot;1") == 2


BILLION = "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;'>]>"


@pytest.mark.parametrize(
    ("data", "saying"),
    [
        (BILLION.encode() + packet("&c;"), "with a document type"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + packet(""), "with a document type"),
        (b"<a>", "is broken"),
        (b"not XML", "is broken"),
        (packet("<a>&unknown;</a>"), "is broken"),
        (b"<a/>", "without an rdf:RDF element"),
        (b"\xff\xfe\0\xd8\0\xd8", "neither UTF-8 nor UTF-16"),
        ("<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>".encode("latin-1"), "neither UTF-8 nor UTF-16"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?>" + packet(""), "has XMP in ISO-8859-1"),
        (b" " * (xmp.MAX_PACKET + 1), "at most were expected"),
        (packet("<a/>" * 500_001), "more than 500,000 elements"),
        (packet("<rdf:Description/>" * 10_001), "more than 10,000 descriptions"),
        (
            packet(f"<rdf:Description {DC} dc:description='1' xmlns:x='urn:x' x:description='2'/>"),
            "two descriptions of one name",
        ),
    ],
)
def test_hostile_and_broken_packets_are_refused_in_a_sentence(data, saying):
    begun = time.process_time()
    with pytest.raises(DataError, match=saying) as told:
        xmp.edit(data, BOTH)
    assert str(told.value).startswith("has ")
    assert "\n" not in str(told.value)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("filling", [" " * (1 << 22), "\n" * (1 << 22), "<!--" + "-a" * (1 << 21) + "-->"])
def test_long_packets_are_read_in_time_that_grows_with_their_length(filling):
    begun = time.process_time()
    for data in (
        packet(filling),
        packet(f"<rdf:Description {DC}{filling if filling.isspace() else ''} dc:description='old'/>"),
        DIGIKAM.replace("<?xpacket end", filling + "<?xpacket end").encode(),
    ):
        assert xmp.read(xmp.edit(data, BOTH)) == BOTH
    assert time.process_time() - begun < 20


def test_no_character_that_xml_lacks_is_written():
    assert xmp.read(xmp.edit(b"", {"description": "a\0b\x0bc\r\nd"}))["description"] == "a\ufffdb\ufffdc\r\nd"
