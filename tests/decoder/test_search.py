"""The search finds what it should, by a scripted step; greedy, by beams, by chance, compiled."""

from collections import Counter

import keras
import numpy as np
import pytest

from captioning.data.tokenizer import END, PAD, START, UNKNOWN
from captioning.decoder.compiled_search import CaptionSearch
from captioning.decoder.search import SearchRules
from captioning.options import DecodeOptions
from tests.decoder import scripted
from tests.decoder.scripted import ALL, Script, best, captions_of, chain, random_tables, search, sentence


@ALL
def test_a_scripted_sentence_is_spelled(options):
    tables = np.concatenate([sentence(4, 7, 5), sentence(6), sentence()])
    assert best(search(tables, max_length=6, **options)) == [(4, 7, 5, END), (6, END), (END,)]


@ALL
def test_a_caption_that_never_ends_is_cut(options):
    tables = chain(*((last, {word: 0.9}) for last, word in ((START, 4), (4, 5), (5, 4))))
    assert best(search(tables, max_length=5, **options)) == [(4, 5, 4, 5, 4)]


@ALL
def test_scores_and_details_belong_to_the_caption(options):
    tables = random_tables(images=3, seed=5)
    found = search(tables, max_length=5, length_penalty=0.6, **options)
    for image, captions in enumerate(captions_of(found)):
        for rank, words in enumerate(captions):
            log_probs = scripted.log_probs_of(tables[image], words)
            np.testing.assert_allclose(found.log_probs[image, rank, : len(words)], log_probs, atol=1e-5)
            assert not found.log_probs[image, rank, len(words) :].any()
            score = scripted.score_of(tables[image], words, 0.6)
            np.testing.assert_allclose(found.scores[image, rank], score, atol=1e-4)
            for time in range(len(words)):
                told = [START, *words[:time], *[scripted.NOT_SEEN] * (4 - time)]
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


def test_a_wider_beam_sees_past_the_likeliest_word():
    ends = [(word, {END: 0.99}) for word in (6, 7, 8)]
    tables = chain((START, {4: 0.6, 5: 0.4}), (4, {6: 0.35, 7: 0.35, 8: 0.3}), (5, {6: 0.95}), *ends)
    assert best(search(tables, max_length=4, strategy="greedy")) == [(4, 6, END)]
    assert best(search(tables, max_length=4, num_beams=2)) == [(5, 6, END)]


def test_more_beams_than_captions_there_are():
    tables = random_tables(images=2, size=6, seed=2)
    found = search(tables, max_length=1, num_beams=9, num_captions=9)
    assert [sorted(captions) for captions in scripted.existing(found)] == [[(END,), (4,), (5,)]] * 2


def test_sampling_follows_the_seed():
    tables = random_tables(images=2, seed=4)
    options = {"strategy": "sample", "num_captions": 5, "max_length": 6}
    one, again, other = (captions_of(search(tables, sampling_seed=seed, **options)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert len(set(one[0])) > 1


def frequencies(tables, words, **options) -> list[float]:
    images = np.repeat(tables, 40, axis=0)
    found = search(images, strategy="sample", num_captions=100, max_length=1, **options)
    counts = Counter(found.tokens[..., 0].reshape(-1).tolist())
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


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="steps are counted where they are run one by one")
@pytest.mark.parametrize("options", [{"strategy": "greedy"}, {"num_beams": 1}, {"strategy": "sample", "top_k": 1}])
def test_the_search_ends_when_all_is_said(options):
    script = Script(30)
    search(np.concatenate([sentence(4, 5), sentence(6)]), script=script, max_length=30, **options)
    assert script.calls == 4  # one to learn the shapes, then 4, 5 and <end>


DECODERS = [
    ({"strategy": "greedy"}, {}),
    ({"num_beams": 3, "num_captions": 2, "no_repeat_ngram_size": 2}, {"forced": (5,), "forbidden": (6,)}),
    ({"strategy": "sample", "num_captions": 2, "top_k": 4, "top_p": 0.9, "sampling_seed": 3}, {}),
]


@pytest.mark.parametrize(("options", "rules"), DECODERS)
def test_the_compiled_search_finds_the_same(options, rules):
    sought = DecodeOptions(**{"max_length": 4, "no_repeat_ngram_size": 0} | options)
    decoder = CaptionSearch(Script(4), SearchRules(sought, **rules))
    for images in (1, 3):
        tables = random_tables(images=images, seed=images)
        compiled, plain = decoder.search(tables), search(tables, max_length=4, **options, **rules)
        np.testing.assert_array_equal(compiled.tokens, plain.tokens)
        for one, other in zip(compiled, plain, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_compiled_search_obeys_a_prefix():
    decoder = CaptionSearch(Script(5), SearchRules(DecodeOptions(max_length=5)))
    prefix = np.zeros((2, 5), "int32")
    prefix[1, 0] = 6
    found = decoder.search(np.repeat(sentence(4, 5, 6), 2, axis=0), prefix=prefix)
    assert best(found) == [(4, 5, 6, END), (6, END)]
