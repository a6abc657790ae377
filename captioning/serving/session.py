"""A picture and what is said of it: described, put right word by word, turned to another of the captions found.

Knows nothing of pages; a page keeps one Described for each person who looks at it.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from captioning.data.images import read_image
from captioning.errors import CaptioningError, ImageError
from captioning.inference.captioner import ENDING, Caption
from captioning.inference.confidence import SURE
from captioning.options import DecodeOptions
from captioning.serving.adjustments import AS_IT_IS, Adjustments, shown
from captioning.serving.pool import CaptionerPool, all_beams
from captioning.serving.regions import Region, Strokes, looked_at

DIALS = tuple(field.name for field in dataclasses.fields(DecodeOptions))
WORD_DIALS = ("force", "forbid")  # several words, written as one text

Choices = list[list[tuple[str, float]]]  # for every word of a caption and for its end, other words


@dataclasses.dataclass(frozen=True, eq=False)
class CaptionSession:
    """What one person looks at: a picture, how it was asked for, the captions found, and which of them is shown."""

    bundle: str
    view: np.ndarray  # uint8 (H, W, 3), as people see it
    pixels: np.ndarray  # uint8 (S, S, 3), as the network sees it
    adjustments: Adjustments
    options: DecodeOptions
    region: Region | None
    captions: tuple[Caption, ...]  # best first
    choices: Choices
    data: str = ""  # what the bundle was trained and its confidence counted on
    rank: int = 0

    @property
    def caption(self) -> Caption:
        """The caption that is shown."""
        return self.captions[self.rank]

    @property
    def where(self) -> Any:
        """The region as the captioner takes it."""
        return looked_at(self.region, self.view)

    @property
    def how(self) -> dict[str, Any]:
        """How the caption was come by, as feedback keeps it."""
        region = self.region
        return dataclasses.asdict(self.options) | {
            "region": dataclasses.asdict(region) if isinstance(region, Strokes) else region,
            "adjustments": dataclasses.asdict(self.adjustments),
        }


def describe(
    shelf: CaptionerPool,
    bundle: str,
    path: str,
    options: DecodeOptions | None = None,
    adjustments: Adjustments = AS_IT_IS,
    region: Region | None = None,
) -> CaptionSession:
    """Captions the picture of a file; without options by the bundle's own search, with all the captions it finds."""
    view = adjustments.apply(shown(path))
    where = looked_at(region, view)
    with shelf.captioner(bundle) as captioner:
        pixels = read_image(path if adjustments == AS_IT_IS else view, size=captioner.image_size)
        options = options or all_beams(captioner.options)
        best = captioner.caption(pixels, options, region=where)
        choices = captioner.alternatives(pixels, best, options, region=where)
    captions = (dataclasses.replace(best, alternatives=()), *best.alternatives)
    return CaptionSession(bundle, view, pixels, adjustments, options, region, captions, choices, shelf.data(bundle))


def reworded(shelf: CaptionerPool, described: CaptionSession, place: int, word: str) -> CaptionSession:
    """The caption with another word at a place and the rest of the sentence sought again; one of its choices."""
    if word not in [choice for choice, _ in described.choices[place]]:
        raise CaptioningError(f"{word} is none of the other words offered there; choose one of them.")
    caption, pixels, where = described.caption, described.pixels, described.where
    begin = [said.text for said in caption.words[:place]]
    with shelf.captioner(described.bundle) as captioner:
        if word == ENDING:
            best = _ended(captioner, described, place)
        else:
            best = captioner.caption(pixels, described.options, begin=" ".join([*begin, word]), region=where)
        choices = captioner.alternatives(pixels, best, described.options, region=where)
    captions = (dataclasses.replace(best, alternatives=()), *best.alternatives)
    return dataclasses.replace(described, captions=captions, choices=choices, rank=0)


def _ended(captioner: Any, described: CaptionSession, place: int) -> Caption:
    words = described.caption.words[:place]
    said = [captioner.tokenizer.id(word.text) for word in words]
    shares = [*(word.probability for word in words), dict(described.choices[place])[ENDING]]
    total = sum(math.log(max(share, 1e-9)) for share in shares)
    return Caption(captioner.tokenizer.decode(said), words, total / len(shares) ** described.options.length_penalty)


def turned(shelf: CaptionerPool, described: CaptionSession, rank: int) -> CaptionSession:
    """The same picture with another of the captions found."""
    with shelf.captioner(described.bundle) as captioner:
        chosen = described.captions[rank]
        choices = captioner.alternatives(described.pixels, chosen, described.options, region=described.where)
    return dataclasses.replace(described, rank=rank, choices=choices)


def options_of(values: Sequence[Any]) -> DecodeOptions:
    """The search that a page's dials ask for, in the order of DIALS; never more captions than it can find."""
    asked = dict(zip(DIALS, values, strict=True))
    for name in WORD_DIALS:
        asked[name] = tuple(re.findall(r"[^\s,;]+", asked[name]))
    room = {"greedy": 1, "beam": asked["num_beams"]}.get(asked["strategy"], asked["num_captions"])
    return DecodeOptions(**asked | {"num_captions": min(asked["num_captions"], room)})


def values_of(options: DecodeOptions) -> list[Any]:
    """What a page's dials stand at for a search."""
    values = dataclasses.asdict(options)
    return [" ".join(values[name]) if name in WORD_DIALS else values[name] for name in DIALS]


def explained(error: CaptioningError) -> str:
    """An error's sentence for a page: it has dials where there are flags, and no folder of this machine is named."""
    if isinstance(error, ImageError) and error.reason == "missing":
        return "This picture is no longer kept here; choose it again."
    sentence = re.sub(r"--([a-z][a-z-]*)", _dial_of, str(error))
    return re.sub(r"(?<!\S)/(?:[^\s/]+/)+(?=[^\s/])", "", sentence)


def _dial_of(flag: re.Match[str]) -> str:
    is_dial = flag[1].replace("-", "_") in DIALS
    return flag[1].replace("-", " ") if is_dial else flag[0]  # a flag that the app is started with stays one


def sureness(confidence: float | None) -> str:
    """How sure a caption is, in a word or two; nothing where that is not known."""
    if confidence is None:
        return ""
    return f"{confidence:.0%} sure" if confidence >= SURE else f"not sure, {confidence:.0%}"


def told(described: CaptionSession) -> str:
    """The caption and how sure it is, in one sentence."""
    return f"{described.caption.text or 'No words'}. {sureness(described.caption.confidence)}"
