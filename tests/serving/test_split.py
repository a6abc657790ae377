"""An experiment between captioners: sticky, in the shares asked for, and nothing said of another captioner counts."""

import pytest

from captioning.errors import CaptioningError
from captioning.serving.split import read_split

NAMES = ("flickr8k", "other", "third")


def arms(split, people):
    return [split.captioner(split.person(person)) for person in people]


def test_a_person_keeps_their_captioner_and_shares_are_as_asked():
    split, people = read_split("flickr8k=80,other=20", NAMES), [f"key{number}" for number in range(4000)]
    given = arms(split, people)
    assert given == arms(read_split("flickr8k=4, other=1", NAMES), people)
    assert given.count("other") / len(given) == pytest.approx(0.2, abs=0.02)
    assert set(given) == {"flickr8k", "other"}


def test_other_shares_move_only_those_who_must():
    people = [f"key{number}" for number in range(2000)]
    before, after = (arms(read_split(text, NAMES), people) for text in ("flickr8k=80,other=20", "flickr8k=70,other=30"))
    moved = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert set(moved) == {("flickr8k", "other")}
    assert len(moved) / len(people) == pytest.approx(0.1, abs=0.02)


def test_the_people_of_one_key_may_get_different_captioners():
    split = read_split("flickr8k=50,other=50", NAMES)
    given = [split.captioner(split.person("key", f"user {number}")) for number in range(200)]
    assert 60 < given.count("other") < 140
    assert split.person("key", "user 1") not in {split.person("key"), split.person("another", "user 1")}


def test_what_is_said_of_a_captioner_that_was_not_given_does_not_count():
    split = read_split("flickr8k=50,other=50", NAMES)
    person = split.person("key")
    given = split.captioner(person)
    [foreign] = {"flickr8k", "other"} - {given}
    assert split.note(person, given) == {"arm": given, "person": person}
    assert split.note(person, foreign) == split.note(person, "third") == {}
    assert "key" not in person


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flickr8k",
        "flickr8k=80",
        "flickr8k=80,flickr8k=20",
        "flickr8k=0,other=1",
        "flickr8k=-1,other=1",
        "flickr8k=a,other=1",
        "flickr8k=80,nobody=20",
        "flickr8k=80,other=20,",
        "flickr8k=1e3,other=1",
        "=1,other=1",
    ],
)
def test_what_is_no_split_is_refused(text):
    with pytest.raises(CaptioningError, match=r"^--split"):
        read_split(text, NAMES)
