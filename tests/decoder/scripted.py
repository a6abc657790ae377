"""A search by a scripted step, whose every sentence can be counted by hand.

The script's log-probabilities depend on the image and on the last two words; its attention is every word it was told.
"""

import itertools

import numpy as np
import pytest
from keras import ops

from captioning.data.tokenizer import END, PAD, START
from captioning.decoder.search import SearchResult, SearchRules, decode
from captioning.options import DecodeOptions

NOT_SEEN = -1


class Script:
    """start and step over tables (B, V * V, V): log-probabilities after the words (last but one, last)."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.calls = 0

    def start(self, tables, num_rows):
        rows = ops.zeros_like(tables[:, :1, 0]) * ops.zeros((1, num_rows))  # (B, N)
        history = ops.repeat(ops.expand_dims(rows, -1), self.steps, axis=-1) + NOT_SEEN
        return ops.expand_dims(tables, 1), history, ops.cast(rows, "int32")

    def step(self, tokens, state):
        self.calls += 1
        tables, history, time = state
        size = tables.shape[-1]
        times = ops.arange(self.steps)
        told = ops.where(times == ops.expand_dims(time, -1), ops.expand_dims(ops.cast(tokens, "float32"), -1), history)
        before = ops.sum(ops.where(times == ops.expand_dims(time - 1, -1), told, 0.0), axis=-1)
        rows = ops.one_hot(ops.cast(before, "int32") * size + tokens, size * size)
        return ops.matmul(rows, tables[:, 0]), (tables, told, time + 1), told


def search(tables, *, forced=(), forbidden=(), prefix=(), noise=None, script=None, **options) -> SearchResult:
    options = DecodeOptions(**{"no_repeat_ngram_size": 0} | options)  # scripts speak of few words
    rules = SearchRules(options, tuple(forced), tuple(forbidden))
    steps = rules.options.max_length
    script = script or Script(steps)
    begin = np.zeros((len(tables), steps), "int32")
    begin[:, : np.shape(prefix)[-1]] = prefix
    if noise is None:
        shape = (len(tables), rules.num_rows, steps)
        noise = np.random.default_rng(rules.options.sampling_seed).random(shape, "float32")
    tables, begin, noise = map(ops.convert_to_tensor, (tables, begin, noise))
    found = decode(script.start, script.step, tables, rules, prefix=begin, noise=noise)
    return SearchResult(*map(ops.convert_to_numpy, found))


def random_tables(images: int = 1, size: int = 7, seed: int = 0, spread: float = 1.5) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, spread, (images, size * size, size))
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype("float32")


def chain(*follows: tuple[int, dict[int, float]], size: int = 9) -> np.ndarray:
    """The table of a script that only looks at the last word: {last word: {next word: probability}}."""
    table = np.full((size, size, size), np.log(1e-6), "float32")
    for last, nexts in follows:
        for word, probability in nexts.items():
            table[:, last, word] = np.log(probability)
    return table.reshape(1, size * size, size)


def sentence(*words: int, size: int = 9) -> np.ndarray:
    """The table of a script that spells these words, each once, and ends."""
    path = (START, *words, END)
    return chain(*((last, {word: 0.99}) for last, word in itertools.pairwise(path)), size=size)


def log_probs_of(table: np.ndarray, words) -> list[float]:
    size = table.shape[-1]
    path = (0, START, *words)
    return [float(table[a * size + b, c]) for a, b, c in zip(path, path[1:], path[2:], strict=False)]


def score_of(table, words, length_penalty: float = 0.7) -> float:
    return sum(log_probs_of(table, words)) / len(words) ** length_penalty


def words_of(row) -> tuple[int, ...]:
    """The words of one caption, <end> included."""
    row = [int(token) for token in row]
    return tuple(row[: row.index(PAD)] if PAD in row else row)


def captions_of(found: SearchResult) -> list[list[tuple[int, ...]]]:
    return [[words_of(row) for row in rows] for rows in found.tokens]


def existing(found: SearchResult) -> list[list[tuple[int, ...]]]:
    """The captions of each image, without the places for which there was none."""
    images = zip(captions_of(found), found.scores, strict=True)
    return [[words for words, score in zip(*image, strict=True) if score > -1e6] for image in images]


def best(found: SearchResult) -> list[tuple[int, ...]]:
    return [rows[0] for rows in captions_of(found)]


STRATEGIES = [
    {"strategy": "greedy"},
    {"strategy": "beam", "num_beams": 1},
    {"strategy": "beam", "num_beams": 4, "num_captions": 2},
    {"strategy": "sample", "temperature": 0.01, "num_captions": 3},
    {"strategy": "sample", "top_k": 1},
    {"strategy": "sample", "top_p": 1e-6},
]
ALL = pytest.mark.parametrize("options", STRATEGIES, ids=lambda options: "-".join(map(str, options.values())))
