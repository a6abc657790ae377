"""Bundles as people choose them: what each was trained on, how well it does, and the order in which they are offered.

All of it is read from config.json and the scores.json that it lists. No captioner is opened, and what cannot be read
counts as unknown.
"""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioning.errors import BundleError
from captioning.inference.bundle_files import read_config, read_listed
from captioning.options import is_language
from captioning.runtime import strict_json

KINDS = {
    "flickr8k": ("Photographs (Flickr8k)", "photographs of people and animals"),
    "flickr30k": ("Photographs (Flickr30k)", "photographs of people"),
    "coco": ("Photographs (COCO)", "photographs of everyday scenes"),
    "scenes": ("Drawn scenes", "the built-in drawn scenes"),
}
SPLITS = ("dev", "test")  # whose scores are shown: the first that there is
LONGEST = 40  # characters of a data set's name


@dataclass(frozen=True)
class Offer:
    """One bundle; `score` and `low` are its CIDEr-D and the lower end of the 95 % interval, None where not measured."""

    name: str  # of the folder
    data: str = ""
    encoder: str = ""
    has_encoder: bool = False  # all weights of its encoder are in the bundle
    is_calibrated: bool = False
    calibrated_on: str = ""  # whose pictures, in words
    images: int = 0  # that it was scored on
    score: float | None = None
    low: float | None = None
    bleu: float | None = None
    languages: tuple[str, ...] = ()  # of its captions beside its own
    published: str = ""  # what is said of a published model or a cascade, which is no bundle

    @property
    def is_drawn(self) -> bool:
        """Whether it was trained on the built-in drawn scenes."""
        return _plain(self.data) in ("scenes", "scenessmoke")

    def needs_download(self, encoder_weights: str) -> bool:
        """Whether its encoder's ImageNet weights have to be fetched first."""
        return not (self.has_encoder or encoder_weights != "imagenet" or is_cached(self.encoder))

    def label(self, encoder_weights: str) -> str:
        """A few words to choose it by."""
        kind = self._kind[0] if self.data else self.name
        score = "" if self.score is None else f", CIDEr-D {self.score:.3f}"
        return kind + score + (", needs a download" if self.needs_download(encoder_weights) else "")

    def sentence(self, encoder_weights: str) -> str:
        """What it is good for and its scores."""
        if self.published:
            return self.published
        says = f"Good for {self._kind[1]}." if self.data else "It does not say which pictures it was trained on."
        if self.score is not None and self.bleu is not None:
            measured = f"{self.images:,} validation pictures" if self.images else "validation pictures"
            says += f" CIDEr-D {self.score:.3f} and BLEU-4 {self.bleu:.3f} on {measured}."
        if self.needs_download(encoder_weights):
            says += f" The weights of its encoder ({self.encoder}) are downloaded when it is first opened."
        return says

    @property
    def _kind(self) -> tuple[str, str]:
        name = self.data[:LONGEST]
        plain = "scenes" if self.is_drawn else _plain(self.data)
        return KINDS.get(plain, (f"Pictures like {name}", f"pictures like those of {name}"))


def rank(offer: Offer, encoder_weights: str = "imagenet") -> tuple[Any, ...]:
    """Sorts offers: what opens without a download, of that photographs, calibrated confidence, then the higher score.

    The score is the lower end of its interval, so that few validation pictures count for less.
    """
    low = -1.0 if offer.low is None else offer.low
    return offer.needs_download(encoder_weights), offer.is_drawn, not offer.is_calibrated, -low, offer.name


def labels(offers: Iterable[Offer], encoder_weights: str = "imagenet") -> dict[str, str]:
    """The label of each by name; the folder's name is added where two would be called alike."""
    found = {offer.name: offer.label(encoder_weights) for offer in offers}
    called = list(found.values())
    return {name: label if called.count(label) == 1 else f"{label} ({name})" for name, label in found.items()}


def read_offer(folder: Path) -> Offer:
    """The offer of a bundle's folder."""
    name, config, cards = folder.resolve().name, _config(folder), _cards(folder)
    about, encoder = _part(config, "about"), _part(config, "encoder")
    card = next((_part(cards, split) for split in SPLITS if split in cards), {})
    scores = _part(card, "scores")
    cider, images = _part(scores, "CIDEr-D"), card.get("images")
    data = str(about.get("data") or "")
    measured_on = str(about.get("calibrated_on") or data)
    is_inherited = about.get("calibration") == "base model"
    return Offer(
        name,
        data=data,
        encoder=str(encoder.get("name") or ""),
        has_encoder=encoder.get("trained") is True and encoder.get("whole", True) is True,
        is_calibrated=bool(config.get("calibration")),
        calibrated_on=f"that of its base model {about.get('base', '')}" if is_inherited else measured_on,
        images=images if isinstance(images, int) else 0,
        score=_number(cider, "value"),
        low=_number(cider, "low"),
        bleu=_number(_part(scores, "BLEU-4"), "value"),
        languages=tuple(filter(is_language, _part(config, "languages"))),
    )


def is_cached(encoder: str) -> bool:
    """Whether Keras has fetched the weights of this encoder before."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    names = [re.sub("[^a-z0-9]", "", path.name.lower()) for path in (home / "models").glob("*.h5")]
    return any(re.match(rf"{re.escape(encoder)}(weights\w*)?notop", name) for name in names) if encoder else False


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_config(folder)
    except BundleError:
        return {}


def _cards(folder: Path) -> dict[str, Any]:
    try:
        found = strict_json.loads(read_listed(folder, "scores.json"))
    except (BundleError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(record: dict[str, Any], name: str) -> dict[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _number(record: dict[str, Any], name: str) -> float | None:
    value = record.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
