"""A published captioner behind the protocol of ours: BLIP, BLIP-2, GIT, ViT-GPT2 and Florence-2.

Confidence is the mean probability of a caption's tokens, which is not calibrated. Attention is that of the last layer
over the patches of the picture, where the model has one.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from captioning.data.images import read_image
from captioning.errors import BundleError, CaptioningError, ImageError
from captioning.extras.hf_families import CAPTION_TASK, FAMILIES, Family
from captioning.extras.hf_files import check_folder, weight_bytes
from captioning.extras.hf_generation import Found, generate, one_line, printable
from captioning.extras.hf_hub import Consent, folder_of
from captioning.extras.hf_models import explain_memory, load_model, load_processor
from captioning.extras.published import PUBLISHED
from captioning.inference.caption import Caption, Word
from captioning.inference.captioner import source_of
from captioning.inference.protocol import Description
from captioning.inference.regions import Region, bounds
from captioning.options import DecodeOptions, changed
from captioning.runtime.read_ahead import map_ahead

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

OWN = DecodeOptions(max_length=30, length_penalty=1.0, no_repeat_ngram_size=0)  # as these models were published with
AT_ONCE = 8  # pictures in a batch
LONGEST = 2048  # pixels of the longer side of a picture: more than any of these models takes


class Prepared(NamedTuple):
    """A picture as its model takes it, and how wide and high it was."""

    pixels: np.ndarray  # (3, H, W)
    width: int
    height: int


class PublishedCaptioner:
    """A model with its image processor and its tokenizer; see inference/protocol.py."""

    def __init__(
        self,
        model: "PreTrainedModel",
        image_processor: "BaseImageProcessor",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        about: Description,
        processor: "ProcessorMixin | None" = None,
    ) -> None:
        self.model, self.image_processor, self.tokenizer, self.processor = model, image_processor, tokenizer, processor
        self.family: Family = FAMILIES[model.config.model_type]
        self.options, self.about = OWN, about
        self.prompt = _prompt(processor) if model.config.model_type == "florence2" else None
        self._lock = threading.Lock()

    def describe(self) -> Description:
        """Its name, its licence, its size and its languages."""
        return self.about

    def speaking(self, language: str) -> "PublishedCaptioner":
        """Itself; a language that it does not have is refused."""
        if language and language not in self.about.languages:
            known = ", ".join(self.about.languages) or "one language that it does not state"
            raise CaptioningError(f"{self.about.name} has captions in {known}; --language {language} cannot be used.")
        return self

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
        """The Caption of one image, or a list of Captions; see Captioner.caption. A region is cut out of the image."""
        options = changed(options or self.options, **changes)
        self.speaking(options.language)
        if begin:
            raise CaptioningError(f"{self.about.name} cannot go on from given words; leave out --begin.")
        several = isinstance(images, list | tuple)
        read = [each for _, each in map_ahead(lambda one: self._read(one, region), images if several else [images], 8)]
        if on_error == "raise":
            for each in read:
                if isinstance(each, ImageError):
                    raise each
        captions = iter(self._caption([each for each in read if isinstance(each, Prepared)], options))
        found = [each if isinstance(each, ImageError) else next(captions) for each in read]
        return found if several else found[0]

    def alternatives(self, image: Any, caption: Caption, options: DecodeOptions | None = None, **_: Any) -> list[Any]:
        """Other words for each word of a caption and for its end: none, since words are made of several tokens."""
        return [[] for _ in range(len(caption.words) + 1)]

    def _read(self, image: Any, region: Region | None) -> Prepared | ImageError:
        try:
            pixels = read_image(source_of(image), longest=LONGEST)
        except ImageError as error:
            return error
        if region is not None:
            pixels = pixels[bounds(region, pixels.shape[:2])]
        made = self.image_processor(images=pixels, return_tensors="np", input_data_format="channels_last")
        return Prepared(np.asarray(made["pixel_values"][0], "float32"), pixels.shape[1], pixels.shape[0])

    def _caption(self, pictures: Sequence[Prepared], options: DecodeOptions) -> list[Caption]:
        captions: list[Caption] = []
        size = sum(each.numel() * each.element_size() for each in self.model.parameters())
        for first in range(0, len(pictures), AT_ONCE):
            part = pictures[first : first + AT_ONCE]
            with self._lock, explain_memory(self.about.name, size):
                found = generate(self, np.stack([each.pixels for each in part]), options)
            captions += [self._spoken(each, picture) for each, picture in zip(found, part, strict=True)]
        return captions

    def _spoken(self, found: Sequence[Found], picture: Prepared) -> Caption:
        best, *others = [self._spell(each, picture) for each in found]
        return replace(best, alternatives=tuple(others))

    def _spell(self, found: Found, picture: Prepared) -> Caption:
        probabilities = np.exp(found.log_probs[: len(found.tokens)])
        groups = words_of(self.tokenizer, found.tokens)
        words = tuple(
            Word(text, float(np.prod(probabilities[places])), self._map(found.attention, places, picture))
            for text, places in groups
        )
        mean = float(probabilities.mean()) if len(probabilities) else None
        text = one_line(self.tokenizer.decode(found.tokens, skip_special_tokens=True))
        language = next(iter(self.about.languages), "")
        return Caption(text, words, found.score, confidence=mean, language=language, calibrated=False)

    def _map(self, attention: np.ndarray | None, places: Sequence[int], picture: Prepared) -> np.ndarray | None:
        if attention is None:
            return None
        weights = attention[places].mean(0)
        side = round(len(weights) ** 0.5)
        if side * side != len(weights):
            return None
        grid = weights.reshape(side, side)
        if getattr(self.image_processor, "do_center_crop", False):
            grid = uncropped(grid, picture.width, picture.height)
        return grid / max(grid.sum(), 1e-9)


def words_of(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> list[tuple[str, list[int]]]:
    """The words of tokens, each with the places of its tokens; a word may be made of several."""
    words: list[tuple[str, list[int]]] = []
    before, spaces = "", list[int]()  # the places of spaces before a word
    for place in range(len(tokens)):
        text = printable(tokenizer.decode(tokens[: place + 1], skip_special_tokens=True))
        fresh, before = text[len(before) :], text
        if fresh.isspace():
            spaces.append(place)
        elif fresh and (not words or spaces or fresh[0].isspace()):
            words.append((fresh.strip(), [*spaces, place]))
            spaces = []
        elif words:
            words[-1] = words[-1][0] + fresh, [*words[-1][1], place]
    return words


def uncropped(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    """Attention over the central square of a picture as attention over the whole picture: 0 beside the square."""
    side = len(grid)
    rows, columns = (max(side, round(side * length / min(width, height))) for length in (height, width))
    whole = np.zeros((rows, columns), grid.dtype)
    top, left = (rows - side) // 2, (columns - side) // 2
    whole[top : top + side, left : left + side] = grid
    return whole


def load_published(name: str, *, offline: bool, consent: Consent | None = None) -> PublishedCaptioner:
    """The published captioner of a short name, of a name on the hub, or of a folder."""
    known = PUBLISHED.get(name)
    address = known.address if known else name
    folder = folder_of(address, offline=offline, consent=consent)
    kind = check_folder(folder)["model_type"]
    if kind not in FAMILIES:
        raise BundleError(f"{name} is a model of type {kind}, not a captioner; expected one of {', '.join(FAMILIES)}.")
    family = FAMILIES[kind]
    settings: Mapping[str, str] = {"attn_implementation": "eager"} if family.attend else {}
    model = load_model(family.model_class, str(folder), offline=True, settings=settings)
    processor = load_processor("AutoProcessor", str(folder), offline=True) if family.has_processor else None
    tokenizer = processor.tokenizer if processor else load_processor("AutoTokenizer", str(folder), offline=True)
    images = processor.image_processor if processor else load_processor("AutoImageProcessor", str(folder), offline=True)
    about = Description(
        name if known else Path(name).name,
        known.licence if known else "",
        weight_bytes(folder),
        known.languages if known else (),
    )
    return PublishedCaptioner(model, images, tokenizer, about=about, processor=processor)


def _prompt(processor: "ProcessorMixin") -> "Tensor":
    """The tokens (1, T) of the prompt that asks for a caption, with those that stand for the picture."""
    blank = np.zeros((32, 32, 3), "uint8")
    return processor(images=blank, text=CAPTION_TASK, return_tensors="pt")["input_ids"]
