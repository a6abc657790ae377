"""Words survive the way to ids and back; what a caption says is data; no file can make the tokenizer run anything."""

import collections
import io
import itertools
import json
import os
import pickle
import pkgutil
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.tokenizer import END, PAD, SPECIAL_WORDS, START, UNKNOWN, Tokenizer, normalise
from captioning.errors import BundleError

CAPTIONS = ["A dog runs on the grass.", "The dog's ball is on the grass", "A T-shirt, a ball!", "猫が dog"]


@pytest.fixture
def tokenizer():
    return Tokenizer.fit(CAPTIONS, min_count=1)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog , running .", ["a", "dog", "running"]),
        ("The DOG's ball", ["the", "dog", "'s", "ball"]),
        ("the dog\u2019s ball", ["the", "dog", "'s", "ball"]),
        ("the dogs' ball, don't!", ["the", "dogs", "ball", "don't"]),
        ("a t-shirt - a well-known mother-in-law's", ["a", "t-shirt", "a", "well-known", "mother-in-law", "'s"]),
        ("dog's_tail", ["dog", "'s", "tail"]),
        ("2 dogs,3 cats", ["2", "dogs", "3", "cats"]),
        ("Ein Bällchen im Gras", ["ein", "bällchen", "im", "gras"]),
        ("एक कुत्ता घास पर दौड़ता है", ["एक", "कुत्ता", "घास", "पर", "दौड़ता", "है"]),
        ("cafe\u0301s \u0301", ["cafés"]),
        ("猫が眠る cat", ["猫", "が", "眠", "る", "cat"]),
        ("dog's猫", ["dog", "'s", "猫"]),
        ("", []),
        (" \n\t... --- '' _ ", []),
    ],
)
def test_normalise(caption, words):
    assert normalise(caption) == words


@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("s'-_ \u2019aİΣ猫."))))
def test_normalised_words_are_already_normal(caption):
    words = normalise(caption)
    assert normalise(" ".join(words)) == words


def test_fit_keeps_frequent_words_most_frequent_first():
    tokenizer = Tokenizer.fit(["b b b a a a c c d", "c"], min_count=2)
    assert tokenizer.words == (*SPECIAL_WORDS, "a", "b", "c")
    assert Tokenizer.fit(["c c b b a", "b a a c"], min_count=2).words == tokenizer.words  # whatever the order
    assert len(tokenizer) == 7


@pytest.mark.parametrize("caption", ["a dog runs on the grass", "the dog's ball", "a t-shirt"])
def test_round_trip(tokenizer, caption):
    assert tokenizer.decode(tokenizer.encode(caption)) == caption


@given(st.lists(st.text(string.ascii_lowercase + "äöß猫", min_size=1), min_size=1))
def test_words_of_the_vocabulary_survive(captions):
    tokenizer = Tokenizer.fit(captions, min_count=1)
    for caption in captions:
        assert tokenizer.split(tokenizer.encode(caption)) == normalise(caption)


def test_special_words_in_captions_are_data():
    tokenizer = Tokenizer.fit(["a <end> of the <start>", "<unk> <pad>"], min_count=1)
    assert tokenizer.words[4:] == ("a", "end", "of", "pad", "start", "the", "unk")
    tokens = tokenizer.encode("a <end> of <pad>")
    assert tokenizer.decode(tokens) == "a end of pad"
    assert not set(tokens) & {PAD, START, END, UNKNOWN}
    assert [tokenizer.id(word) for word in SPECIAL_WORDS] == [UNKNOWN] * 4


@given(st.lists(st.sampled_from(["<start>", "<end>", "<pad>", "<unk>", "startseq", "a dog"]) | st.text(max_size=5)))
def test_no_caption_starts_or_ends_twice(pieces):
    tokenizer = Tokenizer.fit([" ".join(pieces), "a dog"], min_count=1)
    row = list(tokenizer.encode_batch([" ".join(pieces)], 40)[0])
    assert row.count(START) == 1
    assert row.count(END) <= 1


