"""A bundle from a stranger: nothing outside it is read, no memory is taken for what it only claims to hold."""

import hashlib
import itertools
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from captioning.data.tokenizer import SPECIAL_WORDS
from captioning.decoder.config import ModelConfig, count_weights
from captioning.decoder.model import CaptionModel
from captioning.errors import BundleError
from captioning.inference import bundle, bundle_files
from captioning.inference.familiarity import Familiarity
from captioning.inference.weights_file import validate_hdf5
from tests.inference.test_bundle import assert_refused, config_of, replace_file, write_config

WEIGHTS = "model.weights.h5"
VALUE = "keys/vars/0"  # one of the arrays in it
FREE_WIDTHS = ("feature_units", "attention_units", "lstm_units", "embedding_units")


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_another_byte_in_the_config_is_noticed(copy):
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"num_beams": 3', '"num_beams": 2'))
    assert_refused(copy, "config.json is not the file of this training")


def test_parts_of_three_trainings_of_the_same_words_are_never_mixed(parts, tmp_path):
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for number, folder in enumerate(folders):
        keras.utils.set_random_seed(number)
        model = CaptionModel(parts.model.config, parts.model.encoder)
        model.build()
        told = {"scores.json": json.dumps({"seed": number})}
        bundle.save(folder, replace(parts, model=model), files=told, about={"seed": number})
    swaps = 0
    for (whose, other), name in itertools.product(
        itertools.permutations(folders, 2), (f.name for f in folders[0].iterdir())
    ):
        own, foreign = (whose / name).read_bytes(), (other / name).read_bytes()
        if own != foreign:
            (whose / name).write_bytes(foreign)
            assert_refused(whose, "is not the file of this training")
            (whose / name).write_bytes(own)
            swaps += 1
    assert swaps == 6 * len(("config.json", WEIGHTS, "scores.json"))  # the words are the same


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "scores.json"])
def test_a_link_is_not_followed(copy, name):
    (copy / name).rename(copy.parent / name)
    (copy / name).symlink_to(copy.parent / name)
    assert_refused(copy, f"{name}, which is outside the bundle")


@pytest.mark.parametrize("files", [[["a", "b"]], [[1, 2]], "text", 7])
def test_files_that_are_no_record(copy, files):
    write_config(copy, config_of(copy) | {"files": files})
    assert_refused(copy, "does not describe a captioner")


def test_weights_are_counted_before_they_are_made():
    config = ModelConfig(11, 9, 5, feature_units=7, attention_units=3, lstm_units=4, embedding_units=6)
    model = CaptionModel(config)
    model.build()
    assert count_weights(config) == model.count_params()


@pytest.mark.parametrize("width", FREE_WIDTHS)
def test_a_network_larger_than_its_weights_is_not_built(copy, width, monkeypatch):
    config = config_of(copy)
    config["model"][width] = 2 * 10**9
    write_config(copy, config)
    monkeypatch.setattr(CaptionModel, "__init__", None)
    assert_refused(copy, "too small for such a network")


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json"])
def test_endless_text_is_not_read(copy, name):
    words = json.dumps({"format": 1, "words": [*SPECIAL_WORDS, *(f"w{number}" for number in range(500_000))]})
    replace_file(copy, "vocabulary.json", words.encode())
    if name == "config.json":
        write_config(copy, config_of(copy) | {"about": words})
    assert_refused(copy, f"{name} has more than 4 MB")


