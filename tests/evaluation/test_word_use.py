"""Words that are said too often or too seldom are found, those that may be so by chance are not."""

import random

import pytest

from captioning.evaluation.word_use import CATEGORIES, MOST_WORDS, word_use, word_use_text

PLACES = ("on the grass", "by the sea", "in the snow")


def references(noun: str, count: int = 60) -> list[list[str]]:
    """Images of this noun, told of in three ways each."""
    return [[f"a {noun} {place}" for place in PLACES] for _ in range(count)]


def told(use: dict) -> dict[str, list[str]]:
    return {
        f"{category} {way}": [rate["word"] for rate in use[category][way]] for category in use for way in use[category]
    }


def test_what_is_said_in_place_of_something_else_is_found_with_both_rates():
    wanted = references("woman", 30) + references("man", 30)
    use = word_use(["a man on the grass"] * 60, wanted)
    assert use == {
        "people": {
            "more": [{"word": "man", "captions": 1.0, "references": 0.5}],
            "less": [{"word": "woman", "captions": 0.0, "references": 0.5}],
        }
    }
    assert word_use_text(use).splitlines()[1] == "  people    more often man 100% (50%); less often woman 0% (50%)"


def test_every_reference_of_an_image_counts_alike_however_many_there_are():
    wanted = [["a dog runs", "a dog", "an animal", "a puppy"], ["a dog"]] * 20
    [rate] = word_use(["a dog"] * 40, wanted)["animals"]["more"]
    assert rate == {"word": "dog", "captions": 1.0, "references": 0.75}


def test_a_word_counts_once_a_caption():
    assert word_use(["two dogs and two dogs and two dogs"] * 50, [["two dogs"]] * 50) == {}


def test_people_against_themselves_are_not_told():
    rng = random.Random(0)
    words = [word for words in CATEGORIES.values() for word in words.split()]
    wanted = [[" ".join(rng.sample(words, 4)) for _ in range(5)] for _ in range(400)]
    assert word_use([rng.choice(texts) for texts in wanted], wanted) == {}


@pytest.mark.parametrize(("images", "found"), [(1, False), (9, False), (10, True)])
def test_a_few_images_are_no_proof(images, found):
    assert bool(word_use(["a cat"] * images, [["a dog"]] * images)) is found


def test_the_furthest_off_come_first_and_no_more_than_a_few():
    colours = CATEGORIES["colours"].split()[: MOST_WORDS + 2]
    wanted = [[f"a {colour} car"] for rank, colour in enumerate(colours) for _ in range(20 + 10 * rank)]
    use = word_use(["a car"] * len(wanted), wanted)
    assert told(use) == {"colours more": [], "colours less": colours[: -MOST_WORDS - 1 : -1]}
    assert "more often" not in word_use_text(use)


@pytest.mark.parametrize("caption", ["", "ein hund läuft", "一 只 狗", "a teapot"])
def test_where_there_is_nothing_to_tell_nothing_is_told(caption):
    use = word_use([caption] * 50, [["une théière", "犬"]] * 50)
    assert (use, word_use_text(use)) == ({}, "")


def test_every_word_is_in_one_category():
    words = " ".join(CATEGORIES.values()).split()
    assert len(words) == len(set(words))
    assert all(word == word.lower() for word in words)
