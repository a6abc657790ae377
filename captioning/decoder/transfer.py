"""Initialises a network from a trained captioner, word by word where their vocabularies differ."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from captioning.data.tokenizer import UNKNOWN
from captioning.decoder.model import CaptionModel

CLEARLY = 1.5  # standard errors
WORDS_ALONG = {"embedding/embeddings": 0, "head/kernel": 1, "head/bias": 0}  # the axis of the vocabulary


def copy_matching_weights(model: CaptionModel, words: Sequence[str], base: Any, *, same_encoder: bool = True) -> int:
    """Copies the decoder weights of a captioner into a network of these words; returns how many words they share.

    Both have the same widths. Where the encoder has another number of regions, their position vectors are resized.
    Where its features have another depth, or come from another encoder, the layer that reads them keeps its weights.
    """
    known = {word: number for number, word in enumerate(base.tokenizer.words)}
    pairs = [(number, known[word]) for number, word in enumerate(words) if word in known]
    own, others = np.array(pairs).T
    learnt = _decoder_weights(base.model)
    for name, weight in _decoder_weights(model).items():
        if name.startswith("feature_projection") and not same_encoder:
            continue
        value = ops.convert_to_numpy(learnt[name])
        if name in WORDS_ALONG:
            value = _row_by_row(ops.convert_to_numpy(weight), own, value, others, WORDS_ALONG[name])
        elif name == "positions":
            value = _enlarged(value, weight.shape[0])
        if name != "feature_projection/kernel" or weight.shape == value.shape:
            weight.assign(value)
    return len(pairs)


def start_new_words(model: CaptionModel, counts: Sequence[int], unknown: int) -> None:
    """Set the last words of the vocabulary, seen `counts` times, to share the probability of <unk>.

    `unknown` is how often words outside the vocabulary were seen. All other words keep their probabilities.
    """
    if not len(counts):
        return
    shares = np.log(np.array([*counts, unknown + 1]) / (sum(counts) + unknown + 1))
    weights = _decoder_weights(model)
    for name, axis in WORDS_ALONG.items():
        value = np.moveaxis(ops.convert_to_numpy(weights[name]).copy(), axis, 0)
        value[-len(counts) :] = value[UNKNOWN]
        if name == "head/bias":
            value[-len(counts) :] += shares[:-1]
            value[UNKNOWN] += shares[-1]
        weights[name].assign(np.moveaxis(value, 0, axis))


def interpolate_weights(model: CaptionModel, initial_weights: Sequence[np.ndarray], share: float) -> None:
    """Moves a network's weights this share of the way back to their initial values."""
    if not share:
        return
    for weight, before in zip(model.weights, initial_weights, strict=True):
        if weight.dtype.startswith("float"):
            weight.assign((1 - share) * ops.convert_to_numpy(weight) + share * before)


def choose_share(
    model: CaptionModel,
    initial_weights: Sequence[np.ndarray],
    shares: Sequence[float],
    score: Callable[[], np.ndarray],
) -> float:
    """Interpolate with the first of the falling `shares`, or with a later one that is clearly better; return it.

    `score` gives a score per image. Clearly: the mean difference is more than `CLEARLY` of its standard errors.
    """
    trained_weights = model.get_weights()

    def interpolate(share: float) -> None:
        model.set_weights(trained_weights)
        interpolate_weights(model, initial_weights, share)

    interpolate(chosen := shares[0])
    best = score()
    for share in shares[1:]:
        interpolate(share)
        scores = score()
        gain = scores - best
        if gain.mean() > CLEARLY * gain.std(ddof=1) / len(gain) ** 0.5:
            chosen, best = share, scores
    interpolate(chosen)
    return chosen


def _decoder_weights(model: CaptionModel) -> dict[str, Any]:
    """The trainable weights of a network by name, without those of an encoder in it."""
    held = {id(weight) for weight in model.encoder.weights} if model.encoder else set()
    return {
        weight.path.partition("/")[2]: weight for weight in model.weights if weight.trainable and id(weight) not in held
    }


def _row_by_row(mine: np.ndarray, own: np.ndarray, theirs: np.ndarray, others: np.ndarray, axis: int) -> np.ndarray:
    mine = np.moveaxis(mine.copy(), axis, 0)
    mine[own] = np.moveaxis(theirs, axis, 0)[others]
    return np.moveaxis(mine, 0, axis)


def _enlarged(places: np.ndarray, count: int) -> np.ndarray:
    """The position vectors of regions, (L, F), resized to `count` regions of the same square image."""
    if len(places) == count:
        return places
    side, wanted = math.isqrt(len(places)), math.isqrt(count)
    grid = places.reshape(1, side, side, -1)
    return ops.convert_to_numpy(ops.image.resize(grid, (wanted, wanted), data_format="channels_last")).reshape(
        count, -1
    )
