"""One caption for the pictures of a burst, and for copies: which of a run's pictures show a scene captioned before."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from captioning.data.image_index import SCENES, SceneIndex

if TYPE_CHECKING:
    from captioning.inference.caption import Caption

AHEAD = 1000  # pictures that are read before the captions of earlier ones are there, at most


class SharedCaptions:
    """The captions of the scenes seen so far, by number."""

    def __init__(self) -> None:
        self._scenes = SceneIndex()
        self._captions: dict[int, Caption] = {}

    def scene_of(self, pixels: np.ndarray) -> tuple[int, bool]:
        """The number of the scene that (size, size, 3) pixels show, and whether no picture before them did."""
        return self._scenes.number_of(pixels)

    def add(self, scene: int, caption: "Caption") -> None:
        """Notes the caption of a scene's first picture, without its attention, which is of that picture alone."""
        others = tuple(replace(other, words=()) for other in caption.alternatives)
        self._captions[scene] = replace(caption, words=(), alternatives=others, shared=True)
        self._captions.pop(scene - SCENES - AHEAD, None)

    def caption_of(self, scene: int) -> "Caption":
        """The caption of a scene, for another picture of it."""
        return self._captions[scene]
