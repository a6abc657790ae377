"""An ensemble: at every step the mean of the word probabilities of several models.

It has the `start` and `step` of one model, so every search runs on it. Shapes: B images, R captions of each, L regions,
D depth, V words.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.decoder.operations import ops

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

State = tuple["Tensor", ...]


class Ensemble:
    """Models of one vocabulary, of Keras or of ONNX Runtime; the state is the concatenation of theirs.

    They share one encoder's features, or take their own parts of the concatenated features of several.
    """

    def __init__(self, members: Sequence[Any], *, separate_encoders: bool = False) -> None:
        self.members, self.separate_encoders = list(members), separate_encoders
        self.config = members[0].config

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
        mean = ops.logsumexp(ops.stack(log_probs), axis=0) - math.log(len(self.members))
        return mean, tuple(part for one in states for part in one), ops.mean(ops.stack(attention), axis=0)
