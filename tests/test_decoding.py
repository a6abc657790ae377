"""The search finds what it should, by a scripted step whose every sentence can be counted by hand.

The script's log-probabilities depend on the image and on the last two words; its attention is every word it was told.
"""

import itertools
from collections import Counter

import keras
import numpy as np
import pytest
from keras import ops

from captioning.decoding import Decoded, Decoder, Rules, decode
from captioning.options import DecodeOptions
from captioning.tokenizer import END, PAD, START, UNKNOWN

NOT_SEEN = -1
FIRST_WORD = 4


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


def search(tables, *, forced=(), forbidden=(), prefix=(), noise=None, script=None, **options) -> Decoded:
    rules = Rules(DecodeOptions(**options), tuple(forced), tuple(forbidden))
    steps = rules.options.max_length
    script = script or Script(steps)
    begin = np.zeros((len(tables), steps), "int32")
    begin[:, : np.shape(prefix)[-1]] = prefix
    if noise is None:
        shape = (len(tables), rules.num_rows, steps)
        noise = np.random.default_rng(rules.options.sampling_seed).random(shape, "float32")
    tables, begin, noise = map(ops.convert_to_tensor, (tables, begin, noise))
    found = decode(script.start, script.step, tables, rules, prefix=begin, noise=noise)
    return Decoded(*map(ops.convert_to_numpy, found))


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


def all_captions(size: int, steps: int) -> list[tuple[int, ...]]:
    words = range(FIRST_WORD, size)
    ended = [(*some, END) for length in range(steps) for some in itertools.product(words, repeat=length)]
    return ended + list(itertools.product(words, repeat=steps))


def words_of(row) -> tuple[int, ...]:
    """The words of one caption, <end> included."""
    row = [int(token) for token in row]
    return tuple(row[: row.index(PAD)] if PAD in row else row)


def captions_of(found: Decoded) -> list[list[tuple[int, ...]]]:
    return [[words_of(row) for row in rows] for rows in found.tokens]


def best(found: Decoded) -> list[tuple[int, ...]]:
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


@ALL
def test_a_scripted_sentence_is_spelled(options):
    tables = np.concatenate([sentence(4, 7, 5), sentence(6), sentence()])
    assert best(search(tables, max_length=6, **options)) == [(4, 7, 5, END), (6, END), (END,)]


@ALL
def test_a_caption_that_never_ends_is_cut(options):
    tables = chain(*((last, {word: 0.9}) for last, word in ((START, 4), (4, 5), (5, 4))))
    assert best(search(tables, max_length=5, **options)) == [(4, 5, 4, 5, 4)]


@ALL
def test_special_and_forbidden_words_never_come_out(options):
    size, likely = 8, {PAD: 0.3, START: 0.2, UNKNOWN: 0.3, 6: 0.1}
    table = chain(*((last, likely | {5: 0.05, END: 0.001}) for last in range(size)), size=size)
    for row in captions_of(search(table, max_length=4, forbidden=(6,), **options))[0]:
        assert not set(row) & {PAD, START, UNKNOWN, 6}
        assert len(row) == 4 or row[-1] == END


@ALL
def test_scores_and_details_belong_to_the_caption(options):
    tables = random_tables(images=3, seed=5)
    found = search(tables, max_length=5, length_penalty=0.6, **options)
    for image, captions in enumerate(captions_of(found)):
        for rank, words in enumerate(captions):
            log_probs = log_probs_of(tables[image], words)
            np.testing.assert_allclose(found.log_probs[image, rank, : len(words)], log_probs, atol=1e-5)
            assert not found.log_probs[image, rank, len(words) :].any()
            np.testing.assert_allclose(found.scores[image, rank], score_of(tables[image], words, 0.6), atol=1e-4)
            for time in range(len(words)):
                told = [START, *words[:time], *[NOT_SEEN] * (4 - time)]
                assert found.attention[image, rank, time].tolist() == told
        assert np.all(np.diff(found.scores[image]) <= 0)


