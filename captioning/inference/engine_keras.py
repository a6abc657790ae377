"""The engine of Keras: training's own networks, on TensorFlow, JAX or torch."""

import functools
from collections import Counter
from typing import Any

import numpy as np
from keras import ops

from captioning.decoder.compiled_search import CaptionSearch
from captioning.decoder.search import SearchResult, SearchRules
from captioning.inference.engine import State

MANY = 16  # full batches after which compiling a search with XLA pays off


class KerasEngine:
    """A model, or an ensemble of several, and the encoder of its features; None where the model holds it."""

    name = "keras"
    has_one_size = True

    def __init__(self, model: Any, encoder: Any = None) -> None:
        self.model, self.encoder = model, encoder or model.encoder
        self.num_regions: int = model.config.num_regions
        self._searches = functools.lru_cache(maxsize=8)(lambda rules, jit: CaptionSearch(model, rules, jit=jit))
        self._full_batches: Counter[SearchRules] = Counter()

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """The features (B, L, D) of images (B, H, W, 3), 0 to 255."""
        return self.encoder.predict_on_batch(pixels)

    def search(self, features: np.ndarray, rules: SearchRules, *, is_full: bool = False, **inputs: Any) -> SearchResult:
        """The captions found, as NumPy arrays; after many full batches by a search compiled with XLA."""
        if is_full:
            self._full_batches[rules] += 1
        jit = is_full and self._full_batches[rules] > MANY
        given = {name: value for name, value in inputs.items() if value is not None}
        return self._searches(rules, jit).search(features, **given)

    def start(self, features: np.ndarray, where: np.ndarray | None = None) -> State:
        """The state before the first word, for one caption of each image."""
        return self.model.start(features, 1, where)

    def step(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Log-probabilities (B, 1, V) of the words after these (B, 1), and the next state."""
        log_probs, state, _ = self.model.step(tokens, state)
        return ops.convert_to_numpy(log_probs), state
