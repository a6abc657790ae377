"""The proof that an export captions as its bundle does: both caption drawn scenes and noise, and the differences count.

What does not pass is not written.
"""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from captioning.data.scenes.dataset import draw_scene
from captioning.errors import CaptioningError
from captioning.inference.captioner import Captioner

SCENES, NOISE = 16, 8
CLOSE = 1e-3  # largest difference of a caption's score in float32
ALIKE = 0.8  # least share of words in common where weights or products are rounded to 8 bits
LEAST_SCORE = 0.97  # of the CIDEr-D of the bundle, likewise


@dataclass(frozen=True)
class Proof:
    """How two captioners of the same weights differ on the same pictures."""

    pictures: int
    captions_equal: int
    words_alike: float  # share of words in common, F1
    largest_score_difference: float
    largest_feature_difference: float
    scores: dict[str, dict[str, float]] | None = None  # of both on a split, where data was given

    def facts(self) -> dict[str, Any]:
        """The proof as it is stored."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def text(self) -> str:
        """One line for the terminal."""
        scored = ""
        if self.scores:
            pairs = zip(self.scores["bundle"].items(), self.scores["export"].values(), strict=True)
            scored = "".join(f"; {name} {before:.3f} -> {after:.3f}" for (name, before), after in pairs)
        return (
            f"{self.captions_equal} of {self.pictures} captions equal, largest difference of a score "
            f"{self.largest_score_difference:.1e}, of a feature {self.largest_feature_difference:.1e}{scored}"
        )

    @property
    def is_equal(self) -> bool:
        """Whether both caption alike, as two programs in float32 do."""
        return self.captions_equal == self.pictures and self.largest_score_difference <= CLOSE

    @property
    def is_alike(self) -> bool:
        """Whether both are about as good."""
        pair = self.scores and [self.scores[who]["CIDEr-D"] for who in ("export", "bundle")]
        return self.words_alike >= ALIKE and (not pair or pair[0] >= LEAST_SCORE * pair[1])


def prove(ours: Captioner, exported: Captioner) -> Proof:
    """Caption the same pictures with both."""
    pictures = _pictures(ours.image_size)
    options = replace(ours.options, strategy="beam", num_captions=1, force=(), mirrored=False)
    features = [captioner.features(pictures, options) for captioner in (ours, exported)]
    captions = [captioner.caption(pictures, options) for captioner in (ours, exported)]
    pairs = list(zip(*captions, strict=True))
    equal = [one.text == other.text for one, other in pairs]
    return Proof(
        pictures=len(pictures),
        captions_equal=sum(equal),
        words_alike=round(float(np.mean([_alike(one.text, other.text) for one, other in pairs])), 4),
        largest_score_difference=float(max(abs(one.score - other.score) for one, other in pairs)),
        largest_feature_difference=float(np.abs(features[0] - features[1]).max()),
    )


def _alike(one: str, other: str) -> float:
    words, others = one.split(), other.split()
    shared = (Counter(words) & Counter(others)).total()
    return 2 * shared / max(len(words) + len(others), 1) if words or others else 1.0


def _pictures(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (size, size, 3), "uint8") for _ in range(NOISE)]
    return [np.asarray(draw_scene(0, number).image) for number in range(SCENES)] + noise


def require(passed: bool, proof: Proof, what: str) -> None:
    """Refuse an export that did not pass."""
    if not passed:
        raise CaptioningError(f"{what} does not caption as the bundle does ({proof.text()}); nothing was written.")
