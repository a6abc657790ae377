"""Every option refuses what cannot be used, and says which, what it was, and what was expected."""

from dataclasses import FrozenInstanceError, fields

import pytest

from captioning.encoders import registry
from captioning.errors import CaptioningError
from captioning.options import (
    ENCODERS,
    RECORDS,
    DecodeOptions,
    ModelOptions,
    RunOptions,
    TrainOptions,
    WordOptions,
    changed,
)
from captioning.training.presets import SCENES, SMOKE

NAN, INFINITE = float("nan"), float("inf")


OWNER = {entry.name: record for record in RECORDS for entry in fields(record)}


def cases(expected, **values):
    return [(OWNER[name], {name: value}, name, value, expected) for name, some in values.items() for value in some]


REFUSED = [
    *cases("one of flickr8k, flickr30k, coco, coco2014, scenes", dataset=["coco2015", ""]),
    *cases("1 or more", min_count=[0, -1]),
    *cases("2 or more", caption_length=[1, 0]),
    *cases("0 or more", glove_frozen_epochs=[-1]),
    *cases("one of resnet50,", encoder=["vgg", "ResNet50"]),
    *cases("1 or more", feature_units=[0], attention_units=[0], lstm_units=[-5], embedding_units=[0]),
    *cases("0 up to 1", dropout=[1.0, -0.1, NAN]),
    *cases("0, or 32 to 1024", image_size=[31, -224, 1025]),
    *cases("1 or more", batch_size=[0, -1], captions_per_image=[0]),
    *cases("more than 0", learning_rate=[0.0, -1.0, NAN], fine_tune_rate=[0.0], clip_norm=[0.0, -1.0]),
    *cases("0 or more", attention_penalty=[-1.0, NAN]),
    *cases("0 or more", epochs=[-1], weight_decay=[-0.1], fine_tune_epochs=[-1], patience=[-1]),
    *cases("0 up to 1", label_smoothing=[1.0, -0.1], warmup=[1.0, -0.1]),
    *cases("1 or more", devices=[0, -1]),
    *cases("0 to 1", max_unreadable=[-0.1, 1.1, NAN]),
    *cases("one of auto, float32,", precision=["float16"]),
    *cases("one of greedy, beam, sample", strategy=["best"]),
    *cases("1 to 50", num_beams=[0, 51, 1000]),
    *cases("1 to 100", num_captions=[0, 10**9], max_length=[0, 101, 1000]),
    *cases("a whole number", num_beams=["5", 2.0, True, None], sampling_seed=[1.5]),
    *cases("a number was", length_penalty=["0.7"], top_p=[None]),
    *cases("a list of words", force=["dog", ("dog", 1)], forbid=[7]),
    *cases("true or false", mirrored=[1]),
    *cases("0 or more", min_length=[-1], length_penalty=[-0.1, INFINITE], no_repeat_ngram_size=[-1], top_k=[-1]),
    *cases("0 or more", sampling_seed=[-1]),
    *cases("more than 0", temperature=[0.0, -1.0, NAN, INFINITE], repetition_penalty=[0.0]),
    *cases("more than 0, up to 1", top_p=[0.0, 1.1, NAN]),
    *cases("at most --max-length 20", min_length=[21]),
    *cases("one of local, ray", engine=["spark"]),
    *cases("0 or more", workers=[-1]),
    *cases("--engine ray", workers=[2]),
    *cases("a code such as de", language=["Deutsch", "DE", "d", "de_at", "../de"]),
    *cases("at most 3 with this strategy", num_captions=[4]),
]


@pytest.mark.parametrize(("record", "values", "name", "value", "expected"), REFUSED)
def test_refused_by_name_value_and_expectation(record, values, name, value, expected):
    with pytest.raises(CaptioningError) as refused:
        record(**values)
    sentence = str(refused.value)
    assert sentence.startswith((f"--{name.replace('_', '-')} {value} ", f"--{name.replace('_', '-')} {value!r} "))
    assert expected in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"strategy": "greedy", "num_captions": 2}, "--num-captions 2"),
        ({"num_beams": 5, "num_captions": 6}, "--num-captions 6"),
        ({"strategy": "greedy", "force": ("dog",)}, "--force dog"),
        ({"strategy": "sample", "force": ("dog", "cat")}, "--force dog cat"),
        ({"max_length": 1, "force": ("dog", "cat")}, "--force"),
    ],
)
def test_options_that_do_not_go_together(values, flag):
    with pytest.raises(CaptioningError) as refused:
        DecodeOptions(**values)
    assert str(refused.value).startswith(flag)


@pytest.mark.parametrize(
    "values",
    [
        {"add_languages": ("de",)},
        {"add_languages": ("de", "German"), "bundle": "one"},
        {"add_languages": ("de",), "bundle": "one", "from_feedback": "feedback.db"},
    ],
)
def test_languages_are_added_to_a_bundle_under_their_codes(values):
    with pytest.raises(CaptioningError, match=r"--add-languages de.* codes such as de, with --bundle"):
        RunOptions(**values)


@pytest.mark.parametrize(
    ("record", "values"),
    [
        (WordOptions, {"min_count": 1, "caption_length": 2, "glove_frozen_epochs": 0}),
        (ModelOptions, {"image_size": 32, "dropout": 0.0}),
        (TrainOptions, {"warmup": 0.0, "label_smoothing": 0.0, "weight_decay": 0.0}),
        (DecodeOptions, {"strategy": "sample", "num_captions": 100, "top_p": 0.01, "top_k": 1}),
        (DecodeOptions, {"num_beams": 5, "num_captions": 5, "min_length": 20, "length_penalty": 0.0}),
        (DecodeOptions, {"num_beams": 1, "force": ("dog",), "max_length": 1}),
    ],
)
def test_the_edges_of_what_is_allowed(record, values):
    for name, value in values.items():
        assert getattr(record(**values), name) == value


def test_a_list_of_words_is_as_good_as_a_tuple():
    assert DecodeOptions(force=["dog", "cat"]) == DecodeOptions(force=("dog", "cat"))


def test_single_options_are_changed_by_name():
    assert changed(DecodeOptions(max_length=9), num_beams=5) == DecodeOptions(max_length=9, num_beams=5)
    assert changed(DecodeOptions()) == DecodeOptions()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("num_beam", "num_beams or num_captions"),
        ("beams", "num_beams"),
        ("maxlen", "max_length or"),
        ("x", "strategy or"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_ones(name, nearest):
    with pytest.raises(CaptioningError, match=rf"no option {name}; did you mean {nearest}.*\?$"):
        changed(DecodeOptions(), **{name: 1})


@pytest.mark.parametrize("record", RECORDS)
def test_defaults_are_usable_and_fixed(record):
    options = record()
    with pytest.raises(FrozenInstanceError):
        setattr(options, fields(record)[0].name, "changed")
    hash(options)


@pytest.mark.parametrize("record", RECORDS)
def test_every_option_explains_itself(record):
    assert record.__doc__
    for entry in fields(record):
        assert len(entry.metadata["help"]) > 10
        assert type(entry.default) in (int, float, str, bool, tuple)


@pytest.mark.parametrize("preset", [SCENES, SMOKE, SCENES | SMOKE])
def test_presets_are_usable(preset):
    for record in RECORDS:
        record(**{entry.name: preset[entry.name] for entry in fields(record) if entry.name in preset})


def test_every_encoder_is_downloaded_or_ours():
    networks = {name for name, spec in ENCODERS.items() if not spec.application}
    assert networks == set(registry.NETWORKS)
