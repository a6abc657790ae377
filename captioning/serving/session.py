"""A picture and its captions: found, corrected word by word, exchanged for another of those found.

A page keeps one CaptionSession for each visitor.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from captioning.data.images import read_image
from captioning.errors import CaptioningError, ImageError
from captioning.evaluation.word_use import CATEGORIES
from captioning.inference.captioner import ENDING, Caption
from captioning.options import DecodeOptions
from captioning.serving.adjustments import AS_IT_IS, Adjustments, shown
from captioning.serving.pool import CaptionerPool, all_beams
from captioning.serving.regions import Region, Strokes, looked_at

OTHER_WORDS = """
a an the this that these those there it its he his she her they their i my we our you your who which what is are was
were be been being has have had do does can with without in on at by for from to of into onto over under near through
across around behind beside between along off up down out and or but while as not no big small large little tiny tall
young old long short other another
"""
NO_NOUNS = frozenset(" ".join([OTHER_WORDS, *(CATEGORIES[name] for name in ("actions", "colours", "counts"))]).split())

CONTROLS = tuple(field.name for field in dataclasses.fields(DecodeOptions))
WORD_CONTROLS = ("force", "forbid")  # several words, written as one text

SURENESS = {
    "sure": "{:.0%} sure",
    "not sure": "not sure, {:.0%}",
    "unfamiliar": "unfamiliar picture",
    "not calibrated": "{:.0%}, not calibrated",
    "unknown": "confidence unknown",
}

Choices = list[list[tuple[str, float]]]  # for every word of a caption and for its end, other words


@dataclasses.dataclass(frozen=True, eq=False)
class CaptionSession:
    """A picture, the settings it was captioned with, the captions found, and which of them is shown."""

    bundle: str
    view: np.ndarray  # uint8 (H, W, 3), as it is shown
    pixels: np.ndarray  # uint8 (S, S, 3), as it is encoded, or the view
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
        """The settings of the caption, as feedback keeps them."""
        region = self.region
        return dataclasses.asdict(self.options) | {
            "region": dataclasses.asdict(region) if isinstance(region, Strokes) else region,
            "adjustments": dataclasses.asdict(self.adjustments),
        }


def describe(
    pool: CaptionerPool,
    bundle: str,
    path: str,
    options: DecodeOptions | None = None,
    adjustments: Adjustments = AS_IT_IS,
    region: Region | None = None,
) -> CaptionSession:
    """Captions the picture of a file; without options with the bundle's own search, and all the captions it finds."""
    view = adjustments.apply(shown(path))
    where = looked_at(region, view)
    with pool.captioner(bundle) as captioner:
        size = getattr(captioner, "image_size", None)  # published captioners take the picture in its own shape
        pixels = read_image(path if adjustments == AS_IT_IS else view, size=size) if size else view
        options = options or all_beams(captioner.options)
        best = captioner.caption(pixels, options, region=where)
        choices = captioner.alternatives(pixels, best, options, region=where)
    captions, data = (dataclasses.replace(best, alternatives=()), *best.alternatives), pool.offer(bundle).calibrated_on
    return CaptionSession(bundle, view, pixels, adjustments, options, region, captions, choices, data)


def reworded(pool: CaptionerPool, described: CaptionSession, place: int, word: str) -> CaptionSession:
    """The caption with another of its choices at a place, and the rest of the sentence searched again."""
    if word not in [choice for choice, _ in described.choices[place]]:
        raise CaptioningError(f"{word} is none of the other words offered there; choose one of them.")
    caption, pixels, where = described.caption, described.pixels, described.where
    begin = [said.text for said in caption.words[:place]]
    with pool.captioner(described.bundle) as captioner:
        if word == ENDING:
            best = _ended(captioner, described, place)
        else:
            best = captioner.caption(pixels, described.options, begin=" ".join([*begin, word]), region=where)
        choices = captioner.alternatives(pixels, best, described.options, region=where)
    captions = (dataclasses.replace(best, alternatives=()), *best.alternatives)
    return dataclasses.replace(described, captions=captions, choices=choices, rank=0)


def _ended(captioner: Any, described: CaptionSession, place: int) -> Caption:
    words = described.caption.words[:place]
    language = described.caption.language
    tokenizer = captioner.speaking(language).tokenizer
    said = [tokenizer.id(word.text) for word in words]
    shares = [*(word.probability for word in words), dict(described.choices[place])[ENDING]]
    total = sum(math.log(max(share, 1e-9)) for share in shares)
    score = total / len(shares) ** described.options.length_penalty
    made = Caption(tokenizer.decode(said), words, score, language=language)
    return captioner.worded(made, described.options.language) if hasattr(captioner, "worded") else made


def turned(pool: CaptionerPool, described: CaptionSession, rank: int) -> CaptionSession:
    """The same picture with another of the captions found."""
    with pool.captioner(described.bundle) as captioner:
        chosen = described.captions[rank]
        choices = captioner.alternatives(described.pixels, chosen, described.options, region=described.where)
    return dataclasses.replace(described, rank=rank, choices=choices)


def options_of(values: Sequence[Any]) -> DecodeOptions:
    """The search that a page's controls are set to, in the order of CONTROLS; no more captions than it can find."""
    asked = dict(zip(CONTROLS, values, strict=True))
    for name in WORD_CONTROLS:
        asked[name] = tuple(re.findall(r"[^\s,;]+", asked[name]))
    room = {"greedy": 1, "beam": asked["num_beams"]}.get(asked["strategy"], asked["num_captions"])
    return DecodeOptions(**asked | {"num_captions": min(asked["num_captions"], room)})


def values_of(options: DecodeOptions) -> list[Any]:
    """The values of a page's controls for a search."""
    values = dataclasses.asdict(options)
    return [" ".join(values[name]) if name in WORD_CONTROLS else values[name] for name in CONTROLS]


def explained(error: CaptioningError) -> str:
    """An error's sentence for a page: controls in place of flags, and no folder of this machine."""
    if isinstance(error, ImageError) and error.reason == "missing":
        return "This picture is no longer kept here; choose it again."
    sentence = re.sub(r"--([a-z][a-z-]*)", _control_of, str(error))
    return re.sub(r"(?<!\S)/(?:[^\s/]+/)+(?=[^\s/])", "", sentence)


def _control_of(flag: re.Match[str]) -> str:
    is_control = flag[1].replace("-", "_") in CONTROLS
    return flag[1].replace("-", " ") if is_control else flag[0]  # a flag that the app is started with stays one


def sureness(confidence: float | None, verdict: str) -> str:
    """How sure a caption is, in a few words."""
    return SURENESS[verdict].format(confidence)


def told(described: CaptionSession) -> str:
    """The caption and how sure it is, in one sentence."""
    caption = described.caption
    return f"{str(caption) or 'No words'}. {sureness(caption.confidence, caption.verdict)}"


def first_noun(caption: Caption) -> int:
    """The place of the first word that is likely a noun: one that is not in a list of frequent other words."""
    return next((place for place, word in enumerate(caption.words) if word.text.lower() not in NO_NOUNS), 0)
