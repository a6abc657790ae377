"""The caption and the alternative text in an XMP packet, changed in its text, so that all the rest keeps its bytes.

A packet is read by expat, which is handed no document type and so no entities.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from captioning.errors import DataError
from captioning.inference.metadata.splices import Splice, spliced

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PROPERTIES = {  # name of a text -> namespace, usual prefix, property
    "description": ("http://purl.org/dc/elements/1.1/", "dc", "description"),
    "alternative": ("http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", "Iptc4xmpCore", "AltTextAccessibility"),
}
MAX_PACKET = 16 << 20
MAX_ELEMENTS = 500_000
MAX_KEPT = 10_000  # elements that matter here
LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"
DEFAULT = "x-default"
START_TAG = re.compile(rb"""<[^"'>]*(?:(?:"[^"]*"|'[^']*')[^"'>]*)*>""")
DECLARED = re.compile(r"""<\?xml[^>]*encoding=["']([^"']+)""")
UNWRITABLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
NEW = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n </rdf:RDF>\n</x:xmpmeta>\n'
    b'<?xpacket end="w"?>'
)


@dataclass
class Element:
    """An element: where it starts and ends in the packet, and what is in it."""

    name: str
    attributes: dict[str, str]
    start: int
    inner: int  # the end of its start tag
    inner_end: int = 0
    end: int = 0
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def named(self, name: str) -> list["Element"]:
        """Its children of this name."""
        return [child for child in self.children if child.name == name]


class _Reader:
    """Keeps the elements that may hold a text: RDF, its descriptions, and the properties with all that is in them."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.rdf: Element | None = None
        self._open: list[Element | None] = []
        self._count = self._kept = 0
        self._wanted = {f"{space} {name}" for space, _, name in PROPERTIES.values()}
        parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self._parser = parser
        try:
            parser.Parse(packet, True)
        except expat.ExpatError as error:
            raise DataError(f"has XMP that is broken ({error}); repair or remove it.") from None

    def _refuse(self, *_: object) -> None:
        raise DataError("has XMP with a document type, which XMP never has; remove it.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise DataError(f"has XMP of more than {MAX_ELEMENTS:,} elements; remove some.")
        above = self._open[-1] if self._open else None
        element = None
        if (name == f"{RDF} RDF" and not self.rdf) or self._matters(above, name):
            self._kept += 1
            if self._kept > MAX_KEPT:
                raise DataError(f"has XMP of more than {MAX_KEPT:,} descriptions; remove some.")
            start = self._parser.CurrentByteIndex
            tag = START_TAG.match(self.packet, start)
            assert tag
            element = Element(name, attributes, start, tag.end())
            if above:
                above.children.append(element)
            else:
                self.rdf = element
        self._open.append(element)

    def _matters(self, above: Element | None, name: str) -> bool:
        if above is None:
            return False
        if above is self.rdf:
            return name == f"{RDF} Description"
        return above.name != f"{RDF} Description" or name in self._wanted

    def _end(self, name: str) -> None:
        element = self._open.pop()
        if element and self.packet[element.inner - 2 : element.inner] == b"/>":
            element.inner_end = element.end = element.inner
        elif element:
            element.inner_end = self._parser.CurrentByteIndex
            element.end = self.packet.index(b">", element.inner_end) + 1

    def _text(self, text: str) -> None:
        if self._open and self._open[-1]:
            self._open[-1].text += text


def _decoded(packet: bytes) -> tuple[str, str]:
    """The packet's text and its encoding: UTF-8, or UTF-16 with a byte order mark."""
    if len(packet) > MAX_PACKET:
        raise DataError(f"has {len(packet):,} bytes of XMP, of which {MAX_PACKET:,} at most were expected.")
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}.get(
        packet[:2], "utf-8"
    )
    try:
        text = packet.decode(encoding)
    except UnicodeDecodeError:
        raise DataError("has XMP that is neither UTF-8 nor UTF-16; save it as UTF-8.") from None
    declared = DECLARED.match(text.lstrip("\ufeff"))
    if declared and not declared[1].lower().startswith(("utf-8", "utf-16")):
        raise DataError(f"has XMP in {declared[1]}, where UTF-8 or UTF-16 was expected; save it as UTF-8.")
    return text, encoding


def _parsed(packet: bytes) -> _Reader:
    reader = _Reader(packet)
    if not reader.rdf:
        raise DataError("has XMP without an rdf:RDF element; repair or remove it.")
    return reader


def _utf_8(text: str) -> bytes:
    return text.rstrip("\0").encode()


def read(packet: bytes) -> dict[str, str]:
    """The texts of a packet by name: of each its default language, or else the first one."""
    rdf = _parsed(_utf_8(_decoded(packet)[0])).rdf
    assert rdf
    return {key: text for key in PROPERTIES if (text := _value(rdf, key))}


def _value(rdf: Element, key: str) -> str:
    name = _name(key)
    for description in rdf.children:
        if name in description.attributes:
            return description.attributes[name]
        for element in description.named(name):
            items = _items(element)
            default = [item for item in items if item.attributes.get(LANGUAGE) == DEFAULT]
            return (default or items)[0].text if items else "" if element.children else element.text.strip()
    return ""


def _name(key: str) -> str:
    space, _, name = PROPERTIES[key]
    return f"{space} {name}"


