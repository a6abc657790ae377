"""Image in, Caption out: encoder, decoder, search and vocabulary of a bundle together.

The features of the last images are cached, so that a second search in the same image need not encode it again.
"""

import dataclasses
import hashlib
import io
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from PIL.Image import Image as PillowImage

from captioning.data.images import Source, read_image
from captioning.data.tokenizer import END, PAD, START, UNKNOWN, Tokenizer, normalise
from captioning.decoder.search import SearchResult, SearchRules
from captioning.errors import CaptioningError, ImageError
from captioning.inference.caption import Caption, Word
from captioning.inference.confidence import Calibration, signals
from captioning.inference.engine import Engine
from captioning.inference.familiarity import Familiarity
from captioning.inference.protocol import Description
from captioning.inference.regions import Region, regions_within
from captioning.options import DecodeOptions, changed

if TYPE_CHECKING:
    import keras

    from captioning.decoder.model import CaptionModel
    from captioning.inference.engine_keras import KerasEngine

BATCH = 64
KEPT = 256  # images whose features are cached
NO_CAPTION = -1e6  # scores below this belong to no caption
MOST_FORCED = 10  # words; the search keeps beams for every number of forced words that a caption has so far
UNSTATED = "en"  # language of a bundle that has further ones and does not state its own
ENDING = "(end)"  # the end of a caption, where words are listed
WEB_ADDRESS = re.compile("https?:/", re.IGNORECASE)  # one slash: pathlib.Path drops the other

Image = Source | bytes


