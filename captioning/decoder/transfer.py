"""What a network takes over from a captioner: all that it learnt, word by word where their words differ.

Knows nothing of files, and nothing of how either was trained.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from captioning.decoder.model import CaptionModel

WORDS_ALONG = {"embedding/embeddings": 0, "head/kernel": 1, "head/bias": 0}  # the axis along which words stand


def copy_matching_weights(model: CaptionModel, words: Sequence[str], base: Any) -> int:
    """Gives a network of these words the weights of a captioner, their encoders apart; returns how many words it knew.

    The network's widths are the captioner's. Where an encoder has other regions their places are enlarged; where its
    regions have another depth, what reads them stays as it is.
    """
    known = {word: number for number, word in enumerate(base.tokenizer.words)}
    pairs = [(number, known[word]) for number, word in enumerate(words) if word in known]
    own, others = np.array(pairs).T
    learnt = _decoder_weights(base.model)
    for name, weight in _decoder_weights(model).items():
        value = ops.convert_to_numpy(learnt[name])
        if name in WORDS_ALONG:
            value = _row_by_row(ops.convert_to_numpy(weight), own, value, others, WORDS_ALONG[name])
        elif name == "positions":
            value = _enlarged(value, weight.shape[0])
        if name != "feature_projection/kernel" or weight.shape == value.shape:
            weight.assign(value)
    return len(pairs)


def interpolate_weights(model: CaptionModel, initial_weights: Sequence[np.ndarray], share: float) -> None:
    """Brings a network's weights back to those it began with, this share of the way."""
    if not share:
        return
    for weight, before in zip(model.weights, initial_weights, strict=True):
        if weight.dtype.startswith("float"):
            weight.assign((1 - share) * ops.convert_to_numpy(weight) + share * before)


def _decoder_weights(model: CaptionModel) -> dict[str, Any]:
    """The trainable weights of a network by name, without those of an encoder it holds."""
    held = {id(weight) for weight in model.encoder.weights} if model.encoder else set()
    return {
        weight.path.partition("/")[2]: weight for weight in model.weights if weight.trainable and id(weight) not in held
    }


def _row_by_row(mine: np.ndarray, own: np.ndarray, theirs: np.ndarray, others: np.ndarray, axis: int) -> np.ndarray:
    mine = np.moveaxis(mine.copy(), axis, 0)
    mine[own] = np.moveaxis(theirs, axis, 0)[others]
    return np.moveaxis(mine, 0, axis)


def _enlarged(places: np.ndarray, count: int) -> np.ndarray:
    """What tells regions apart by their place, (L, F), for `count` of them on the same square picture."""
    if len(places) == count:
        return places
    side, wanted = math.isqrt(len(places)), math.isqrt(count)
    grid = places.reshape(1, side, side, -1)
    return ops.convert_to_numpy(ops.image.resize(grid, (wanted, wanted), data_format="channels_last")).reshape(
        count, -1
    )
