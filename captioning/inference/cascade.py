"""A cascade: the first captioner that is sure of its caption answers, and only the rest goes on to the next one."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from captioning.errors import CaptioningError, ImageError
from captioning.inference.caption import Caption
from captioning.inference.protocol import AnyCaptioner, Description
from captioning.options import DecodeOptions, changed


class Cascade:
    """Several captioners in their order. What none is sure of is captioned by the last one.

    `options` are those of the first. What a person changes of them is changed of the others' own options too.
    """

    def __init__(self, captioners: Sequence[AnyCaptioner]) -> None:
        if len(captioners) < 2:
            raise CaptioningError("A cascade needs two captioners or more, as in --captioner flickr8k,blip.")
        self.captioners = tuple(captioners)
        self.options: DecodeOptions = captioners[0].options
        self.calibration = getattr(captioners[0], "calibration", None)
        self.seen = [0] * len(captioners)  # images that reached each captioner

    def describe(self) -> Description:
        """The names of all in their order, their licences, and their size together."""
        parts = [each.describe() for each in self.captioners]
        licences = "; ".join(dict.fromkeys(part.licence for part in parts if part.licence))
        size = sum(part.size for part in parts)
        return Description(",".join(part.name for part in parts), licences, size, parts[0].languages)

    def caption(self, images: Any, options: DecodeOptions | None = None, **settings: Any) -> Any:
        """The Caption of one image, or a list of Captions; see Captioner.caption."""
        several = isinstance(images, list | tuple)
        wanted = list(images) if several else [images]
        found: list[Caption | ImageError | None] = [None] * len(wanted)
        waiting = list(range(len(wanted)))
        for number, captioner in enumerate(self.captioners):
            self.seen[number] += len(waiting)
            own = self._own(captioner, options)
            answers = captioner.caption([wanted[place] for place in waiting], own, **settings) if waiting else []
            for place, answer in zip(waiting, answers, strict=True):
                found[place] = answer
            waiting = [place for place, answer in zip(waiting, answers, strict=True) if _goes_on(answer)]
        return found if several else found[0]

    def alternatives(self, image: Any, caption: Caption, options: DecodeOptions | None = None, **_: Any) -> list[Any]:
        """Other words for each word of a caption and for its end: none, since several captioners may have spoken."""
        return [[] for _ in range(len(caption.words) + 1)]

    def _own(self, captioner: AnyCaptioner, options: DecodeOptions | None) -> DecodeOptions:
        """The captioner's own options with the changes that were made to those of the cascade."""
        given = options or self.options
        names = [entry.name for entry in fields(DecodeOptions)]
        changes = {name: getattr(given, name) for name in names if getattr(given, name) != getattr(self.options, name)}
        return changed(replace(captioner.options), **changes)

    def report(self) -> str:
        """How many pictures went on to each further captioner; "" before any was captioned."""
        total = self.seen[0]
        if not total:
            return ""
        names = [each.describe().name for each in self.captioners]
        parts = [
            f"{count:,} of {total:,} pictures ({count / total:.0%}) went on to {name}"
            for name, count in zip(names[1:], self.seen[1:], strict=True)
        ]
        return ", ".join(parts) + "."


def _goes_on(answer: Caption | ImageError) -> bool:
    return isinstance(answer, Caption) and answer.sure is not True
