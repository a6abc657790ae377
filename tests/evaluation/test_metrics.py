"""BLEU, METEOR, ROUGE-L and CIDEr-D: equal to the reference scorers, and honest about names and intervals."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from captioning.evaluation import metrics

WORDS = ["a", "the", "dog", "cat", "man", "red", "big", "runs", "sits", "jumps", "on", "in", "over", "water", "and"]
AWKWARD = [
    ("", ["a dog runs", "the dog"]),
    ("dog", ["a dog runs on the grass", "the dog"]),
    ("zebra", ["a dog runs on the grass"]),
    ("the the the the the the", ["the dog and the cat", "the the"]),
    ("a dog runs over the grass with a big red ball and jumps in the water", ["a dog runs", "a dog"]),
    ("a dog", ["a dog"]),
    ("man with unheard words", ["an unheard man", "man", "girl"]),
]


def drawn(count, seed):
    """Captions from a small grammar: each prediction shares pieces with its references."""
    rng = np.random.default_rng(seed)

    def sentence(theme):
        pieces = [rng.choice(theme, size=rng.integers(2, 6)), rng.choice(WORDS, size=rng.integers(2, 7))]
        return " ".join(np.concatenate(pieces))

    predictions, references = [], []
    for _ in range(count):
        theme = rng.choice(WORDS, size=4)
        predictions.append(sentence(theme))
        references.append([sentence(theme) for _ in range(rng.integers(1, 6))])
    return predictions, references


@pytest.fixture(scope="module")
def corpus():
    predictions, references = drawn(300, seed=0)
    return [*predictions, *(text for text, _ in AWKWARD)], [*references, *(texts for _, texts in AWKWARD)]


@pytest.fixture(scope="module")
def scores(corpus):
    return metrics.score(*corpus, resamples=50)


def coco(scorer, corpus):
    predictions, references = corpus
    return scorer.compute_score(dict(enumerate(references)), {i: [text] for i, text in enumerate(predictions)})


def test_bleu_equals_coco(corpus, scores):
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    expected, _ = coco(bleu.Bleu(), corpus)
    assert [scores[f"BLEU-{n}"].value for n in range(1, 5)] == pytest.approx(expected, abs=1e-6)


def test_bleu_equals_nltk():
    from nltk.translate.bleu_score import corpus_bleu

    predictions, references = drawn(200, seed=1)
    expected = corpus_bleu(
        [[text.split() for text in texts] for texts in references],
        [text.split() for text in predictions],
        weights=[(1,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4],
    )
    values = metrics.score(predictions, references, resamples=0)
    assert [values[f"BLEU-{n}"].value for n in range(1, 5)] == pytest.approx(expected, abs=1e-12)


def test_rouge_equals_coco(corpus, scores):
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    expected, each = coco(rouge.Rouge(), corpus)
    assert scores["ROUGE-L"].value == pytest.approx(expected, abs=1e-9)
    assert metrics._rouge_table(*corpus)[:, 0] == pytest.approx(each, abs=1e-9)


def test_cider_equals_coco(corpus, scores):
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    expected, each = coco(cider.Cider(), corpus)
    assert scores["CIDEr-D"].value == pytest.approx(expected, abs=1e-9)
    assert metrics.CiderD(corpus[1]).score(*corpus) == pytest.approx(each, abs=1e-9)


def test_worked_by_hand():
    values = metrics.score(["a dog runs"], [["a dog sits", "dog runs fast today"]], resamples=0)
    assert values["BLEU-1"].value == pytest.approx(1)
    assert values["BLEU-2"].value == pytest.approx(1)  # "a dog" and "dog runs"
    assert values["BLEU-3"].value == 0
    precision, recall = 2 / 3, 2 / 3
    assert values["ROUGE-L"].value == pytest.approx((1 + 1.44) * precision * recall / (recall + 1.44 * precision))


def test_perfect_captions():
    references = [[text] for text in drawn(20, seed=2)[0]]
    values = metrics.score([texts[0] for texts in references], references, resamples=0)
    assert values["BLEU-4"].value == values["ROUGE-L"].value == pytest.approx(1)
    assert values["CIDEr-D"].value == pytest.approx(10)


@pytest.mark.parametrize("prediction", ["", "zebra", "zebra zebra zebra zebra zebra"])
def test_nothing_right_scores_zero(prediction):
    values = metrics.score([prediction] * 2, [["a dog runs"], ["a cat sits on grass"]], resamples=5)
    assert {score.value for score in values.values()} == {0.0}
    assert not any(np.isnan([score.low, score.high]).any() for score in values.values())


@pytest.mark.parametrize(("first", "second", "length"), [("abcbdab", "bdcaba", 4), ("", "ab", 0), ("aaa", "aa", 2)])
def test_longest_common_subsequence(first, second, length):
    assert metrics._longest_common_subsequence(list(first), list(second)) == length
    assert metrics._longest_common_subsequence(list(second), list(first)) == length


def test_cider_frequencies_may_come_from_elsewhere():
    predictions, references = drawn(40, seed=3)
    fixed = metrics.CiderD(references)
    whole = fixed.score(predictions, references)
    assert fixed.score(predictions[:3], references[:3]) == pytest.approx(whole[:3])
    other = metrics.CiderD(drawn(40, seed=4)[1])
    assert not np.allclose(other.score(predictions, references), whole)


def test_cider_remembers_references_without_changing_its_mind():
    predictions, references = drawn(30, seed=5)
    scorer = metrics.CiderD(references[:20])
    first = scorer.score(predictions, references)
    assert np.array_equal(scorer.score(predictions, references), first)
    assert np.array_equal(metrics.CiderD(references[:20]).score(predictions[::-1], references[::-1])[::-1], first)


def test_cider_is_fast_enough_for_rewards():
    _, references = drawn(32, seed=6)
    samples = [text for seed in range(5) for text in drawn(32, seed)[0]]
    scorer = metrics.CiderD(references)
    scorer.score(samples, references * 5)
    started = time.perf_counter()
    scorer.score(samples, references * 5)
    assert time.perf_counter() - started < 0.2  # about 0.01 s on an idle core


def test_interval_holds_the_value_and_is_repeatable(corpus, scores):
    assert metrics.score(*corpus, resamples=50) == scores
    assert metrics.score(*corpus, resamples=50, seed=1) != scores
    for score in scores.values():
        assert score.low < score.value < score.high


def test_interval_narrows_with_more_images():
    few, many = drawn(20, seed=7), drawn(400, seed=7)
    wide, narrow = (metrics.score(*part, resamples=200)["ROUGE-L"] for part in (few, many))
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2


def test_difference_is_of_the_same_images(corpus):
    predictions, references = corpus
    worse = ["zebra zebra"] * 30 + predictions[30:]
    gains = metrics.difference(predictions, worse, references, resamples=100)
    apart = [metrics.score(texts, references, resamples=0)["CIDEr-D"].value for texts in (predictions, worse)]
    assert gains["CIDEr-D"].value == pytest.approx(apart[0] - apart[1])
    assert gains["CIDEr-D"].low > 0  # though either score alone is far less certain than that
    nothing = metrics.difference(predictions, predictions, references, resamples=10)
    assert {(score.low, score.value, score.high) for score in nothing.values()} == {(0.0, 0.0, 0.0)}


def test_one_set_of_references_per_prediction():
    with pytest.raises(AssertionError):
        metrics.score(["a dog"], [["a dog"], ["a cat"]])
    with pytest.raises(AssertionError):
        metrics.score([], [])


def test_meteor_is_named_for_what_it_is(scores):
    assert "METEOR" not in scores
    assert 0 < scores["METEOR-nltk-exact-stem"].value < 1


def test_without_java_the_name_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert "METEOR" not in metrics.score(["a dog"], [["a dog"]], java=True, resamples=0)
    assert "pycocoevalcap" not in metrics.versions()


def test_meteor_formula_on_recorded_statistics():
    """What METEOR 1.5 printed for "two men sitting" against "two men sit", and the score it gave."""
    statistics = np.array([[3, 3, 1, 1, 1, 1, 1, 1, 1, 1, *[0] * 10, 0, 3, 3]], dtype=float)
    assert metrics._meteor(statistics)["METEOR"] == pytest.approx([0.8285714285714284])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pycocoevalcap leaves its pipes open
@pytest.mark.skipif(not metrics._meteor_available(), reason="needs pycocoevalcap and Java")
def test_meteor_equals_the_program(corpus):
    meteor = pytest.importorskip("pycocoevalcap.meteor.meteor")
    expected, _ = coco(meteor.Meteor(), corpus)
    assert metrics.score(*corpus, java=True, resamples=0)["METEOR"].value == pytest.approx(expected, abs=1e-9)


def test_versions():
    assert metrics.versions()["nltk"].count(".") >= 1


def test_import_is_cheap():
    code = (
        "import sys, captioning.evaluation.metrics; print([m for m in ('nltk', 'keras', 'scipy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
