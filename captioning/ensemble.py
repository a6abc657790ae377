"""Several captioners that say one caption together, each step with the mean of their probabilities.

Knows nothing of words or files. Start and step are those of one model, so that every search runs on it as it is.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from captioning.model import CaptionModel, State


class Ensemble(keras.Model):
    """Models of one vocabulary that look at the same grids; their states stand one behind the other."""

    def __init__(self, members: Sequence[CaptionModel]) -> None:
        super().__init__(name="ensemble")
        self.members = list(members)
        self.config, self.encoder = members[0].config, members[0].encoder
        self.built = True

    def start(self, features: Any, num_rows: int = 1, where: Any = None) -> State:
        """The states of all members before the first word."""
        return tuple(part for member in self.members for part in member.start(features, num_rows, where))

    def step(self, tokens: Any, state: State) -> tuple[Any, State, Any]:
        """One word further: log of the mean probability, the next states, the mean attention."""
        width = len(state) // len(self.members)
        own = [state[first : first + width] for first in range(0, len(state), width)]
        told = [member.step(tokens, part) for member, part in zip(self.members, own, strict=True)]
        log_probs, states, attention = zip(*told, strict=True)
        mean = ops.logsumexp(ops.stack(log_probs), axis=0) - ops.log(float(len(self.members)))
        return mean, tuple(part for one in states for part in one), ops.mean(ops.stack(attention), axis=0)
