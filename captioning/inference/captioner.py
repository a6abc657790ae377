"""Image in, Caption out: encoder, decoder, search and vocabulary of a bundle together.

The features of the last images are cached, so that a second search in the same image need not encode it again.
"""

import dataclasses
import functools
import hashlib
import io
import os
import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from keras import ops
from PIL.Image import Image as PillowImage

from captioning.data.images import Source, read_image
from captioning.data.tokenizer import END, PAD, START, UNKNOWN, Tokenizer, normalise
from captioning.decoder.search import CaptionSearch, SearchResult, SearchRules
from captioning.errors import CaptioningError, ImageError
from captioning.inference.caption import Caption, Word
from captioning.inference.confidence import Calibration, signals
from captioning.inference.familiarity import Familiarity
from captioning.inference.regions import Region, regions_within
from captioning.options import DecodeOptions, changed

BATCH = 64
MANY = 16  # full batches after which compiling a search with XLA pays off
KEPT = 256  # images whose features are cached
NO_CAPTION = -1e6  # scores below this belong to no caption
MOST_FORCED = 10  # words; the search keeps beams for every number of forced words that a caption has so far
ENDING = "(end)"  # the end of a caption, where words are listed
WEB_ADDRESS = re.compile("https?:/", re.IGNORECASE)  # one slash: pathlib.Path drops the other

Image = Source | bytes


