"""An ensemble: at every step the mean of the word probabilities of several models.

It has the `start` and `step` of one model, so every search runs on it. Shapes: B images, R captions of each, L regions,
D depth, V words.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from captioning.decoder.model import CaptionModel, State
from captioning.runtime.devices import without_distribution

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor


class ConcatenatedEncoders(keras.Model):
    """Encoders of the same images, their features concatenated: (B, L, sum of their D)."""

    def __init__(self, encoders: Sequence[keras.Model]) -> None:
        super().__init__(name="concatenated_encoders")
        self.encoders = list(encoders)
        self.jit_compile = keras.backend.backend() == "jax"
        with without_distribution():
            self.make_predict_function()

    def call(self, images: "Tensor") -> "Tensor":
        """The features of all encoders."""
        return ops.concatenate([encoder(images) for encoder in self.encoders], axis=-1)


class Ensemble(keras.Model):
    """Models of one vocabulary; the state is the concatenation of theirs.

    They share one encoder's features, or take their own parts of those of ConcatenatedEncoders.
    """

    def __init__(self, members: Sequence[CaptionModel], *, separate_encoders: bool = False) -> None:
        super().__init__(name="ensemble")
        self.members, self.separate_encoders = list(members), separate_encoders
        self.config, self.encoder = members[0].config, None if separate_encoders else members[0].encoder
        self.built = True

    def start(self, features: "Tensor", num_rows: int = 1, where: "Tensor | None" = None) -> State:
        """The states of all members before the first word."""
        depths = [member.config.feature_depth for member in self.members]
        parts = (
            ops.split(features, np.cumsum(depths)[:-1].tolist(), axis=-1)
            if self.separate_encoders
            else [features] * len(depths)
        )
        pairs = zip(self.members, parts, strict=True)
        return tuple(part for member, own in pairs for part in member.start(own, num_rows, where))

    def step(self, tokens: "Tensor", state: State) -> tuple["Tensor", State, "Tensor"]:
        """One step: the log of the mean probabilities (B, R, V), the next state, the mean attention (B, R, L)."""
        width = len(state) // len(self.members)
        own = [state[first : first + width] for first in range(0, len(state), width)]
        steps = [member.step(tokens, part) for member, part in zip(self.members, own, strict=True)]
        log_probs, states, attention = zip(*steps, strict=True)
        mean = ops.logsumexp(ops.stack(log_probs), axis=0) - ops.log(float(len(self.members)))
        return mean, tuple(part for one in states for part in one), ops.mean(ops.stack(attention), axis=0)
