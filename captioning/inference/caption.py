"""A caption and its words, as every captioner returns them."""

from dataclasses import dataclass

import numpy as np

from captioning.inference.confidence import Verdict, is_sure, verdict_of


@dataclass(frozen=True, eq=False, repr=False)
class Word:
    """One word, its probability, and its attention over the image, (rows, columns), summing to one; None: not known."""

    text: str
    probability: float
    attention: np.ndarray | None

    def __repr__(self) -> str:
        return f"Word({self.text!r}, probability={self.probability:.2f})"


@dataclass(frozen=True)
class Translation:
    """A caption in another language, and the model that translated it."""

    text: str
    language: str
    model: str


@dataclass(frozen=True, eq=False, repr=False)
class Caption:
    """A caption, word by word; `score` is its length-normalised log-probability, `alternatives` the next best ones.

    `confidence` is the calibrated probability that it is as good as an acceptable human caption (see confidence.py).
    It is None where the bundle has no calibration or the search was not a beam search. `familiar` is False for an image
    unlike those that the confidence was measured on, None where that is unknown. `language` is that of the text, ""
    where the bundle does not state one. `shared`: it was found for another picture of the same scene. `calibrated` is
    False for published models: the confidence is the mean probability of the caption's tokens, and never calls it sure.
    With a `translation` that is what is written, while words, confidence and score belong to `text`.
    """

    text: str
    words: tuple[Word, ...]
    score: float
    alternatives: tuple["Caption", ...] = ()
    confidence: float | None = None
    familiar: bool | None = None
    language: str = ""
    shared: bool = False
    calibrated: bool = True
    translation: Translation | None = None

    @property
    def written_language(self) -> str:
        """The language of what is written: that of the translation, where there is one."""
        return self.translation.language if self.translation else self.language

    @property
    def sure(self) -> bool | None:
        """Whether the confidence is at least 0.65 and the image is not unfamiliar; None where it is unknown."""
        return is_sure(self.confidence if self.calibrated else None, self.familiar)

    @property
    def verdict(self) -> Verdict:
        """One of "sure", "not sure", "unfamiliar" (which goes before the others), "not calibrated" and "unknown"."""
        return verdict_of(self.confidence, self.familiar, calibrated=self.calibrated)

    def __str__(self) -> str:
        return self.translation.text if self.translation else self.text

    def __repr__(self) -> str:
        confidence = "unknown" if self.confidence is None else f"{self.confidence:.2f}"
        return f"Caption({self.text!r}, confidence={confidence}, {len(self.words)} words)"
