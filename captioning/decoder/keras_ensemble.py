"""The ensemble as a Keras model, and the encoders of its members as one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
from keras import ops

from captioning.decoder.ensemble import Ensemble
from captioning.decoder.model import CaptionModel
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


class KerasEnsemble(Ensemble, keras.Model):
    """An ensemble whose weights Keras tracks, so that the search over it can be compiled."""

    def __init__(self, members: Sequence[CaptionModel], *, separate_encoders: bool = False) -> None:
        keras.Model.__init__(self, name="ensemble")
        Ensemble.__init__(self, members, separate_encoders=separate_encoders)
        self.encoder = None if separate_encoders else members[0].encoder
        self.built = True
