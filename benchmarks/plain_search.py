"""A plain beam search as the reference: one image at a time, a loop in NumPy around the model's step.

It follows the same rules as ours, so that a test can check that both find the same captions.
"""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from captioning.data.tokenizer import END, PAD, START, UNKNOWN
from captioning.options import DecodeOptions


class Compiled(keras.Model):
    """A model's function, compiled by the backend, NumPy arrays in and out."""

    def __init__(self, function: Callable) -> None:
        super().__init__(dtype="float32")
        self.function = function

    def call(self, inputs: tuple[Any, ...]) -> Any:
        """The function's result."""
        return self.function(*inputs)


def search_one(start: Callable, step: Callable, grid: np.ndarray, options: DecodeOptions) -> list[int]:
    """The ids of the best caption of one (L, D) grid, <end> included; one beam is greedy search."""
    beams = options.num_beams
    state = [np.asarray(part) for part in start(grid[None], beams)]
    captions: list[list[int]] = [[START] for _ in range(beams)]
    totals = np.where(np.arange(beams) == 0, 0.0, -1e9)  # all beams are equal at first: keep one
    for _ in range(options.max_length):
        tokens = np.array([[caption[-1] for caption in captions]], "int32")
        log_probs, state, _ = step(tokens, tuple(state))
        scores = np.array(log_probs, "float32")[0]
        for caption, row in zip(captions, scores, strict=True):
            forbid(caption, row)
        lengths = np.array([_length(caption) + (END not in caption) for caption in captions])
        ranked = (totals[:, None] + scores) * (lengths**-options.length_penalty)[:, None]
        best = np.argsort(-ranked, axis=None, kind="stable")[:beams]
        parents, words = np.divmod(best, scores.shape[1])
        totals = totals[parents] + scores[parents, words]
        captions = [[*captions[parent], int(word)] for parent, word in zip(parents, words, strict=True)]
        state = [np.asarray(part)[:, parents] if part.shape[1] == beams else part for part in state]
        if all(END in caption for caption in captions):
            break
    lengths = np.array([_length(caption) for caption in captions])
    best_caption = captions[int(np.argmax(totals * lengths**-options.length_penalty))]
    return [word for word in best_caption if word not in (START, PAD)]


def _length(caption: list[int]) -> int:
    return sum(word not in (START, PAD) for word in caption)


def forbid(caption: list[int], log_probs: np.ndarray) -> None:
    """Forbids special tokens, a repeated word, a repeated bigram, and all but padding after the end."""
    if END in caption:
        log_probs[:] = -1e9
        log_probs[PAD] = 0
        return
    log_probs[[PAD, START, UNKNOWN]] = -1e10
    words = caption[1:]
    log_probs[[after for word, after in itertools.pairwise(words) if word == words[-1]] + words[-1:]] = -1e9