def _items(element: Element) -> list[Element]:
    return [item for container in element.children for item in container.named(f"{RDF} li")]


def edit(packet: bytes, texts: Mapping[str, str | None]) -> bytes:
    """The packet with other texts in the default language; None removes one. An empty packet becomes a new one."""
    text, encoding = _decoded(packet or NEW)
    data = _utf_8(text)
    nulls = text[len(text.rstrip("\0")) :]
    for key, value in texts.items():
        rdf = _parsed(data).rdf
        assert rdf
        data = spliced(data, _splices(data, rdf, key, value))
    grown = len(data) - len(_utf_8(text))
    data = _without_padding(data, grown)
    return (data.decode() + nulls).encode(encoding)


def _without_padding(packet: bytes, count: int) -> bytes:
    """The packet with less white space before its end, if it has some; one line break is left."""
    end = packet.rfind(b"<?xpacket end=")
    start = len(packet[: max(end, 0)].rstrip(b" \t\r\n"))
    if count <= 0 or end - start < 2:
        return packet
    return packet[: max(start, end - 1 - count)] + packet[end - 1 :]


def without_padding(packet: bytes) -> bytes:
    """The packet as short as it can be."""
    return _without_padding(packet, len(packet))


def _splices(data: bytes, rdf: Element, key: str, value: str | None) -> list[Splice]:
    name = _name(key)
    attributes = [_attribute(data, description, key) for description in rdf.children if name in description.attributes]
    found = [element for description in rdf.children for element in description.named(name)]
    if not found:
        return attributes + ([_new_description(data, rdf, key, value)] if value else [])
    element = found[0]
    containers = element.named(f"{RDF} Alt")
    if not containers:
        return [*attributes, Splice(element.start, element.end, _property(data, element, value) if value else b"")]
    default = [item for item in _items(element) if item.attributes.get(LANGUAGE) == DEFAULT]
    if default:
        item = default[0]
        if not value and len(_items(element)) == 1:
            return [Splice(element.start, element.end, b"")]
        return [Splice(item.start, item.end, _item(data, containers[0], value) if value else b"")]
    return [_first_item(data, containers[0], value)] if value else []


def _attribute(data: bytes, description: Element, key: str) -> Splice:
    """Removes the attribute that holds a text."""
    pattern = rb"""\s[^\s=/>"':]+:%s\s*=\s*(?:"[^"]*"|'[^']*')""" % PROPERTIES[key][2].encode()
    found = list(re.finditer(pattern, data[description.start : description.inner]))
    if len(found) != 1:
        raise DataError("has XMP with two descriptions of one name; repair or remove it.")
    return Splice(description.start + found[0].start(), description.start + found[0].end(), b"")


def _qualified(data: bytes, element: Element) -> bytes:
    """The element's name as it is written, prefix and all."""
    found = re.match(rb"<([^\s/>]+)", data[element.start : element.inner])
    assert found
    return found[1]


def _prefix(data: bytes, element: Element) -> bytes:
    before, colon, _ = _qualified(data, element).rpartition(b":")
    return before + colon


def _escaped(value: str) -> bytes:
    return escape(UNWRITABLE.sub("\ufffd", value), {"\r": "&#xD;"}).encode()


def _item(data: bytes, above: Element, value: str) -> bytes:
    prefix = _prefix(data, above)
    return b'<%sli xml:lang="x-default">%s</%sli>' % (prefix, _escaped(value), prefix)


def _first_item(data: bytes, container: Element, value: str) -> Splice:
    item = _item(data, container, value)
    if container.end == container.inner:  # <rdf:Alt/>
        name = _qualified(data, container)
        return Splice(container.start, container.end, b"<%s>%s</%s>" % (name, item, name))
    return Splice(container.inner, container.inner, item)


def _property(data: bytes, element: Element, value: str) -> bytes:
    """The property with one text, whose name is written as before."""
    name = _qualified(data, element)
    alternatives = b'<rdf:Alt xmlns:rdf="%s"><rdf:li xml:lang="x-default">%s</rdf:li></rdf:Alt>'
    return b"<%s>%s</%s>" % (name, alternatives % (RDF.encode(), _escaped(value)), name)


def _new_description(data: bytes, rdf: Element, key: str, value: str) -> Splice:
    """A description of its own for the property, about what the others are about."""
    space, prefix, name = PROPERTIES[key]
    about = next((one.attributes.get(f"{RDF} about", one.attributes.get("about", "")) for one in rdf.children), "")
    quoted = escape(about, {'"': "&quot;"})
    text = (
        f'  <rdf:Description xmlns:rdf="{RDF}" rdf:about="{quoted}" xmlns:{prefix}="{space}">\n   <{prefix}:{name}>\n'
        f'    <rdf:Alt>\n     <rdf:li xml:lang="x-default">'
    ).encode()
    text += _escaped(value) + f"</rdf:li>\n    </rdf:Alt>\n   </{prefix}:{name}>\n  </rdf:Description>\n ".encode()
    if rdf.end == rdf.inner:  # <rdf:RDF .../>
        tag, qualified = data[rdf.start : rdf.inner - 2], _qualified(data, rdf)
        return Splice(rdf.start, rdf.end, b"%s>\n%s</%s>" % (tag, text, qualified))
    return Splice(rdf.inner_end, rdf.inner_end, text)