@ALL
def test_a_batch_is_its_images_one_by_one(options):
    tables = random_tables(images=4, seed=3)
    noise = np.random.default_rng(1).random((4, options.get("num_beams", options.get("num_captions", 1)), 5), "float32")
    together = search(tables, max_length=5, noise=noise, **options)
    for image in range(4):
        alone = search(tables[image : image + 1], max_length=5, noise=noise[image : image + 1], **options)
        assert captions_of(alone)[0] == captions_of(together)[image]
        np.testing.assert_allclose(alone.scores[0], together.scores[image], atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed):
    tables = random_tables(images=4, seed=seed)
    greedy = search(tables, max_length=6, strategy="greedy")
    beam = search(tables, max_length=6, num_beams=1)
    for one, other in zip(greedy, beam, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def repeats(words, size: int) -> bool:
    runs = [words[first : first + size] for first in range(len(words) - size + 1)]
    return len(set(runs)) < len(runs)


EXHAUSTIVE = [
    ({}, {}, lambda words: True),
    ({"length_penalty": 0.0}, {}, lambda words: True),
    ({"length_penalty": 2.0}, {}, lambda words: True),
    ({"min_length": 2}, {}, lambda words: len(words) - (words[-1] == END) >= 2),
    ({"min_length": 3}, {}, lambda words: len(words) == 3 and words[-1] != END),
    ({"no_repeat_ngram_size": 1}, {}, lambda words: not repeats(words, 1)),
    ({"no_repeat_ngram_size": 2}, {}, lambda words: not repeats(words, 2)),
    ({}, {"forbidden": (5,)}, lambda words: 5 not in words),
    ({}, {"prefix": (5,)}, lambda words: words[0] == 5),
    ({}, {"prefix": (4, 4)}, lambda words: words[:2] == (4, 4)),
    ({}, {"prefix": (PAD, 5)}, lambda words: words[0] == END or words[1] == 5),
    ({"length_penalty": 0.0}, {"forced": (5,)}, lambda words: 5 in words),
    ({}, {"forced": (5,)}, lambda words: 5 in words),
    ({}, {"forced": (5, 4)}, lambda words: {4, 5} <= set(words)),
    ({}, {"forced": (4,), "prefix": (5,)}, lambda words: words[0] == 5 and 4 in words),
    ({}, {"forced": (4,), "prefix": (4,)}, lambda words: words[0] == 4),
]


@pytest.mark.parametrize(("options", "rules", "fits"), EXHAUSTIVE)
def test_a_wide_beam_finds_the_best_of_all_captions(options, rules, fits):
    tables = random_tables(images=6, size=6, seed=11)
    alpha = options.get("length_penalty", 0.7)
    found = search(tables, max_length=3, num_beams=16, num_captions=3, **options, **rules)
    possible = [words for words in all_captions(6, 3) if fits(words)]
    for image, captions in enumerate(captions_of(found)):
        ranked = sorted(possible, key=lambda words: -score_of(tables[image], words, alpha))
        assert captions[: len(ranked)] == ranked[:3]
        np.testing.assert_allclose(found.scores[image, 0], score_of(tables[image], ranked[0], alpha), atol=1e-5)


def test_a_wider_beam_sees_past_the_likeliest_word():
    tables = chain(
        (START, {4: 0.6, 5: 0.4}),
        (4, {6: 0.35, 7: 0.35, 8: 0.3}),
        (5, {6: 0.95}),
        *((w, {END: 0.99}) for w in (6, 7, 8)),
    )
    assert best(search(tables, max_length=4, strategy="greedy")) == [(4, 6, END)]
    assert best(search(tables, max_length=4, num_beams=2)) == [(5, 6, END)]


def test_more_beams_than_captions_there_are():
    tables = random_tables(images=2, size=6, seed=2)
    found = search(tables, max_length=1, num_beams=9, num_captions=9)
    for image, captions in enumerate(captions_of(found)):
        exist = [words for words, score in zip(captions, found.scores[image], strict=True) if score > -1e6]
        assert sorted(exist) == [(END,), (4,), (5,)]
        assert len(exist) == 3


@pytest.mark.parametrize("num_beams", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("forced", [(5,), (8,), (5, 7), (8, 4)])
def test_forced_words_are_always_said(num_beams, forced):
    tables = random_tables(images=4, size=9, seed=num_beams)
    tables[:2, :, list(forced)] -= 30  # even if the script would not dream of it
    found = search(tables, max_length=6, num_beams=num_beams, num_captions=num_beams, forced=forced)
    for captions, scores in zip(captions_of(found), found.scores, strict=True):
        exist = [words for words, score in zip(captions, scores, strict=True) if score > -1e6]
        assert captions[0] in exist
        assert len(set(exist)) == len(exist)
        for words in exist:
            assert set(forced) <= set(words)


def test_forced_words_are_said_though_there_is_barely_room():
    tables = random_tables(images=3, size=9, seed=1)
    for words in best(search(tables, max_length=2, num_beams=1, forced=(8, 6))):
        assert set(words) == {6, 8}


def test_a_forced_word_waits_for_its_place():
    tables = chain(
        (START, {4: 0.97, 7: 0.02}),
        (4, {5: 0.97, 7: 0.001}),
        (5, {6: 0.97, 7: 0.001}),
        (6, {7: 0.9}),
        (7, {END: 0.97}),
    )
    for num_beams in (1, 3):
        found = search(tables, max_length=8, num_beams=num_beams, forced=(7,), length_penalty=0.0)
        assert best(found) == [(4, 5, 6, 7, END)]


def test_a_word_that_comes_anyway_changes_nothing_when_forced():
    tables = sentence(4, 5, 6)
    free, forced = (search(tables, max_length=6, forced=words) for words in ((), (5,)))
    assert captions_of(free) == captions_of(forced)
    np.testing.assert_allclose(free.scores, forced.scores, atol=1e-5)


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
@pytest.mark.parametrize("min_length", [1, 3, 5])
def test_min_length(strategy, min_length):
    tables = np.concatenate([sentence(), random_tables(images=2, size=9)])
    for words in best(search(tables, max_length=5, strategy=strategy, min_length=min_length)):
        assert len([word for word in words if word != END]) >= min_length


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_run_of_words_comes_twice(strategy, size):
    tables = chain((START, {4: 0.9}), (4, {4: 0.5, 5: 0.45}), (5, {4: 0.9}), size=12)
    free = best(search(tables, max_length=9, strategy=strategy))[0]
    bound = best(search(tables, max_length=9, strategy=strategy, no_repeat_ngram_size=size))[0]
    assert repeats(free, size)
    assert not repeats(bound, size)


def test_words_run_out():
    tables = random_tables(size=6)
    for strategy in ("greedy", "beam", "sample"):
        bound = search(tables, max_length=5, strategy=strategy, min_length=5, no_repeat_ngram_size=1)
        assert not set(best(bound)[0]) & {PAD, START, UNKNOWN}  # a rule that cannot be kept gives way to one that must


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_repetition_penalty_is_for_words_already_used(strategy):
    tables = chain((START, {4: 0.8, 5: 0.2}), *((word, {4: 0.6, 5: 0.3, END: 0.05}) for word in (4, 5)))
    options = {"strategy": strategy, "max_length": 2, "length_penalty": 0.0}
    assert best(search(tables, **options)) == [(4, 4)]
    found = search(tables, repetition_penalty=3.0, **options)
    assert best(found) == [(4, 5)]
    np.testing.assert_allclose(found.log_probs[0, 0], np.log([0.8, 0.3]), atol=1e-5)  # the script's own


def test_sampling_follows_the_seed():
    tables = random_tables(images=2, seed=4)
    options = {"strategy": "sample", "num_captions": 5, "max_length": 6}
    one, again, other = (captions_of(search(tables, sampling_seed=seed, **options)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert len(set(one[0])) > 1


def frequencies(tables, words, **options) -> list[float]:
    found = search(tables, strategy="sample", num_captions=4000, max_length=1, **options)
    counts = Counter(int(row[0]) for row in found.tokens[0])
    assert set(counts) <= set(words)
    return [counts[word] / 4000 for word in words]


def test_samples_follow_the_distribution():
    words = (END, 4, 5, 6)
    tables = chain((START, dict(zip(words, (0.4, 0.3, 0.2, 0.1), strict=True))), size=7)
    tables[..., [PAD, START, UNKNOWN]] = -1e9
    np.testing.assert_allclose(frequencies(tables, words), (0.4, 0.3, 0.2, 0.1), atol=0.03)
    hot = np.sqrt((0.4, 0.3, 0.2, 0.1))
    np.testing.assert_allclose(frequencies(tables, words, temperature=2.0), hot / hot.sum(), atol=0.03)
    np.testing.assert_allclose(frequencies(tables, words, top_k=2), (4 / 7, 3 / 7, 0, 0), atol=0.03)
    np.testing.assert_allclose(frequencies(tables, words, top_p=0.69), (4 / 7, 3 / 7, 0, 0), atol=0.03)
    np.testing.assert_allclose(frequencies(tables, words, top_p=0.71), (4 / 9, 3 / 9, 2 / 9, 0), atol=0.03)
    np.testing.assert_allclose(frequencies(tables, words, top_k=50, top_p=0.99999999), (0.4, 0.3, 0.2, 0.1), atol=0.03)


@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-24])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1e6}, {"temperature": 1e-6}, {"top_p": 1 - 1e-9}, {"top_k": 2}]
)
def test_no_draw_gives_a_word_that_must_not_be(drawn, options):
    tables = random_tables(size=60, spread=4)
    noise = np.full((1, 1, 4), drawn, "float32")
    words = best(search(tables, noise=noise, strategy="sample", max_length=4, forbidden=(4, 59), **options))[0]
    assert not set(words) & {PAD, START, UNKNOWN, 4, 59}


