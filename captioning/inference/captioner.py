"""Image in, Caption out: the model, the words and the eye of a bundle, working together.

Knows nothing of files beyond the images themselves. Images are looked at once: the grids of the last ones are kept.
"""

import dataclasses
import functools
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from captioning.data.images import read_image
from captioning.data.tokenizer import END, PAD, START, UNKNOWN, Tokenizer, normalise
from captioning.decoder.search import CaptionSearch, SearchResult, SearchRules
from captioning.errors import CaptioningError
from captioning.inference.confidence import Calibration, signals
from captioning.inference.regions import Region, regions_within
from captioning.options import DecodeOptions

BATCH = 64
MANY = 16  # full batches after which a search is worth being compiled once more, by XLA
KEPT = 256  # images whose grids are remembered
NO_CAPTION = -1e6  # scores below this belong to no caption
ENDING = "(end)"  # how the end of a caption is called where words are listed


@dataclasses.dataclass(frozen=True, eq=False)
class Word:
    """One word: its probability and where the network looked for it, (rows, columns), summing to one."""

    text: str
    probability: float
    attention: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Caption:
    """A caption, word by word; `score` is its length-normalised log-probability, `alternatives` the next best ones.

    `confidence` is the share of captions like it that were as good as people's on the validation split (see
    confidence.py); None where the bundle has no such record or the caption was not found by a search with beams.
    """

    text: str
    words: tuple[Word, ...]
    score: float
    alternatives: tuple["Caption", ...] = ()
    confidence: float | None = None

    def __str__(self) -> str:
        return self.text


