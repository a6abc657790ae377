"""Captions in the metadata of the images themselves, or in XMP sidecars, with a journal that leads back."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.data.formats import RAW_SUFFIX
from captioning.errors import CaptioningError
from captioning.inference.metadata.changes import Rewriter, read_texts
from captioning.inference.metadata.journal import Journal
from captioning.inference.metadata.picture import Texts, is_by_a_person
from captioning.inference.records import name_of

if TYPE_CHECKING:
    from captioning.inference.caption import Caption
    from captioning.inference.writers import OutputOptions

AT_ONCE = 8  # files that are written at the same time


class MetadataWriter:
    """Writes each caption as description and as alternative text. An image that has a caption or other text is done."""

    def __init__(self, options: "OutputOptions", journal: Journal) -> None:
        self._options, self._journal = options, journal
        self._kind = "picture" if options.metadata else "xmp"
        self._rewriter = Rewriter(journal, options.keep_times)
        self._owners: dict[Path, Path] = {}
        self._written: dict[Path, tuple[Texts, Texts]] = {}  # files of this run: their texts before and after
        self._renewed: dict[Path, Texts] = {}  # files whose caption is to be replaced: their texts before it

    def _place(self, image: Path) -> Path:
        if self._kind == "picture":
            return image
        return image.with_suffix(".xmp") if self._options.xmp_name == "stem" else image.with_name(f"{image.name}.xmp")

    def forget(self, images: Sequence[Path]) -> None:
        """Lets the captions of these images be written anew, where nobody has changed them."""
        for place in map(self._place, images):
            before, after = self._written.get(place, ({}, None))
            with contextlib.suppress(CaptioningError):  # told when it is written
                if read_texts(place, self._kind) == after:
                    self._renewed[place] = before

    def refusal(self, image: Path) -> str:
        """Why no caption is written into an image; empty for those that may get one."""
        if self._kind == "picture" and RAW_SUFFIX.search(image.name):
            return f"{name_of(image)} is a raw file, which is never written into; use --sidecar --format xmp."
        return ""

    def __contains__(self, image: Path) -> bool:
        place = self._place(image)
        if place in self._renewed:
            return False
        try:
            texts = read_texts(place, self._kind)
        except CaptioningError:
            return False  # told when it is written
        if texts and self._journal.done.get(self._journal.name_of(place)) == texts:
            return True
        return self._options.if_exists == "skip" and any(map(is_by_a_person, texts.values()))

    def add(self, captions: Mapping[Path, Any]) -> dict[Path, str]:
        """Writes the captions, and returns a sentence for each image that is left as it is."""
        problems: dict[Path, str] = {}
        mine = {}
        for image, caption in captions.items():
            place = self._place(image)
            owner = self._owners.setdefault(place, image)
            if owner == image:
                mine[image] = caption
            else:
                problems[image] = f"{name_of(image)} would share {place.name} with {owner.name}; use --xmp-name full."
        with ThreadPoolExecutor(AT_ONCE) as pool:  # most of the time is spent waiting for the disk
            told = pool.map(self._write, mine, mine.values())
            return problems | {image: sentence for image, sentence in zip(mine, told, strict=True) if sentence}

    def _write(self, image: Path, caption: "Caption") -> str:
        """Writes one caption; what it returns is empty, or says why it was not written."""
        place = self._place(image)
        try:
            if refusal := self.refusal(image):
                return refusal
            self._rewriter.write(place, self._kind, functools.partial(self._texts, place, caption))
        except CaptioningError as error:
            is_named = any(str(error).startswith(each) for each in (name_of(place), str(place)))
            return str(error) if is_named else f"{name_of(image)}: {error}"
        return ""

    def _texts(self, place: Path, caption: "Caption", before: Texts) -> Texts:
        """The texts to write; those that were there stand before or after them where this was asked for."""
        before = self._renewed.pop(place, before)
        texts = self._new_texts(caption, before)
        if self._options.watch:
            self._written[place] = before, {**before, **texts}
        return texts

    def _new_texts(self, caption: "Caption", before: Texts) -> Texts:
        wording = self._options.wording
        known = {name: text for name, text in before.items() if is_by_a_person(text)}
        old = next((known[name] for name in ("description", "iptc", "exif") if name in known), "")
        description = self._joined(old, wording(str(caption)).strip())
        alternative = self._joined(known.get("alternative", ""), wording.alternative(str(caption)).strip())
        texts = {"description": description, "alternative": alternative}
        return texts | ({"iptc": description, "exif": description} if self._kind == "picture" else {})

    def _joined(self, old: str, new: str) -> str:
        return joined(old, new, self._options.if_exists)


def joined(old: str, new: str, if_exists: str) -> str:
    """Old and new text by what was asked for; a text that is there already is not written twice."""
    if not old or if_exists not in ("append", "prepend"):
        return new
    if new in old.splitlines():
        return old
    return f"{old}\n{new}" if if_exists == "append" else f"{new}\n{old}"