def test_all_samples_are_finished():
    tables = chain((START, {4: 0.5, 5: 0.5}), (4, {END: 0.99}), (5, {6: 0.99}), (6, {7: 0.99}), (7, {END: 0.99}))
    noise = np.full((1, 6, 6), 0.5, "float32")
    noise[0, :, 0] = [0.9, 0.9, 0.1, 0.1, 0.1, 0.1]
    found = search(tables, noise=noise, strategy="sample", num_captions=6, num_beams=3, max_length=6)
    assert Counter(captions_of(found)[0]) == {(4, END): 4, (5, 6, 7, END): 2}


@ALL
def test_a_prefix_is_obeyed_and_the_rest_is_searched(options):
    tables = chain((START, {4: 0.99}), (4, {END: 0.99}), (7, {8: 0.9}), (8, {5: 0.99}), (5, {END: 0.99}))
    assert best(search(tables, max_length=6, prefix=(7,), **options)) == [(7, 8, 5, END)]
    assert best(search(tables, max_length=6, prefix=(7, 7, 4), **options)) == [(7, 7, 4, END)]
    assert best(search(tables, max_length=3, prefix=(7, 7, 7), **options)) == [(7, 7, 7)]
    assert best(search(tables, max_length=3, prefix=(7, END), **options)) == [(7, END)]