def test_unknown_words_have_the_unknown_id(tokenizer):
    assert tokenizer.encode("a zebra runs") == [tokenizer.id("a"), UNKNOWN, tokenizer.id("runs")]


def test_encode_batch_cuts_and_pads(tokenizer):
    a, dog, runs = tokenizer.encode("a dog runs")
    rows = tokenizer.encode_batch(["a dog runs", "A dog.", "", "a dog runs a dog runs"], 4)
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        [START, a, dog, runs, END],
        [START, a, dog, END, PAD],
        [START, END, PAD, PAD, PAD],
        [START, a, dog, runs, a],
    ]


def test_decode_stops_at_the_end(tokenizer):
    a, dog = tokenizer.encode("a dog")
    assert tokenizer.decode([START, a, dog, END, a, a]) == "a dog"
    assert tokenizer.decode([PAD, a, PAD, dog]) == "a dog"
    assert tokenizer.decode(np.array([END, a])) == ""
    assert tokenizer.split([a, UNKNOWN]) == ["a", "<unk>"]


def test_files_round_trip(tokenizer):
    assert Tokenizer.from_json(tokenizer.to_json()).words == tokenizer.words
    assert Tokenizer.from_json(tokenizer.to_json().encode()).words == tokenizer.words
    assert Tokenizer.from_pickle(tokenizer.to_pickle()).words == tokenizer.words
    plain = pickle.loads(tokenizer.to_pickle())
    assert plain == {"format": 1, "words": list(tokenizer.words)}  # anyone's unpickler reads it


WRONG_RECORDS = [
    None,
    [],
    {"format": 1},
    {"format": 2, "words": [*SPECIAL_WORDS, "a"]},
    {"format": 1, "words": "abcd"},
    {"format": 1, "words": [*SPECIAL_WORDS, 7]},
    {"format": 1, "words": ["a", "b"]},
    {"format": 1, "words": [*SPECIAL_WORDS, "a", "a"]},
]


