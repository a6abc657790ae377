"""Search for captions with any start and step: greedy, beam and sampling, as one loop that every backend compiles.

It runs on Keras' operations or on NumPy's; see operations.py.

Shapes: B images, N rows of the search for each, T steps, L regions, V words. `start(features, N)` gives a state of
arrays (B, N, ...), or (B, 1, ...) where all rows of an image share one. `step(tokens (B, N), state)` gives
log-probabilities (B, N, V), the next state and attention (B, N, L).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from captioning.data.tokenizer import END, PAD, START, UNKNOWN
from captioning.decoder.operations import ops
from captioning.options import DecodeOptions

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

NEVER = -1e9  # added to the log-probability of a word that is ruled out
MASKED = -1e30  # score of a candidate that does not exist, below any sum of NEVER


class SearchResult(NamedTuple):
    """The captions found, best first; log-probabilities are the model's, before any penalty."""

    tokens: "Tensor"  # (B, N, T), <end> included, then <pad>
    log_probs: "Tensor"  # (B, N, T)
    attention: "Tensor"  # (B, N, T, L)
    scores: "Tensor"  # (B, N), far below zero where no such caption exists


@dataclass(frozen=True)
class SearchRules:
    """The options of a search, with forced and forbidden words as ids."""

    options: DecodeOptions
    forced: tuple[int, ...] = ()
    forbidden: tuple[int, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of the search for each image: beams for every number of forced words so far, or samples."""
        if self.options.strategy == "beam":
            return self.options.num_beams * (len(self.forced) + 1)
        return self.options.num_captions


class _Hypotheses(NamedTuple):
    tokens: "Tensor"  # (B, N, T)
    log_probs: "Tensor"  # (B, N, T)
    attention: "Tensor"  # (B, N, T, L)
    totals: "Tensor"  # (B, N) summed log-probabilities, penalties included
    lengths: "Tensor"  # (B, N) words so far, <end> included
    last: "Tensor"  # (B, N) the last word
    finished: "Tensor"  # (B, N)


def decode(
    start: Callable,
    step: Callable,
    features: "Tensor",
    rules: SearchRules,
    *,
    prefix: "Tensor",
    noise: "Tensor",
    num_regions: int = 0,
) -> SearchResult:
    """The best captions for (B, L, D) features.

    prefix (B, T) holds the words to begin with, then <pad>; noise (B, N, T), uniform in [0, 1), drives the sampling.
    num_regions is the width of the attention; 0: that of a first step, which a compiled search leaves out.
    """
    choose = {"greedy": _choose_likeliest, "sample": _choose_at_random, "beam": _choose_beams}[rules.options.strategy]
    state = start(features, rules.num_rows)
    last = ops.full_like(ops.cast(noise[:, :, 0], "int32"), START)
    found = _nothing_yet(last, num_regions or step(last, state)[2].shape[-1], rules)

    def unfinished(time: "Tensor", found: _Hypotheses, state: tuple["Tensor", ...]) -> "Tensor":
        return ops.logical_and(time < rules.options.max_length, ops.logical_not(ops.all(found.finished)))

    def one_step(time: "Tensor", found: _Hypotheses, state: tuple["Tensor", ...]) -> tuple["Tensor", ...]:
        log_probs, state, attention = step(found.last, state)
        log_probs = ops.cast(log_probs, "float32")
        allowed = _apply_rules(log_probs, found, rules, time, prefix)
        parents, words, added = choose(allowed, found, rules, ops.take(noise, time, axis=2))
        state = tuple(_gather(part, parents) for part in state)
        own = _pick(_gather(log_probs, parents), words)
        found = _Hypotheses(*(_gather(part, parents) for part in found))
        return time + 1, _extend(found, time, words, added, own, _gather(attention, parents)), state

    time = ops.zeros((), dtype="int32")
    _, found, _ = ops.while_loop(unfinished, one_step, (time, found, tuple(state)))
    return _rank(found, rules)


def _nothing_yet(last: "Tensor", num_regions: int, rules: SearchRules) -> _Hypotheses:
    steps = rules.options.max_length
    empty = ops.repeat(ops.expand_dims(last * 0, -1), steps, axis=-1)
    totals = ops.cast(empty[..., 0], "float32")
    if rules.options.strategy == "beam":  # one beam at first; the others would repeat it
        totals = totals + _constant(np.where(np.arange(rules.num_rows) == 0, 0, NEVER))
    attention = ops.repeat(ops.expand_dims(ops.cast(empty, "float32"), -1), num_regions, axis=-1)
    return _Hypotheses(
        empty, ops.cast(empty, "float32"), attention, totals, empty[..., 0], last, ops.not_equal(last, START)
    )


def _apply_rules(
    log_probs: "Tensor", found: _Hypotheses, rules: SearchRules, time: "Tensor", prefix: "Tensor"
) -> "Tensor":
    options, size, own = rules.options, log_probs.shape[-1], log_probs
    never = np.zeros(size)
    never[[PAD, START, UNKNOWN, *rules.forbidden]] = 10 * NEVER  # even where the other rules leave no word
    if options.repetition_penalty != 1:
        used = ops.any(ops.expand_dims(found.tokens, -1) == ops.arange(size), axis=2)
        log_probs = ops.where(used, log_probs * options.repetition_penalty, log_probs)
    if options.no_repeat_ngram_size:
        log_probs = _without_repeats(log_probs, found.tokens, options.no_repeat_ngram_size, time)
    is_end = ops.arange(size) == END
    too_early = ops.expand_dims(time < options.min_length, 0)
    if rules.forced:
        too_early = ops.logical_or(too_early, ops.logical_not(ops.all(_contained(found.tokens, rules), axis=-1)))
        too_early = ops.expand_dims(too_early, -1)
    log_probs = log_probs + _constant(never) + NEVER * ops.cast(ops.logical_and(too_early, is_end), "float32")
    wanted = ops.expand_dims(ops.take(prefix, time, axis=1), (1, 2))  # (B, 1, 1)
    elsewhere = ops.logical_and(wanted != PAD, wanted != ops.arange(size))
    log_probs = ops.where(elsewhere, NEVER, ops.where(wanted != PAD, own, log_probs))  # a prefix overrides the rules
    only_pad = np.where(np.arange(size) == PAD, 0, NEVER)
    return ops.where(ops.expand_dims(found.finished, -1), _constant(only_pad), log_probs)


def _contained(tokens: "Tensor", rules: SearchRules) -> "Tensor":
    return ops.any(ops.expand_dims(tokens, -1) == _constant(rules.forced, "int32"), axis=2)  # (B, N, forced words)


def _without_repeats(log_probs: "Tensor", tokens: "Tensor", size: int, time: "Tensor") -> "Tensor":
    """The log-probabilities (B, N, V), with the words ruled out that would repeat an n-gram of this size.

    From size 2 on, no word follows itself either.
    """
    count = tokens.shape[2] - size + 1  # n-grams in a caption
    if count < 1:
        return log_probs
    last = tokens[:, :, size - 1 :]
    again = ops.arange(count) + size - 1 < time
    for place in range(size - 1):
        latest = ops.take(tokens, ops.maximum(time - size + 1 + place, 0), axis=2)
        again = ops.logical_and(again, tokens[:, :, place : place + count] == ops.expand_dims(latest, -1))
    ruled_out = ops.where(again, last, PAD)  # <pad> cannot be chosen anyway
    if size > 1:
        latest_word = ops.take(tokens, ops.maximum(time - 1, 0), axis=2)  # <pad> before the first word
        ruled_out = ops.concatenate([ruled_out, ops.expand_dims(latest_word, -1)], axis=-1)
    ruled_out = ops.reshape(ruled_out, (-1, ruled_out.shape[-1]))
    flat = ops.reshape(log_probs, (-1,))
    rows = ops.expand_dims(ops.arange(ops.shape(ruled_out)[0]) * log_probs.shape[-1], -1)
    places = ops.reshape(rows + ruled_out, (-1, 1))
    flat = ops.scatter_update(flat, places, ops.zeros_like(places[:, 0], dtype=flat.dtype) + NEVER)
    return ops.reshape(flat, (-1, *log_probs.shape[1:]))


def _choose_likeliest(
    log_probs: "Tensor", found: _Hypotheses, rules: SearchRules, noise: "Tensor"
) -> tuple["Tensor", "Tensor", "Tensor"]:
    words = ops.cast(ops.argmax(log_probs, axis=-1), "int32")
    return _same_rows(words), words, _pick(log_probs, words)


def _choose_at_random(
    log_probs: "Tensor", found: _Hypotheses, rules: SearchRules, noise: "Tensor"
) -> tuple["Tensor", "Tensor", "Tensor"]:
    options = rules.options
    scaled = log_probs / options.temperature
    likeliest_first = -ops.sort(-scaled, axis=-1)
    if 0 < options.top_k < log_probs.shape[-1]:
        scaled = ops.where(scaled >= likeliest_first[..., options.top_k - 1, None], scaled, MASKED)
    if options.top_p < 1:
        mass = ops.cumsum(ops.softmax(likeliest_first, axis=-1), axis=-1)
        last = ops.sum(ops.cast(mass[..., :-1] < options.top_p, "int32"), axis=-1, keepdims=True)
        scaled = ops.where(scaled >= ops.take_along_axis(likeliest_first, last, axis=-1), scaled, MASKED)
    mass = ops.cumsum(ops.softmax(scaled, axis=-1), axis=-1)
    drawn = ops.expand_dims(ops.minimum(noise, 0.999999), -1) * mass[..., -1:]
    words = ops.cast(ops.argmax(ops.cast(mass > drawn, "int32"), axis=-1), "int32")
    return _same_rows(words), words, _pick(log_probs, words)


def _choose_beams(
    log_probs: "Tensor", found: _Hypotheses, rules: SearchRules, noise: "Tensor"
) -> tuple["Tensor", "Tensor", "Tensor"]:
    beams, banks, size = rules.options.num_beams, len(rules.forced) + 1, log_probs.shape[-1]
    lengths = ops.cast(ops.where(found.finished, found.lengths, found.lengths + 1), "float32")
    weights = ops.expand_dims(lengths**-rules.options.length_penalty, -1)
    candidates = (ops.expand_dims(found.totals, -1) + log_probs) * weights
    candidates = ops.reshape(candidates, (-1, banks, beams, size))
    if banks > 1:  # a beam that adds a forced word moves to the next bank; each bank keeps its own best
        missing = ops.logical_not(_contained(found.tokens, rules))
        adds = _constant(np.asarray(rules.forced)[:, None] == np.arange(size), "bool")
        moves = ops.any(ops.logical_and(ops.expand_dims(missing, -1), adds), axis=2)
        moves = ops.reshape(moves, (-1, banks, beams, size))
        moving = ops.where(moves, candidates, MASKED)
        arriving = ops.concatenate([ops.full_like(moving[:, :1], MASKED), moving[:, :-1]], axis=1)
        candidates = ops.concatenate([arriving, ops.where(moves, MASKED, candidates)], axis=2)
    _, best = ops.top_k(ops.reshape(candidates, (-1, banks, candidates.shape[2] * size)), beams)
    best = ops.cast(best, "int32")
    before = (candidates.shape[2] - beams) // beams  # banks that a row can come from, besides its own
    parents = _constant((np.arange(banks)[:, None] - before) * beams, "int32") + best // size
    parents = ops.maximum(ops.reshape(parents, (-1, banks * beams)), 0)
    words = ops.reshape(best % size, (-1, banks * beams))
    return parents, words, _pick(_gather(log_probs, parents), words)


def _constant(values: "np.ndarray | Sequence[int]", dtype: str = "float32") -> "Tensor":
    return ops.convert_to_tensor(np.asarray(values).astype(dtype))


def _same_rows(words: "Tensor") -> "Tensor":
    return ops.zeros_like(words) + ops.arange(words.shape[1], dtype="int32")


def _gather(array: "Tensor", parents: "Tensor") -> "Tensor":
    """Rows `parents` (B, M) of an array (B, N, ...); one row shared by all stays as it is."""
    if array.shape[1] == 1:
        return array
    num_rows, rest = array.shape[1], tuple(array.shape[2:])
    flat = ops.reshape(parents + ops.expand_dims(ops.arange(ops.shape(parents)[0]) * num_rows, 1), (-1,))
    return ops.reshape(ops.take(ops.reshape(array, (-1, *rest)), flat, axis=0), (-1, parents.shape[1], *rest))


def _pick(array: "Tensor", words: "Tensor") -> "Tensor":
    return ops.take_along_axis(array, ops.expand_dims(words, -1), axis=-1)[..., 0]


def _extend(
    found: _Hypotheses, time: "Tensor", words: "Tensor", added: "Tensor", own: "Tensor", attention: "Tensor"
) -> _Hypotheses:
    now = ops.arange(found.tokens.shape[2]) == time
    alive = ops.cast(ops.logical_not(found.finished), "int32")
    return _Hypotheses(
        tokens=ops.where(now, ops.expand_dims(words, -1), found.tokens),
        log_probs=ops.where(now, ops.expand_dims(own * ops.cast(alive, "float32"), -1), found.log_probs),
        attention=ops.where(now[:, None], ops.expand_dims(ops.cast(attention, "float32"), 2), found.attention),
        totals=found.totals + added,
        lengths=found.lengths + alive,
        last=words,
        finished=ops.logical_or(found.finished, words == END),
    )


def _rank(found: _Hypotheses, rules: SearchRules) -> SearchResult:
    lengths = ops.cast(ops.maximum(found.lengths, 1), "float32")
    scores = found.totals * lengths**-rules.options.length_penalty
    if rules.options.strategy == "beam":  # only beams with every forced word
        found = _Hypotheses(*(part[:, -rules.options.num_beams :] for part in found))
        scores = scores[:, -rules.options.num_beams :]
    scores, order = ops.top_k(scores, rules.options.num_captions)
    order = ops.cast(order, "int32")
    tokens, log_probs, attention = (_gather(part, order) for part in (found.tokens, found.log_probs, found.attention))
    return SearchResult(tokens, log_probs, attention, scores)


def search_inputs(
    rules: SearchRules, count: int, prefix: np.ndarray | None, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """The prefix and the noise of a search in `count` images: given, or without words to begin with and seeded."""
    options = rules.options
    prefix = np.zeros((count, options.max_length), "int32") if prefix is None else prefix
    rng = rng or np.random.default_rng(options.sampling_seed)
    return prefix, rng.random((count, rules.num_rows, options.max_length), "float32")