@ALL
def test_a_prefix_stands_above_the_rules_and_costs_what_the_script_says(options):
    tables = random_tables(seed=8)
    for prefix in ((UNKNOWN, 5), (5, 5), (6, END)):
        rules = {"forbidden": (5,), "no_repeat_ngram_size": 1, "min_length": 2}
        found = search(tables, max_length=4, prefix=prefix, **rules, **options)
        words = best(found)[0]
        assert words[:2] == prefix
        np.testing.assert_allclose(found.scores[0, 0], score_of(tables[0], words), atol=1e-4)
        assert not set(words[2:]) & {UNKNOWN, 5}


def test_each_image_has_its_own_prefix():
    tables = np.repeat(sentence(4, 5, 6), 3, axis=0)
    found = search(tables, max_length=5, prefix=[[PAD, PAD], [5, PAD], [6, END]])
    assert best(found) == [(4, 5, 6, END), (5, 6, END), (6, END)]


@pytest.mark.parametrize("options", [{}, {"prefix": (7,)}, {"forced": (5,)}, {"forced": (4, 8)}, {"min_length": 4}])
@pytest.mark.parametrize("num_beams", [3, 8])
def test_the_best_captions_are_distinct_and_sorted(options, num_beams):
    tables = random_tables(images=4, size=9, seed=num_beams)
    found = search(tables, max_length=5, num_beams=num_beams, num_captions=num_beams, **options)
    for captions, scores in zip(captions_of(found), found.scores, strict=True):
        assert len(set(captions)) == num_beams
        assert np.all(np.diff(scores) <= 0)
        assert scores[-1] > -1e6


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="steps are counted where they are run one by one")
@pytest.mark.parametrize("options", [{"strategy": "greedy"}, {"num_beams": 1}, {"strategy": "sample", "top_k": 1}])
def test_the_search_ends_when_all_is_said(options):
    script = Script(30)
    search(np.concatenate([sentence(4, 5), sentence(6)]), script=script, max_length=30, **options)
    assert script.calls == 4  # one to learn the shapes, then 4, 5 and <end>


DECODERS = [
    ({"strategy": "greedy", "max_length": 4}, {}),
    (
        {"num_beams": 3, "num_captions": 2, "max_length": 4, "no_repeat_ngram_size": 2},
        {"forced": (5,), "forbidden": (6,)},
    ),
    ({"strategy": "sample", "num_captions": 2, "max_length": 4, "top_k": 4, "top_p": 0.9, "sampling_seed": 3}, {}),
]


@pytest.mark.parametrize(("options", "rules"), DECODERS)
def test_the_compiled_search_finds_the_same(options, rules):
    decoder = Decoder(Script(4), Rules(DecodeOptions(**options), **rules))
    for images in (1, 3):
        tables = random_tables(images=images, seed=images)
        compiled, plain = decoder.search(tables), search(tables, **options, **rules)
        np.testing.assert_array_equal(compiled.tokens, plain.tokens)
        for one, other in zip(compiled, plain, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_compiled_search_obeys_a_prefix():
    decoder = Decoder(Script(5), Rules(DecodeOptions(max_length=5)))
    prefix = np.zeros((2, 5), "int32")
    prefix[1, 0] = 6
    found = decoder.search(np.repeat(sentence(4, 5, 6), 2, axis=0), prefix=prefix)
    assert best(found) == [(4, 5, 6, END), (6, END)]