KNOWN = Familiarity(np.eye(2, dtype="float32"), 0.5).record()
CONFIGS = {  # what config.json says at a place, and a part of the sentence that refuses it
    "NaN in the calibration": (("calibration",), {"bias": float("nan"), "likelihood": 0, "agreement": 0}, "NaN"),
    "a calibration without bound": (("calibration",), {"bias": 1e300, "likelihood": 1, "agreement": 1}, "too large"),
    "NaN in the familiarity": (("familiarity",), KNOWN | {"limit": float("nan")}, "NaN"),
    "a familiarity without a limit": (("familiarity",), {"depth": 1}, "limit is missing|'limit' is missing"),
    "a familiarity of another depth": (("familiarity",), KNOWN, "another depth"),
    "a familiarity that is a list": (("familiarity",), [1], "does not describe a captioner"),
    "half a direction": (("familiarity",), KNOWN | {"directions": "AA=="}, "not whole"),
    "NaN in a direction": (("familiarity",), KNOWN | {"directions": "AH4AAA=="}, "not of length 1"),
    "a huge probe": (("encoder", "probe"), [10**400] * 8, "64 bits"),
    "an infinite probe": (("encoder", "probe"), [float("inf")] * 8, "Infinity"),
    "an infinite probe as text": (("encoder", "probe"), ["inf"] * 8, "probe"),
    "about that is a list": (("about",), [["glove_coverage", 1]], "about"),
    "about that is nothing": (("about",), None, "about"),
    "a lone surrogate": (("about", "data"), "\ud800", "surrogates"),
    "deep nests": (("about", "deep"), eval("[" * 60 + "]" * 60), "nested more than 50"),
    "a thousand beams": (("decoding", "num_beams"), 1000, "1 to 50 was expected"),
    "a thousand captions": (("decoding", "num_captions"), 1000, "1 to 100 was expected"),
    "a thousand words": (("decoding", "max_length"), 1000, "1 to 100 was expected"),
    "an infinite penalty": (("decoding", "length_penalty"), float("inf"), "Infinity"),
    "a format of many lines": (("format",), "1\n\x1b[31mforged", "has format"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_would_do_harm_later(copy, name):
    (*place, last), value, reason = CONFIGS[name]
    config = section = config_of(copy)
    for part in place:
        section = section[part]
    section[last] = value
    write_config(copy, config)
    assert_refused(copy, reason)


@pytest.mark.parametrize("word", ["two\nlines", "\x1b[2J", "\ud800"])
def test_a_vocabulary_that_would_write_into_the_terminal(copy, tokenizer, word):
    words = {"format": 1, "words": [*tokenizer.words[:-1], word]}
    replace_file(copy, "vocabulary.json", json.dumps(words).encode())
    assert_refused(copy, "cannot be printed|surrogates")


def test_hdf5_has_no_folder_of_plugins_to_open_strange_files_with(copy):
    h5py.h5pl.append(b"plugins")
    replace_file(copy, WEIGHTS, bytes(10**5))
    assert_refused(copy, "does not fit")
    assert not h5py.h5pl.size()


def rewritten(folder: Path, change) -> None:
    """The bundle with its weights changed, and vouched for."""
    with h5py.File(folder / WEIGHTS, "r+") as file:
        change(file)
    replace_file(folder, WEIGHTS, (folder / WEIGHTS).read_bytes())


def packed(file: h5py.File) -> None:
    value = file[VALUE][()]
    del file[VALUE]
    file.create_dataset(VALUE, value.shape, value.dtype, compression="gzip", data=value)


def endless(file: h5py.File) -> None:
    del file[VALUE]
    file.create_dataset(VALUE, (10**6, 10**3), "float16")


def wide(file: h5py.File) -> None:
    del file[VALUE]
    file.create_dataset(VALUE, (1,), "S2000000000")


def elsewhere(file: h5py.File) -> None:
    value = file[VALUE]
    shape, kind = value.shape, value.dtype
    del file[VALUE]
    file.create_dataset(VALUE, shape, kind, external=[("/etc/passwd", 0, 2 * int(np.prod(shape)))])


def composed(file: h5py.File) -> None:
    value = file[VALUE]
    layout = h5py.VirtualLayout(value.shape, value.dtype)
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", value.shape)
    del file[VALUE]
    file.create_virtual_dataset(VALUE, layout)


def linked(file: h5py.File) -> None:
    del file[VALUE]
    file[VALUE] = h5py.ExternalLink("/etc/passwd", "x")


def aliased(file: h5py.File) -> None:
    del file[VALUE]
    file[VALUE] = h5py.SoftLink("/head/vars/0")


def nested(file: h5py.File) -> None:
    group = file
    for _ in range(5000):
        group = group.create_group("g")


def circular(file: h5py.File) -> None:
    file["head/again"] = file["head"]
    file["head/once more"] = file["head"]


def crowded(file: h5py.File) -> None:
    for number in range(10_001):
        file.create_group(f"crowd/{number}")


def timed(file: h5py.File) -> None:
    h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((3,)))


HOSTILE = {
    nested: "nested more than 20 deep",
    circular: "nested more than 20 deep|more than 10,000 entries",
    crowded: "more than 10,000 entries",
    timed: "No NumPy equivalent",
    packed: "plain numbers",
    endless: "1,000,",
    wide: "plain numbers",
    elsewhere: "plain numbers",
    composed: "plain numbers",
    linked: "is a link",
    aliased: "is a link",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_weights_that_are_not_simply_there(copy, change):
    rewritten(copy, change)
    assert_refused(copy, f"{WEIGHTS} does not fit its config.json.*({HOSTILE[change]})")


def test_thousands_of_nested_groups_are_refused_at_once(copy):
    rewritten(copy, nested)
    before = time.perf_counter()
    with pytest.raises(ValueError, match="nested"):
        validate_hdf5(copy / WEIGHTS, 10**9)
    assert time.perf_counter() - before < 5  # seconds; HDF5's own walk takes more than a minute


# Single files of a bundle


def test_a_listed_file_is_read(copy):
    assert bundle.read_listed(copy, "scores.json") == b"{}"


def test_a_file_that_is_not_listed_is_not_read(copy):
    (copy / "README.md").write_text("a card")
    assert bundle.read_listed(copy, "README.md") == b""


def test_a_listed_file_that_is_a_link_is_refused(copy):
    secret = copy.parent / "secret"
    secret.write_bytes(b"{}")  # even where the contents are those that the config lists
    (copy / "scores.json").unlink()
    (copy / "scores.json").symlink_to(secret)
    with pytest.raises(BundleError, match="outside the bundle"):
        bundle.read_listed(copy, "scores.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_listed_file_that_is_a_pipe_is_refused_at_once(copy):
    (copy / "scores.json").unlink()
    os.mkfifo(copy / "scores.json")
    with pytest.raises(BundleError, match=r"lacks scores\.json"):
        bundle.read_listed(copy, "scores.json")


def test_a_listed_file_with_other_contents_is_refused(copy):
    (copy / "scores.json").write_bytes(b"[]")
    with pytest.raises(BundleError, match="not the file of this training"):
        bundle.read_listed(copy, "scores.json")


def test_a_listed_file_is_read_up_to_a_limit(copy, monkeypatch):
    monkeypatch.setattr(bundle_files, "LARGEST_FILE", 1)
    with pytest.raises(BundleError, match=r"scores\.json has more than"):
        bundle.read_listed(copy, "scores.json")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_a_listed_file_outside_the_bundle_is_refused(copy, name):
    config = config_of(copy)
    config["files"][name] = hashlib.sha256(b"").hexdigest()
    write_config(copy, config)
    with pytest.raises(BundleError, match="outside the bundle"):
        bundle.read_listed(copy, name)