@pytest.mark.parametrize("record", WRONG_RECORDS)
def test_wrong_vocabularies_are_refused(record):
    with pytest.raises(BundleError):
        Tokenizer.from_json(json.dumps(record))
    with pytest.raises(BundleError):
        Tokenizer.from_pickle(pickle.dumps(record))


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe\x00", "[" * 100_000, "<html>"])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(BundleError):
        Tokenizer.from_json(text)


class Poison:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


class Outsider(pickle.Pickler):
    def persistent_id(self, thing):
        return "elsewhere" if thing == "a" else None


def outside(record):
    file = io.BytesIO()
    Outsider(file).dump(record)
    return file.getvalue()


def poisoned(marker: Path) -> dict[str, bytes]:
    record = {"format": 1, "words": [*SPECIAL_WORDS, "a"]}
    touch = f"touch {marker}"
    return {
        "system": pickle.dumps(Poison(os.system, (touch,))),
        "nested": pickle.dumps(record | {"extra": Poison(os.system, (touch,))}),
        "protocol 0": pickle.dumps(Poison(os.system, (touch,)), protocol=0),
        "eval": pickle.dumps(Poison(eval, (f"__import__('pathlib').Path({str(marker)!r}).touch()",))),
        "instance": f"(S{touch!r}\nios\nsystem\n.".encode(),
        "getattr": pickle.dumps(Poison(getattr, (record, "keys"))),
        "counter": pickle.dumps(collections.Counter(a=1)),
        "path": pickle.dumps(record | {"where": Path("/")}),
        "persistent": outside(record),
        "not callable": b"\x80\x04\x8c\x06system)R.",
        "too long": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
        "text": b"hello",
    }


@pytest.mark.parametrize("name", poisoned(Path()))
def test_poisoned_pickles_run_nothing(name, tmp_path):
    marker = tmp_path / "marker"
    with pytest.raises(BundleError):
        Tokenizer.from_pickle(poisoned(marker)[name])
    assert not marker.exists()


CALLS = {  # name: arguments, where {} is the file to touch
    "os.system": ("touch {}",),
    "os.popen": ("touch {}",),
    "os.mkdir": ("{}",),
    "subprocess.Popen": (["touch", "{}"],),
    "subprocess.check_call": (["touch", "{}"],),
    "pathlib.Path.touch": (Path("{}"),),
    "builtins.eval": ("open('{}', 'w')",),
    "builtins.exec": ("open('{}', 'w')",),
    "builtins.open": ("{}", "w"),
    "shutil.copy": ("/etc/hostname", "{}"),
}
PLACES = {
    "the record": lambda poison: poison,
    "a word": lambda poison: {"format": 1, "words": [*SPECIAL_WORDS, poison]},
    "beside the words": lambda poison: {"format": 1, "words": [*SPECIAL_WORDS], "more": poison},
    "a key": lambda poison: {poison: 1, "format": 1, "words": [*SPECIAL_WORDS]},
}


def with_marker(argument, marker):
    if isinstance(argument, list):
        return [with_marker(each, marker) for each in argument]
    return type(argument)(str(argument).replace("{}", str(marker)))


@pytest.mark.parametrize("protocol", range(6))
def test_no_call_in_any_place_of_a_pickle_is_made(protocol, tmp_path):
    marker = tmp_path / "marker"
    for (name, arguments), place in itertools.product(CALLS.items(), PLACES.values()):
        call = Poison(pkgutil.resolve_name(name), tuple(with_marker(each, marker) for each in arguments))
        with pytest.raises(BundleError, match="was not written by this program"):
            Tokenizer.from_pickle(pickle.dumps(place(call), protocol=protocol))
        assert not marker.exists()


def test_the_poison_is_poisonous(tmp_path):
    for name in ("system", "nested", "protocol 0", "eval", "instance"):
        marker = tmp_path / name.replace(" ", "-")
        pickle.loads(poisoned(marker)[name])
        assert marker.exists()


def test_truncated_pickles_are_refused(tokenizer):
    data = tokenizer.to_pickle()
    for length in range(len(data)):
        with pytest.raises(BundleError):
            Tokenizer.from_pickle(data[:length])


@pytest.mark.parametrize("word", ["a\nforged row", "\x1b[2J", "a\u2028b", "\u202edog", "\r", "\0", ""])
def test_words_that_cannot_be_printed_are_refused(word):
    words = [*SPECIAL_WORDS, "a", word]
    for read, text in (
        (Tokenizer.from_json, json.dumps({"format": 1, "words": words})),
        (Tokenizer.from_pickle, pickle.dumps({"format": 1, "words": words})),
    ):
        with pytest.raises(BundleError, match="cannot be printed") as refused:
            read(text)
        assert str(refused.value).isprintable()


def test_a_word_that_is_half_a_character_is_refused():
    with pytest.raises(BundleError, match="surrogates not allowed"):
        Tokenizer.from_json(json.dumps({"format": 1, "words": [*SPECIAL_WORDS, "\ud800"]}))
    with pytest.raises(BundleError, match="cannot be printed"):
        Tokenizer.from_pickle(pickle.dumps({"format": 1, "words": [*SPECIAL_WORDS, "\ud800"]}, protocol=4))


@pytest.mark.parametrize(
    "text", ["Ein Hündchen läuft", "一只狗在跑", "कुत्ता दौड़ता है", "สุนัข วิ่ง", "cafe\u0301 dog's t-shirt"]
)
def test_the_words_of_any_script_can_be_printed(text):
    tokenizer = Tokenizer.fit([text], min_count=1)
    assert len(tokenizer) > 5
    assert Tokenizer.from_json(tokenizer.to_json()).words == tokenizer.words


def test_an_extended_vocabulary_keeps_every_word_at_its_id_and_adds_what_is_seen_often_enough():
    base = Tokenizer.fit(["a dog runs", "a dog sits"], min_count=1)
    more = ["a quokka hops", "a quokka and a dog", "a bilby"]
    extended = base.extended(more, min_count=2)
    assert extended.words == (*base.words, "quokka")
    assert base.extended(more).words == (*base.words, "quokka", "and", "bilby", "hops")
    assert base.extended([]).words == base.words
    assert extended.encode("a quokka hops") == [*base.encode("a"), len(base), UNKNOWN]