class Captioner:
    """Captions images; an engine computes the features and the search.

    `others` builds the captioner of each further language, which shares the encoder and the cached features.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        image_size: int,
        options: DecodeOptions,
        calibration: Calibration | None = None,
        familiarity: Familiarity | None = None,
        others: Mapping[str, Callable[["Captioner"], "Captioner"]] = MappingProxyType({}),
    ) -> None:
        self.engine, self.tokenizer = engine, tokenizer
        self.image_size, self.options, self.calibration = image_size, options, calibration
        self.familiarity = familiarity
        self._lock = threading.Lock()  # one thread may encode images while another searches
        self._grids: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._others, self._built = others, dict[str, Captioner]()
        self.read_about: Callable[[], Description] = lambda: Description("captioner")

    def describe(self) -> Description:
        """Its name, its licence, its size and its languages."""
        return dataclasses.replace(self.read_about(), languages=self.languages)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of its captions, its own first; none where its bundle does not state them."""
        own = self.options.language or (UNSTATED if self._others else "")
        return tuple(filter(None, (own, *self._others)))

    def speaking(self, language: str) -> "Captioner":
        """The captioner of one of the languages; itself where that is "", its own or not stated."""
        if language in ("", *self.languages[:1]):
            return self
        if language not in self._others:
            known = ", ".join(self.languages) or "one language that it does not state"
            raise CaptioningError(f"This captioner has captions in {known}; --language {language} cannot be used.")
        if language not in self._built:
            self._built[language] = self._others[language](self)
            self._built[language]._grids = self._grids
        return self._built[language]

    @property
    def model(self) -> "CaptionModel":
        """The Keras model."""
        return self._keras_engine().model

    @property
    def encoder(self) -> "keras.Model":
        """The Keras encoder."""
        return self._keras_engine().encoder

    def _keras_engine(self) -> "KerasEngine":
        if self.engine.name != "keras":
            raise CaptioningError(
                'This captioner has no Keras model; load it with captioning.load(..., engine="keras").'
            )
        return cast("KerasEngine", self.engine)

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

    def features(
        self, images: Sequence[Image], options: DecodeOptions | None = None, *, cached: bool = True
    ) -> np.ndarray:
        """The features (N, L, D) of these images; not `cached` where the encoder is being trained."""
        return np.stack(self._encode_each(images, options or self.options, "raise", cached=cached))

    def _encode_each(
        self, images: Sequence[Image], options: DecodeOptions, on_error: str, *, cached: bool = True
    ) -> list[Any]:
        encoded: list[Any] = []
        for first in range(0, len(images), BATCH):
            places = range(first, min(first + BATCH, len(images)))
            read = [self._read(images[place], place, len(images), on_error) for place in places]
            pixels = [each for each in read if not isinstance(each, ImageError)]
            features = iter(self._encode(pixels, options, cached=cached) if pixels else ())
            encoded += [each if isinstance(each, ImageError) else next(features) for each in read]
        return encoded

    def _read(self, image: Image, place: int, count: int, on_error: str) -> np.ndarray | ImageError:
        try:
            return read_image(source_of(image), size=self.image_size)
        except ImageError as error:
            is_named = count == 1 or isinstance(image, (str, os.PathLike))
            error = error if is_named else ImageError(error.reason, f"images[{place}]: {error}")
            if on_error == "return":
                return error
            raise error from None

    def _encode(self, pixels: list[np.ndarray], options: DecodeOptions, *, cached: bool) -> list[np.ndarray]:
        encode = self._cached if cached else lambda some: list(self.engine.encode(np.stack(some)))
        features = encode(pixels)
        if options.mirrored:
            features = _mean(features, encode([picture[:, ::-1] for picture in pixels]))
        return features

    def _cached(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        names = [hashlib.sha1(picture.tobytes(), usedforsecurity=False).digest() for picture in pixels]
        with self._lock:
            kept = {name: self._grids[name] for name in names if name in self._grids}
        missing = {name: picture for name, picture in zip(names, pixels, strict=True) if name not in kept}
        if missing:
            kept.update(zip(missing, self.engine.encode(np.stack(list(missing.values()))), strict=True))
        with self._lock:
            for name in names:
                self._grids[name] = kept[name]
                self._grids.move_to_end(name)
            while len(self._grids) > KEPT:
                self._grids.popitem(last=False)
        return [kept[name] for name in names]

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
        if (speaker := self.speaking(options.language)) is not self:
            return speaker.caption_features(features, options, begin=begin, region=region)
        rules, prefix, where = self._rules(options), self._prefix(begin, options), self._where(region)
        rng = np.random.default_rng(options.sampling_seed)
        captions: list[Caption] = []
        for first in range(0, len(features), BATCH):
            part = np.asarray(features[first : first + BATCH])
            is_alone = len(features) <= BATCH or not self.engine.has_one_size
            padded = part if is_alone else _padded(part)
            alike = {
                name: np.repeat(row[None], len(padded), axis=0)
                for name, row in (("prefix", prefix), ("where", where))
                if row is not None
            }
            found = self.engine.search(padded, rules, is_full=len(padded) == BATCH, rng=rng, **alike)
            _refuse_nonsense(found)
            known = self.familiarity.is_familiar(part) if self.familiarity and part.ndim == 3 else [None] * len(part)
            captions += [self._caption(found, row, options, familiar) for row, familiar in enumerate(known)]
        return captions

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
        if (speaker := self.speaking(caption.language)) is not self:
            return speaker.alternatives(image, caption, options, count=count, region=region)
        where = self._where(region)
        state = self.engine.start(self.features([image], options), None if where is None else where[None])
        said = [self.tokenizer.id(word.text) for word in caption.words]
        found = []
        for last, chosen in zip([START, *said], [*said, END], strict=True):
            log_probs, state = self.engine.step(np.array([[last]], "int32"), state)
            probabilities = np.exp(log_probs[0, 0])
            probabilities[[PAD, START, UNKNOWN, chosen]] = 0
            best = [word for word in np.argsort(-probabilities) if probabilities[word] > 0]
            found.append([(self._name(word), float(probabilities[word])) for word in best[:count]])
        return found

    def _name(self, word: int) -> str:
        return ENDING if word == END else self.tokenizer.spell(self.tokenizer.words[word])

    def _rules(self, options: DecodeOptions) -> SearchRules:
        forced, forbidden = self._ids(options.force, "--force"), self._ids(options.forbid, "--forbid")
        if len(forced) > MOST_FORCED:
            raise CaptioningError(f"--force has {len(forced)} words; give at most {MOST_FORCED}.")
        # the confidence of a caption needs all beams
        count = options.num_beams if options.strategy == "beam" else options.num_captions
        compiled = dataclasses.replace(
            options, num_captions=count, force=(), forbid=(), sampling_seed=0, mirrored=False, language=""
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
        return None if region is None else regions_within(region, _side(self.engine.num_regions)).reshape(-1)

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
        words = tuple(
            Word(self.tokenizer.spell(text), float(probabilities[time]), maps[time]) for time, text in enumerate(texts)
        )
        language, score = next(iter(self.languages), ""), float(found.scores[row, rank])
        return Caption(self.tokenizer.decode(found.tokens[row, rank]), words, score, language=language)


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


def source_of(image: Any) -> Source:
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
