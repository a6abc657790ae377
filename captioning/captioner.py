"""Image in, Caption out: the model, the words and the eye of a bundle, working together.

Knows nothing of files beyond the images themselves.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from captioning.decoding import Decoded, Decoder, Rules
from captioning.errors import CaptioningError
from captioning.images import read_image
from captioning.options import DecodeOptions
from captioning.tokenizer import UNKNOWN, Tokenizer, normalise

BATCH = 64
NO_CAPTION = -1e6  # scores below this belong to no caption


@dataclasses.dataclass(frozen=True, eq=False)
class Word:
    """One word: its probability and where the network looked for it, (rows, columns), summing to one."""

    text: str
    probability: float
    attention: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Caption:
    """A caption, word by word; `score` is its length-normalised log-probability, `alternatives` the next best ones."""

    text: str
    words: tuple[Word, ...]
    score: float
    alternatives: tuple["Caption", ...] = ()

    def __str__(self) -> str:
        return self.text


class Captioner:
    """Captions images; `encoder` turns (B, H, W, 3) images into grids, or is None where the model holds it."""

    def __init__(
        self, model: Any, tokenizer: Tokenizer, *, encoder: Any, image_size: int, options: DecodeOptions
    ) -> None:
        self.model, self.tokenizer, self.encoder = model, tokenizer, encoder
        self.image_size, self.options = image_size, options
        self._decoder = functools.lru_cache(maxsize=8)(lambda rules: Decoder(model, rules))

    def caption(self, images: Any, options: DecodeOptions | None = None) -> Any:
        """The Caption of one image (path, PIL image or array), or a list of Captions for a list of images."""
        if isinstance(images, (list, tuple)):
            return self.caption_features(self.features(images), options) if images else []
        return self.caption_features(self.features([images]), options)[0]

    def features(self, images: Sequence[Any]) -> np.ndarray:
        """What the model is shown for these images: grids (N, L, D), or pixels where it holds its own encoder."""
        pixels = np.stack([read_image(image, size=self.image_size) for image in images])
        if self.encoder is None:
            return pixels
        parts = [self.encoder.predict_on_batch(pixels[first : first + BATCH]) for first in range(0, len(pixels), BATCH)]
        return np.concatenate(parts)

    def caption_features(self, features: np.ndarray, options: DecodeOptions | None = None) -> list[Caption]:
        """The Captions for features as `features` gives them."""
        options = options or self.options
        decoder = self._decoder(self._rules(options))
        chance = np.random.default_rng(options.sampling_seed)
        captions: list[Caption] = []
        for first in range(0, len(features), BATCH):
            part = np.asarray(features[first : first + BATCH])
            padded = part if len(features) <= BATCH else _padded(part)  # one shape, compiled once
            found = decoder.search(padded, chance=chance)
            captions += [self._caption(found, row) for row in range(len(part))]
        return captions

    def _rules(self, options: DecodeOptions) -> Rules:
        forced, forbidden = self._ids(options.force, "--force"), self._ids(options.forbid, "--forbid")
        compiled = dataclasses.replace(options, force=(), forbid=(), sampling_seed=0)  # one search for every seed
        return Rules(compiled, forced, forbidden)

    def _ids(self, phrases: Sequence[str], flag: str) -> tuple[int, ...]:
        words = list(dict.fromkeys(word for phrase in phrases for word in normalise(phrase)))
        strange = [word for word in words if self.tokenizer.id(word) == UNKNOWN]
        if strange and flag == "--force":
            raise CaptioningError(
                f"{flag} {strange[0]}: this captioner never learnt that word; choose one of its vocabulary."
            )
        return tuple(self.tokenizer.id(word) for word in words if word not in strange)

    def _caption(self, found: Decoded, row: int) -> Caption:
        best, *others = [
            self._spell(found, row, rank) for rank in range(found.tokens.shape[1]) if _exists(found, row, rank)
        ]
        return Caption(best.text, best.words, best.score, tuple(others))

    def _spell(self, found: Decoded, row: int, rank: int) -> Caption:
        texts = self.tokenizer.split(found.tokens[row, rank])
        probabilities = np.exp(found.log_probs[row, rank])
        side = int(np.sqrt(found.attention.shape[-1]))
        maps = found.attention[row, rank].reshape(-1, side, side)
        words = tuple(Word(text, float(probabilities[time]), maps[time]) for time, text in enumerate(texts))
        return Caption(self.tokenizer.decode(found.tokens[row, rank]), words, float(found.scores[row, rank]))


def _exists(found: Decoded, row: int, rank: int) -> bool:
    return rank == 0 or float(found.scores[row, rank]) > NO_CAPTION


def _padded(part: np.ndarray) -> np.ndarray:
    return np.concatenate([part, np.repeat(part[-1:], BATCH - len(part), axis=0)])
