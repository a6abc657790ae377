"""What is asked of a caption holds of it: words forced, forbidden, begun with or not repeated, and how many."""

import itertools

import numpy as np
import pytest

from captioning.data.tokenizer import END, PAD, START, UNKNOWN
from tests.decoder.scripted import ALL, best, captions_of, chain, existing, random_tables, score_of, search, sentence

FIRST_WORD = 4


def all_captions(size: int, steps: int) -> list[tuple[int, ...]]:
    words = range(FIRST_WORD, size)
    ended = [(*some, END) for length in range(steps) for some in itertools.product(words, repeat=length)]
    return ended + list(itertools.product(words, repeat=steps))


def repeats(words, size: int) -> bool:
    runs = [words[first : first + size] for first in range(len(words) - size + 1)]
    return len(set(runs)) < len(runs)


def stutters(words) -> bool:
    return any(one == other for one, other in itertools.pairwise(words))


EXHAUSTIVE = [
    ({}, {}, lambda words: True),
    ({"length_penalty": 0.0}, {}, lambda words: True),
    ({"length_penalty": 2.0}, {}, lambda words: True),
    ({"min_length": 2}, {}, lambda words: len(words) - (words[-1] == END) >= 2),
    ({"min_length": 3}, {}, lambda words: len(words) == 3 and words[-1] != END),
    ({"no_repeat_ngram_size": 1}, {}, lambda words: not repeats(words, 1)),
    ({"no_repeat_ngram_size": 2}, {}, lambda words: not repeats(words, 2) and not stutters(words)),
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


@ALL
def test_special_and_forbidden_words_never_come_out(options):
    size, likely = 8, {PAD: 0.3, START: 0.2, UNKNOWN: 0.3, 6: 0.1}
    table = chain(*((last, likely | {5: 0.05, END: 0.001}) for last in range(size)), size=size)
    for row in captions_of(search(table, max_length=4, forbidden=(6,), **options))[0]:
        assert not set(row) & {PAD, START, UNKNOWN, 6}
        assert len(row) == 4 or row[-1] == END


@pytest.mark.parametrize("num_beams", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("forced", [(5,), (8,), (5, 7), (8, 4)])
def test_forced_words_are_always_said(num_beams, forced):
    tables = random_tables(images=4, size=9, seed=num_beams)
    tables[:2, :, list(forced)] -= 30  # even if the script would not dream of it
    found = search(tables, max_length=6, num_beams=num_beams, num_captions=num_beams, forced=forced)
    for captions, exist in zip(captions_of(found), existing(found), strict=True):
        assert captions[0] in exist
        assert len(set(exist)) == len(exist)
        assert all(set(forced) <= set(words) for words in exist)


def test_forced_words_are_said_though_there_is_barely_room():
    tables = random_tables(images=3, size=9, seed=1)
    for words in best(search(tables, max_length=2, num_beams=1, forced=(8, 6))):
        assert set(words) == {6, 8}


def test_a_forced_word_waits_for_its_place():
    before = [(word, {word + 1: 0.97, 7: 0.001}) for word in (4, 5)]
    tables = chain((START, {4: 0.97, 7: 0.02}), *before, (6, {7: 0.9}), (7, {END: 0.97}))
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
    assert not stutters(bound)


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