class Captioner:
    """Captions images; `encoder` turns (B, H, W, 3) images into grids, or is None where the model holds it."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        encoder: Any,
        image_size: int,
        options: DecodeOptions,
        calibration: Calibration | None = None,
    ) -> None:
        self.model, self.tokenizer, self.encoder = model, tokenizer, encoder or model.encoder
        self.image_size, self.options, self.calibration = image_size, options, calibration
        self._decoder = functools.lru_cache(maxsize=8)(lambda rules, jit: CaptionSearch(model, rules, jit=jit))
        self._full_batches: Counter[SearchRules] = Counter()
        self._grids: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def caption(
        self, images: Any, options: DecodeOptions | None = None, *, begin: str = "", region: Region | None = None
    ) -> Any:
        """The Caption of one image (path, PIL image or array), or a list of Captions for a list of images.

        `begin` holds words that every caption begins with; `region`, a box or a mask, is all that is looked at.
        """
        if isinstance(images, (list, tuple)):
            if not images:
                return []
            return self.caption_features(self.features(images, options), options, begin=begin, region=region)
        return self.caption([images], options, begin=begin, region=region)[0]

    def features(self, images: Sequence[Any], options: DecodeOptions | None = None) -> np.ndarray:
        """The grids (N, L, D) that the model is shown for these images."""
        options = options or self.options
        grids: list[Any] = []
        for first in range(0, len(images), BATCH):
            pixels = [read_image(image, size=self.image_size) for image in images[first : first + BATCH]]
            seen = self._look(pixels)
            if options.mirrored:
                seen = _mean(seen, self._look([picture[:, ::-1] for picture in pixels]))
            grids += seen
        return np.stack(grids)

    def _look(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        names = [hashlib.sha1(picture.tobytes(), usedforsecurity=False).digest() for picture in pixels]
        missing = {name: picture for name, picture in zip(names, pixels, strict=True) if name not in self._grids}
        if missing:
            grids = self.encoder.predict_on_batch(np.stack(list(missing.values())))
            self._grids.update(zip(missing, grids, strict=True))
        found = [self._grids[name] for name in names]
        for name in names:
            self._grids.move_to_end(name)
        while len(self._grids) > KEPT:
            self._grids.popitem(last=False)
        return found

    def caption_features(
        self,
        features: np.ndarray,
        options: DecodeOptions | None = None,
        *,
        begin: str = "",
        region: Region | None = None,
    ) -> list[Caption]:
        """The Captions for features as `features` gives them, or for images where the model holds the encoder."""
        options = options or self.options
        rules, prefix, where = self._rules(options), self._prefix(begin, options), self._where(region)
        rng = np.random.default_rng(options.sampling_seed)
        captions: list[Caption] = []
        for first in range(0, len(features), BATCH):
            part = np.asarray(features[first : first + BATCH])
            padded = part if len(features) <= BATCH else _padded(part)  # one shape, compiled once
            alike = {
                name: np.repeat(row[None], len(padded), axis=0)
                for name, row in (("prefix", prefix), ("where", where))
                if row is not None
            }
            found = self._decoder_for(rules, len(padded)).search(padded, rng=rng, **alike)
            _refuse_nonsense(found)
            captions += [self._caption(found, row, options) for row in range(len(part))]
        return captions

    def _decoder_for(self, rules: SearchRules, count: int) -> CaptionSearch:
        is_full = count == BATCH
        if is_full:
            self._full_batches[rules] += 1
        return self._decoder(rules, is_full and self._full_batches[rules] > MANY)

    def alternatives(
        self,
        image: Any,
        caption: Caption,
        options: DecodeOptions | None = None,
        *,
        count: int = 5,
        region: Region | None = None,
    ) -> list[list[tuple[str, float]]]:
        """For every word of a caption of this image, and for its end, the likeliest others with their probabilities."""
        where = self._where(region)
        state = self.model.start(self.features([image], options), 1, None if where is None else where[None])
        said = [self.tokenizer.id(word.text) for word in caption.words]
        found = []
        for last, chosen in zip([START, *said], [*said, END], strict=True):
            log_probs, state, _ = self.model.step(np.array([[last]], "int32"), state)
            probabilities = np.exp(ops.convert_to_numpy(log_probs)[0, 0])
            probabilities[[PAD, START, UNKNOWN, chosen]] = 0
            best = [word for word in np.argsort(-probabilities) if probabilities[word] > 0]
            found.append([(self._name(word), float(probabilities[word])) for word in best[:count]])
        return found

    def _name(self, word: int) -> str:
        return ENDING if word == END else self.tokenizer.words[word]

    def _rules(self, options: DecodeOptions) -> SearchRules:
        forced, forbidden = self._ids(options.force, "--force"), self._ids(options.forbid, "--forbid")
        count = options.num_beams if options.strategy == "beam" else options.num_captions  # all beams tell how sure
        compiled = dataclasses.replace(
            options, num_captions=count, force=(), forbid=(), sampling_seed=0, mirrored=False
        )
        return SearchRules(compiled, forced, forbidden)

    def _ids(self, phrases: Sequence[str], flag: str) -> tuple[int, ...]:
        words = list(dict.fromkeys(word for phrase in phrases for word in normalise(phrase)))
        strange = [word for word in words if self.tokenizer.id(word) == UNKNOWN]
        if strange and flag == "--force":
            raise CaptioningError(
                f"{flag} {strange[0]}: this captioner never learnt that word; choose one of its vocabulary."
            )
        return tuple(self.tokenizer.id(word) for word in words if word not in strange)

    def _prefix(self, begin: str, options: DecodeOptions) -> np.ndarray | None:
        words = normalise(begin)
        strange = [word for word in words if self.tokenizer.id(word) == UNKNOWN]
        if strange:
            raise CaptioningError(f"A caption cannot begin with {strange[0]}: this captioner never learnt that word.")
        if len(words) > options.max_length:
            raise CaptioningError(
                f"{len(words)} words to begin with do not fit into --max-length {options.max_length}."
            )
        if not words:
            return None
        prefix = np.full(options.max_length, PAD, "int32")
        prefix[: len(words)] = [self.tokenizer.id(word) for word in words]
        return prefix

    def _where(self, region: Region | None) -> np.ndarray | None:
        return None if region is None else regions_within(region, _side(self.model.config.num_regions)).reshape(-1)

    def _caption(self, found: SearchResult, row: int, options: DecodeOptions) -> Caption:
        ranks = [rank for rank in range(found.tokens.shape[1]) if _exists(found, row, rank)]
        best, *others = [self._spell(found, row, rank) for rank in ranks]
        sure = None
        if self.calibration and options.strategy == "beam":
            sure = self.calibration.confidence(*signals(best, others))
        return dataclasses.replace(best, alternatives=tuple(others[: options.num_captions - 1]), confidence=sure)

    def _spell(self, found: SearchResult, row: int, rank: int) -> Caption:
        texts = self.tokenizer.split(found.tokens[row, rank])
        probabilities = np.exp(found.log_probs[row, rank])
        side = _side(found.attention.shape[-1])
        maps = found.attention[row, rank].reshape(-1, side, side)
        words = tuple(Word(text, float(probabilities[time]), maps[time]) for time, text in enumerate(texts))
        return Caption(self.tokenizer.decode(found.tokens[row, rank]), words, float(found.scores[row, rank]))


def _side(num_regions: int) -> int:
    return int(np.sqrt(num_regions))


def _mean(grids: Sequence[np.ndarray], mirrored: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What was seen of pictures and of their mirror images, each part where it is in the picture."""
    side = _side(len(grids[0]))
    turned = [grid.reshape(side, side, -1)[:, ::-1].reshape(grid.shape) for grid in mirrored]
    return [(one + other) / 2 for one, other in zip(grids, turned, strict=True)]


def _refuse_nonsense(found: SearchResult) -> None:
    if np.isnan(found.log_probs[:, 0]).any():
        raise CaptioningError(
            "The network's numbers for this picture are none (NaN), so there is no caption of it: its weights or its"
            " arithmetic are broken; python -m captioning doctor says more of a bundle."
        )


def _exists(found: SearchResult, row: int, rank: int) -> bool:
    return rank == 0 or float(found.scores[row, rank]) > NO_CAPTION


def _padded(part: np.ndarray) -> np.ndarray:
    return np.concatenate([part, np.repeat(part[-1:], BATCH - len(part), axis=0)])