class Captioner:
    """Captions images. `encoder` turns (B, H, W, 3) images into features; None where the model holds it."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        encoder: Any,
        image_size: int,
        options: DecodeOptions,
        calibration: Calibration | None = None,
        familiarity: Familiarity | None = None,
    ) -> None:
        self.model, self.tokenizer, self.encoder = model, tokenizer, encoder or model.encoder
        self.image_size, self.options, self.calibration = image_size, options, calibration
        self.familiarity = familiarity
        self._decoder = functools.lru_cache(maxsize=8)(lambda rules, jit: CaptionSearch(model, rules, jit=jit))
        self._full_batches: Counter[SearchRules] = Counter()
        self._grids: OrderedDict[bytes, np.ndarray] = OrderedDict()

    @overload
    def caption(self, images: Image, options: DecodeOptions | None = ..., **settings: Any) -> Caption: ...
    @overload
    def caption(
        self, images: list[Any] | tuple[Any, ...], options: DecodeOptions | None = ..., **settings: Any
    ) -> list[Any]: ...
    def caption(
        self,
        images: Any,
        options: DecodeOptions | None = None,
        *,
        begin: str = "",
        region: Region | None = None,
        on_error: str = "raise",
        **changes: Any,
    ) -> Any:
        """The Caption of one image, or a list of Captions for a list of images.

        An image is a path, the bytes of a file, an open binary file, a Pillow image or an array. `changes` are fields
        of DecodeOptions, such as num_beams=5, that differ from `options` or from the captioner's own. `begin` holds
        the words that every caption begins with; `region`, a box or a mask, confines the attention. With
        on_error="return", the ImageError of an image that cannot be read stands in its place.
        """
        if on_error not in ("raise", "return"):
            raise CaptioningError(f"on_error is {on_error!r}; expected 'raise' or 'return'.")
        options = changed(options or self.options, **changes)
        several = isinstance(images, (list, tuple))
        encoded = self._encode_each(images if several else [images], options, on_error)
        features = [each for each in encoded if not isinstance(each, ImageError)]
        captions = iter(
            self.caption_features(np.stack(features), options, begin=begin, region=region) if features else ()
        )
        found = [each if isinstance(each, ImageError) else next(captions) for each in encoded]
        return found if several else found[0]

    def features(self, images: Sequence[Image], options: DecodeOptions | None = None) -> np.ndarray:
        """The features (N, L, D) of these images."""
        return np.stack(self._encode_each(images, options or self.options, "raise"))

    def _encode_each(self, images: Sequence[Image], options: DecodeOptions, on_error: str) -> list[Any]:
        encoded: list[Any] = []
        for first in range(0, len(images), BATCH):
            places = range(first, min(first + BATCH, len(images)))
            read = [self._read(images[place], place, len(images), on_error) for place in places]
            pixels = [each for each in read if not isinstance(each, ImageError)]
            features = iter(self._encode(pixels, options) if pixels else ())
            encoded += [each if isinstance(each, ImageError) else next(features) for each in read]
        return encoded

    def _read(self, image: Image, place: int, count: int, on_error: str) -> np.ndarray | ImageError:
        try:
            return read_image(_source(image), size=self.image_size)
        except ImageError as error:
            is_named = count == 1 or isinstance(image, (str, os.PathLike))
            error = error if is_named else ImageError(error.reason, f"images[{place}]: {error}")
            if on_error == "return":
                return error
            raise error from None

    def _encode(self, pixels: list[np.ndarray], options: DecodeOptions) -> list[np.ndarray]:
        features = self._cached(pixels)
        if options.mirrored:
            features = _mean(features, self._cached([picture[:, ::-1] for picture in pixels]))
        return features

    def _cached(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
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
            known = self.familiarity.is_familiar(part) if self.familiarity and part.ndim == 3 else [None] * len(part)
            captions += [self._caption(found, row, options, familiar) for row, familiar in enumerate(known)]
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
        """For every word of a caption of this image, and for its end, the most likely others with probabilities."""
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
        if len(forced) > MOST_FORCED:
            raise CaptioningError(f"--force has {len(forced)} words; give at most {MOST_FORCED}.")
        # the confidence of a caption needs all beams
        count = options.num_beams if options.strategy == "beam" else options.num_captions
        compiled = dataclasses.replace(
            options, num_captions=count, force=(), forbid=(), sampling_seed=0, mirrored=False
        )
        return SearchRules(compiled, forced, forbidden)

    def _ids(self, phrases: Sequence[str], flag: str) -> tuple[int, ...]:
        words = list(dict.fromkeys(word for phrase in phrases for word in normalise(phrase)))
        strange = [word for word in words if self.tokenizer.id(word) == UNKNOWN]
        if strange and flag == "--force":
            raise CaptioningError(
                f"{flag} {strange[0]}: the vocabulary of this captioner lacks that word; choose another."
            )
        return tuple(self.tokenizer.id(word) for word in words if word not in strange)

    def _prefix(self, begin: str, options: DecodeOptions) -> np.ndarray | None:
        words = normalise(begin)
        strange = [word for word in words if self.tokenizer.id(word) == UNKNOWN]
        if strange:
            raise CaptioningError(
                f"A caption cannot begin with {strange[0]}: the vocabulary of this captioner lacks it; choose another."
            )
        if len(words) > options.max_length:
            raise CaptioningError(
                f"{len(words)} words to begin with do not fit into --max-length {options.max_length}; give fewer."
            )
        if not words:
            return None
        prefix = np.full(options.max_length, PAD, "int32")
        prefix[: len(words)] = [self.tokenizer.id(word) for word in words]
        return prefix

    def _where(self, region: Region | None) -> np.ndarray | None:
        return None if region is None else regions_within(region, _side(self.model.config.num_regions)).reshape(-1)

    def _caption(self, found: SearchResult, row: int, options: DecodeOptions, familiar: bool | None) -> Caption:
        ranks = [rank for rank in range(found.tokens.shape[1]) if _exists(found, row, rank)]
        best, *others = [self._spell(found, row, rank) for rank in ranks]
        sure = None
        if self.calibration and options.strategy == "beam":
            sure = self.calibration.confidence(*signals(best, others))
        others = others[: options.num_captions - 1]
        return dataclasses.replace(best, alternatives=tuple(others), confidence=sure, familiar=familiar)

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
    """The mean features of images and of their mirror images, which are turned back."""
    side = _side(len(grids[0]))
    turned = [grid.reshape(side, side, -1)[:, ::-1].reshape(grid.shape) for grid in mirrored]
    return [(one + other) / 2 for one, other in zip(grids, turned, strict=True)]


def _refuse_nonsense(found: SearchResult) -> None:
    if not (np.isfinite(found.log_probs[:, 0]).all() and np.isfinite(found.scores[:, 0]).all()):
        raise CaptioningError(
            "The model produced NaN for this image; its weights may be corrupt. Run python -m captioning doctor BUNDLE."
        )


def _source(image: Any) -> Source:
    """The image as read_image takes it; a web address and what cannot be an image are refused."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return io.BytesIO(image)
    if isinstance(image, (str, os.PathLike)) and WEB_ADDRESS.match(str(image)):
        raise ImageError("unreadable", f"{image} is a web address; download the image and give its file.")
    if isinstance(image, io.TextIOBase):
        raise ImageError("unreadable", "the file is open as text; open it with open(path, 'rb').")
    if isinstance(image, (str, os.PathLike, np.ndarray, PillowImage)) or hasattr(image, "seekable"):
        return image
    kind = type(image).__name__
    raise ImageError(
        "not_an_image", f"{kind} is no image; give a path, bytes, an open file, a Pillow image or an array."
    )


def _exists(found: SearchResult, row: int, rank: int) -> bool:
    return rank == 0 or float(found.scores[row, rank]) > NO_CAPTION


def _padded(part: np.ndarray) -> np.ndarray:
    return np.concatenate([part, np.repeat(part[-1:], BATCH - len(part), axis=0)])
