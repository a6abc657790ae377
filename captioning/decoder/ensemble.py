"""Several captioners that say one caption together, each step with the mean of their probabilities.

Knows nothing of words or files. Start and step are those of one model, so that every search runs on it as it is.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from captioning.decoder.model import CaptionModel, State
from captioning.runtime.devices import without_distribution


class ConcatenatedEncoders(keras.Model):
    """Encoders that look at the same images; what they see stands one behind the other, (B, L, sum of their D)."""

    def __init__(self, encoders: Sequence[keras.Model]) -> None:
        super().__init__(name="eyes")
        self.encoders = list(encoders)
        self.jit_compile = keras.backend.backend() == "jax"
        with without_distribution():
            self.make_predict_function()

    def call(self, images: Any) -> Any:
        """What all of them see."""
        return ops.concatenate([encoder(images) for encoder in self.encoders], axis=-1)


class Ensemble(keras.Model):
    """Models of one vocabulary; their states stand one behind the other.

    They look at the same grids or, `apart`, each at its own of those that Eyes give.
    """

    def __init__(self, members: Sequence[CaptionModel], *, separate_encoders: bool = False) -> None:
        super().__init__(name="ensemble")
        self.members, self.separate_encoders = list(members), separate_encoders
        self.config, self.encoder = members[0].config, None if separate_encoders else members[0].encoder
        self.built = True

    def start(self, features: Any, num_rows: int = 1, where: Any = None) -> State:
        """The states of all members before the first word."""
        depths = [member.config.feature_depth for member in self.members]
        seen = (
            ops.split(features, np.cumsum(depths)[:-1].tolist(), axis=-1)
            if self.separate_encoders
            else [features] * len(depths)
        )
        pairs = zip(self.members, seen, strict=True)
        return tuple(part for member, own in pairs for part in member.start(own, num_rows, where))

    def step(self, tokens: Any, state: State) -> tuple[Any, State, Any]:
        """One word further: log of the mean probability, the next states, the mean attention."""
        width = len(state) // len(self.members)
        own = [state[first : first + width] for first in range(0, len(state), width)]
        told = [member.step(tokens, part) for member, part in zip(self.members, own, strict=True)]
        log_probs, states, attention = zip(*told, strict=True)
        mean = ops.logsumexp(ops.stack(log_probs), axis=0) - ops.log(float(len(self.members)))
        return mean, tuple(part for one in states for part in one), ops.mean(ops.stack(attention), axis=0)
