"""Fitting labels: which images agree on a noun, and that fitted numbers help."""

from pathlib import Path

import numpy as np

from captioning.evaluation import label_scale


def test_nouns_stand_after_articles_and_before_function_words():
    captions = ["a brown dog is on the grass", "the brown dog in a field", "a dog and a cat", "the cat with a dog"]
    assert {"dog", "cat", "grass", "field"} <= label_scale.nouns_of(captions)
    assert not {"brown", "is", "a"} & label_scale.nouns_of(captions)


def test_images_agree_where_all_captions_name_one_noun():
    images = {Path(f"dog{n}"): ["a dog is here", "the dog runs on"] for n in range(4)}
    images |= {Path(f"cat{n}"): ["a cat is here", "the cat in a box"] for n in range(4)}
    images |= {Path("both"): ["a dog and a cat", "the cat with a dog"], Path("none"): ["a dog is here", "a cat"]}
    labels, truth = label_scale.agreed(images)
    assert set(labels) == {"cat", "dog"}
    assert {path.name for path in truth} == {f"{kind}{n}" for kind in ("dog", "cat") for n in range(4)}
    assert labels[truth[Path("dog0")]] == "dog"


def test_a_fit_takes_off_what_is_likely_without_the_picture():
    rng = np.random.default_rng(0)
    without = np.array([0.0, -4.0, -8.0])
    truth = rng.integers(0, 3, 120)
    given = without + 2 * np.eye(3)[truth] + 0.3 * rng.normal(size=(120, 3))
    share, _ = label_scale.fit(given, without, truth)
    assert share > 0.7
    top_1, top_5 = label_scale.measure(given, without, truth)
    assert top_1 > 0.95
    assert top_5 == 1
    shuffled = label_scale.measure(given, without, rng.permutation(truth))[0]
    assert shuffled < 0.6
