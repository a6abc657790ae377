"""The search as a Keras model, compiled by the backend."""

import functools
from typing import Any

import keras
import numpy as np

from captioning.decoder.search import SearchResult, SearchRules, decode, search_inputs
from captioning.runtime.devices import without_distribution


class CaptionSearch(keras.Model):
    """A search over one model, compiled by the backend at the first batch.

    `jit` compiles with XLA, which takes seconds and makes many batches of one size a third faster.
    """

    def __init__(self, model: Any, rules: SearchRules, *, jit: bool = False) -> None:
        super().__init__(dtype="float32")
        self.model, self.rules = model, rules
        self.jit_compile = keras.backend.backend() in (("jax", "tensorflow") if jit else ("jax",))

    def call(self, inputs: dict[str, Any]) -> SearchResult:
        start, step = self.model.start, self.model.step
        if "where" in inputs:
            start = functools.partial(start, where=inputs["where"])
        return decode(start, step, inputs["features"], self.rules, prefix=inputs["prefix"], noise=inputs["noise"])

    def make_predict_function(self, force: bool = False) -> Any:
        with without_distribution():
            return super().make_predict_function(force)

    def search(
        self,
        features: np.ndarray,
        *,
        prefix: np.ndarray | None = None,
        where: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> SearchResult:
        """Captions for (B, L, D) features or (B, H, W, 3) images, as NumPy arrays; `rng` drives the sampling.

        prefix (B, T) holds the words to begin with, then <pad>; where (B, L) is true for the regions of the attention.
        """
        prefix, noise = search_inputs(self.rules, len(features), prefix, rng)
        confined = {} if where is None else {"where": where}
        return SearchResult(
            *self.predict_on_batch({"features": features, "prefix": prefix, "noise": noise, **confined})
        )
