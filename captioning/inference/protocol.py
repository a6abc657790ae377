"""What every captioner offers, ours or a published one; whatever captions, scores or serves needs no more of it."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np

from captioning.inference.caption import Caption
from captioning.options import DecodeOptions


@dataclass(frozen=True)
class Description:
    """A captioner in a few facts; what is not known is empty or 0."""

    name: str
    licence: str = ""  # of its weights
    size: int = 0  # bytes of its weights
    languages: tuple[str, ...] = ()  # of its captions


class AnyCaptioner(Protocol):
    """A captioner. Its captions may lack attention and confidence; `options` are its own decode options."""

    options: DecodeOptions

    def caption(self, images: Any, options: DecodeOptions | None = None, **settings: Any) -> Any:
        """The Caption of an image, or a list of them for a list of images; see Captioner.caption."""

    def describe(self) -> Description:
        """Its name, its licence, its size and its languages."""


class EncodesApart(Protocol):
    """A captioner that encodes images apart from captioning them, so that one batch is read while another is said."""

    image_size: int

    def features(self, images: Any, options: DecodeOptions | None = None) -> np.ndarray:
        """The features of these images."""

    def caption_features(
        self, features: np.ndarray, options: DecodeOptions | None = None, **settings: Any
    ) -> list[Caption]:
        """The captions for these features."""


def encodes_apart(captioner: Any) -> TypeGuard[EncodesApart]:
    """Whether a captioner encodes images apart from captioning them."""
    return hasattr(captioner, "caption_features")


def shows_attention(caption: Caption) -> bool:
    """Whether every word of a caption has its attention over the image."""
    return all(word.attention is not None for word in caption.words)
