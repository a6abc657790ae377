"""What computes a captioner: the members that the engines of Keras and of ONNX Runtime share."""

from typing import Any, Protocol

import numpy as np

from captioning.decoder.search import SearchResult, SearchRules

State = tuple[Any, ...]


class Engine(Protocol):
    """Encoder, decoder and search of a captioner, from NumPy arrays to NumPy arrays."""

    name: str  # one of options.ENGINES
    num_regions: int
    has_one_size: bool  # whether batches of one size are faster, because each size is compiled

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """The features (B, L, D) of images (B, H, W, 3), 0 to 255."""

    def search(
        self,
        features: np.ndarray,
        rules: SearchRules,
        *,
        is_full: bool = False,
        prefix: np.ndarray | None = None,
        where: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> SearchResult:
        """The captions found, as NumPy arrays; `is_full`: there may be many more batches of this size."""

    def start(self, features: np.ndarray, where: np.ndarray | None = None) -> State:
        """The state before the first word, for one caption of each image."""

    def step(self, tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Log-probabilities (B, 1, V) of the words after these (B, 1), and the next state."""
