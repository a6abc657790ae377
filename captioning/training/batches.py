"""Batches of (inputs, targets, weights), one row per image with its R captions.

The order of an epoch depends on the seed and the epoch only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from captioning.encoders.features import Features
from captioning.encoders.views import cropped

if TYPE_CHECKING:
    from captioning.training.sentences import WithAverage

Batch = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]  # inputs, targets, weights


@dataclass(frozen=True)
class Examples:
    """Images as rows of one array, and their captions as ids: `tokens[i]` is (captions of image i, T + 1)."""

    array: "np.ndarray | WithAverage"  # (rows, L, D) grids or (rows, H, W, 3) images
    rows: np.ndarray  # (N, views) rows of each image; each epoch of training uses one of its views
    tokens: list[np.ndarray]
    names: Sequence[str] = ()  # of the images, for error messages
    crop: float = 1.0  # smallest side of random crops in training, as a fraction; 1: whole images

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_captions(self) -> int:
        """The number of captions of all images."""
        return sum(map(len, self.tokens))


def examples_of(
    features: Features, split: Mapping[Path, Sequence[str]], encode: Callable[[Sequence[str]], np.ndarray]
) -> Examples:
    """The examples of a split {image: captions}; `encode` turns captions into (captions, T + 1) ids."""
    rows = [[features.rows[image], *features.views.get(image, ())] for image in split]
    tokens = [encode(captions) for captions in split.values()]
    return Examples(features.array, np.array(rows), tokens, [str(image) for image in split])


class Batches(keras.utils.PyDataset):
    """One epoch of batches, B images with R captions each. Padding of the last batch has weight zero."""

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        captions_per_image: int,
        order: np.random.Generator | None,
        first: int = 0,
    ) -> None:
        # with 1 worker TensorFlow autotunes for up to 20 s after an epoch; with 2 JAX and torch lose the first batch
        super().__init__(workers=2 if keras.backend.backend() == "tensorflow" else 1, max_queue_size=4)
        self.examples, self.batch_size, self.first = examples, batch_size, first
        count = len(examples)
        self.images = np.arange(count) if order is None else order.permutation(count)
        self.flipped = np.zeros(count, bool) if order is None else order.random(count) < 0.5
        self.captions = [_choose(len(tokens), captions_per_image, order) for tokens in examples.tokens]
        views = examples.rows.shape[1]
        self.views = np.zeros(count, int) if order is None else order.integers(views, size=count)
        self.shares = np.ones(count) if order is None or examples.crop == 1 else order.uniform(examples.crop, 1, count)
        self.corners = np.zeros((2, count)) if order is None else order.uniform(0, 1 - self.shares, (2, count))

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size) - self.first

    def numbers(self, index: int) -> np.ndarray:
        """The indices of a batch's images within the examples."""
        start = (self.first + index) * self.batch_size
        return self.images[start : start + self.batch_size]

    def names(self, index: int) -> list[str]:
        """The names of a batch's images; empty if images have no names."""
        return [self.examples.names[image] for image in self.numbers(index)] if self.examples.names else []

    def __getitem__(self, index: int) -> Batch:
        images = self.numbers(index)
        tokens = np.stack([self._tokens(image) for image in images])
        missing = self.batch_size - len(images)
        images = np.concatenate([images, np.repeat(images[:1], missing)])
        tokens = np.concatenate([tokens, np.zeros((missing, *tokens.shape[1:]), tokens.dtype)])
        features = self.examples.array[self.examples.rows[images, self.views[images]]]
        if features.ndim == 4:  # an image's mirror image has the same captions
            mirror = self.flipped[images]
            features[mirror] = features[mirror, :, ::-1]
            for place, image in enumerate(images):
                if self.shares[image] < 1:
                    left, top = self.corners[:, image]
                    features[place] = cropped(features[place], left, top, self.shares[image], features.shape[1])
        targets = tokens[..., 1:]
        is_word = targets != 0
        weights = is_word * np.float32(is_word.size / max(1, is_word.sum()))  # the mean loss is that over words
        return {"features": features, "tokens": tokens[..., :-1]}, targets, weights

    def _tokens(self, image: int) -> np.ndarray:
        chosen = self.captions[image]
        tokens = self.examples.tokens[image][np.maximum(chosen, 0)]
        return np.where(chosen[:, None] >= 0, tokens, 0)


def _choose(available: int, wanted: int, order: np.random.Generator | None) -> np.ndarray:
    """The indices of an image's captions for this epoch, padded with -1."""
    if available > wanted and order is not None:
        return np.sort(order.permutation(available)[:wanted])
    return np.pad(np.arange(min(available, wanted)), (0, max(0, wanted - available)), constant_values=-1)


def epoch_order(seed: int, epoch: int) -> np.random.Generator:
    """The random generator that orders one epoch's images and picks their captions."""
    return np.random.default_rng([seed, epoch])
