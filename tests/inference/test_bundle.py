"""What is saved is what is loaded; what does not fit together is refused in one sentence; a save is whole or undone."""

import errno
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import captioning
from captioning.data.tokenizer import Tokenizer
from captioning.decoder.model import CaptionModel
from captioning.encoders.registry import build_encoder
from captioning.errors import BundleError, CaptioningError, StorageError
from captioning.inference import bundle, bundle_writer
from captioning.options import DecodeOptions
from captioning.runtime import files as storage

FILES = ("tokenizer.pkl", "vocabulary.json", "model.weights.h5", "scores.json")


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_bytes())


def write_config(folder: Path, config: object) -> None:
    """Without the sum of its own, as bundles of before are: what a stranger writes may have any."""
    kept = {name: value for name, value in config.items() if name != "sum"} if isinstance(config, dict) else config
    (folder / "config.json").write_text(json.dumps(kept))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Alters a file and its hash, so that only a look into it can tell."""
    (folder / name).write_bytes(data)
    config = config_of(folder)
    config["files"][name] = hashlib.sha256(data).hexdigest()
    write_config(folder, config)


def assert_refused(folder: Path, match: str, **others) -> None:
    with pytest.raises(BundleError, match=match) as refused:
        captioning.load(folder, **others)
    assert str(folder) in str(refused.value) or "vocabulary" in str(refused.value)
    assert "\n" not in str(refused.value)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_loaded_is_what_was_saved(saved, captioner, pictures):
    loaded = captioning.load(saved)
    np.testing.assert_allclose(loaded.features(pictures), captioner.features(pictures), atol=1e-5)
    assert loaded.options == captioner.options
    for found, wanted in zip(loaded.caption(pictures), captioner.caption(pictures), strict=True):
        assert found.text == wanted.text
        assert found.score == pytest.approx(wanted.score, abs=1e-5)
        for word, same in zip(found.words, wanted.words, strict=True):
            assert word.probability == pytest.approx(same.probability, abs=1e-5)
            np.testing.assert_allclose(word.attention, same.attention, atol=1e-5)


def test_a_bundle_holds_what_it_was_given(saved, parts):
    assert {path.name for path in saved.iterdir()} == {*FILES, "config.json"}
    assert config_of(saved)["about"] == {"seed": 1}
    assert Tokenizer.from_pickle((saved / "tokenizer.pkl").read_bytes()).words == parts.tokenizer.words


def test_a_bundle_tells_what_it_was_made_with(saved):
    told = config_of(saved)["made_with"]
    assert told["keras"] == keras.__version__
    assert {"python", "numpy", keras.backend.backend()} <= told.keys()
    assert len(told.get("commit", "0" * 40)) == 40


def test_every_weight_is_filed_under_its_own_name(saved):
    """Keras numbers layers whose attribute comes after "layers" in the alphabet in the order in which they are made."""
    with h5py.File(saved / "model.weights.h5") as file:
        assert not list(file.get("layers", ())), "name the attribute so that it comes before 'layers'"
        assert {"attention_score", "context_projection", "embedding", "head", "hidden_projection"} <= file.keys()


def test_weights_take_half_the_room(saved, parts):
    with h5py.File(saved / "model.weights.h5") as file:
        assert {str(file[name]["vars/0"].dtype) for name in ("embedding", "head", "keys")} == {"float16"}
    assert (saved / "model.weights.h5").stat().st_size < 2 * parts.model.count_params() + 200_000


def test_weights_too_large_for_half_precision_stay_numbers(parts):
    large = parts.model.get_weights()
    large[0] = np.full_like(large[0], 1e6)
    model = CaptionModel(parts.model.config, build_encoder("tiny", image_size=32))
    model.build()
    model.set_weights(large)
    kept = bundle.as_saved(
        bundle.Parts(model, parts.tokenizer, None, parts.model_options, parts.decoding)
    ).model.get_weights()
    assert all(np.isfinite(weight).all() for weight in kept)


def test_loading_opens_no_pickle(saved, monkeypatch):
    def refuse(*arguments, **others):
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(Tokenizer, "from_pickle", refuse)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    captioning.load(saved)


def test_a_training_in_any_precision_ends_in_float32(parts, captioner, pictures):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder = build_encoder("tiny", image_size=32)
        model = CaptionModel(parts.model.config, encoder)
        model.build()
        model.set_weights(parts.model.get_weights())
        plain = bundle.as_saved(bundle.Parts(model, parts.tokenizer, None, parts.model_options, parts.decoding))
        assert plain.model.compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
    assert plain.captioner().caption(pictures[0]).text == captioner.caption(pictures[0]).text


# What does not fit


def test_a_folder_that_is_no_bundle(tmp_path):
    assert_refused(tmp_path, "no config.json; a training writes one")
    assert_refused(tmp_path / "nowhere", "no config.json")


@pytest.mark.parametrize("text", ["", "{", '{"format": 1', "\xff", "[" * 100_000])
def test_a_config_that_is_broken(copy, text):
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    assert_refused(copy, "not readable JSON")


@pytest.mark.parametrize("config", [{}, {"format": 2}, {"format": "1"}, [], 1, None, "text"])
def test_a_config_of_another_format(copy, config):
    write_config(copy, config)
    assert_refused(copy, "has format .*reads format 1")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing(copy, name):
    (copy / name).unlink()
    assert_refused(copy, f"lacks {name}; copy the whole folder")


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_one_other_byte(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    assert_refused(copy, f"{name} is not the file of this training")


@pytest.mark.parametrize("name", ["model.weights.h5", "vocabulary.json"])
def test_a_file_that_the_config_does_not_vouch_for(copy, name):
    config = config_of(copy)
    del config["files"][name]
    write_config(copy, config)
    assert_refused(copy, f"{name} is not the file of this training")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", ""])
def test_a_file_outside_the_bundle_is_not_looked_at(copy, name):
    (copy.parent / "x").write_bytes(b"")
    config = config_of(copy)
    config["files"][name] = hashlib.sha256(b"").hexdigest()
    write_config(copy, config)
    assert_refused(copy, "outside the bundle|lacks")


def test_weights_that_are_not_numbers(copy):
    with h5py.File(copy / "model.weights.h5", "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) and item.size else None)
        found[-1][...] = np.nan
    replace_file(copy, "model.weights.h5", (copy / "model.weights.h5").read_bytes())
    assert_refused(copy, "NaN or infinite weights")


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_network(copy):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    replace_file(copy, "model.weights.h5", bundle.weights_bytes(model))
    assert_refused(copy, "model.weights.h5 does not fit")


def test_weights_that_are_no_weights(copy):
    replace_file(copy, "model.weights.h5", b"not HDF5")
    assert_refused(copy, "model.weights.h5 does not fit")


def test_a_vocabulary_of_another_size(copy, tokenizer):
    replace_file(copy, "vocabulary.json", Tokenizer(tokenizer.words[:-1]).to_json().encode())
    assert_refused(copy, "29 words, the model 30; .*different trainings")


def test_a_vocabulary_that_is_none(copy):
    replace_file(copy, "vocabulary.json", b"{}")
    assert_refused(copy, "not one of this program")


SECTIONS = ("model", "encoder", "decoding", "files")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [None, [], 1, "text", {"strange": 1}])
def test_a_section_that_is_something_else(copy, section, value):
    config = config_of(copy)
    config[section] = value
    write_config(copy, config)
    assert_refused(copy, "config.json|lacks|not the file")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_missing(copy, section):
    config = config_of(copy)
    del config[section]
    write_config(copy, config)
    assert_refused(copy, f"does not describe a captioner .*{section}")


FIELDS = [
    *(("model", name) for name in ("vocabulary_size", "num_regions", "feature_depth", "lstm_units", "dropout")),
    *(("encoder", name) for name in ("name", "image_size", "trained", "probe")),
]


@pytest.mark.parametrize(("section", "name"), FIELDS)
@pytest.mark.parametrize("value", [None, "text", [], {}, -1, True, 2.5])
def test_a_value_of_another_kind(copy, section, name, value):
    config = config_of(copy)
    if config[section][name] is value:
        return
    config[section][name] = value
    write_config(copy, config)
    assert_refused(copy, "copy the bundle again|different trainings")


@pytest.mark.parametrize(
    ("name", "value"), [("strategy", "guess"), ("num_beams", 0), ("num_beams", 2.0), ("force", "dog"), ("force", [1])]
)
def test_a_search_that_makes_no_sense(copy, name, value):
    config = config_of(copy)
    config["decoding"][name] = value
    write_config(copy, config)
    assert_refused(copy, "does not describe a captioner")


@pytest.mark.parametrize(
    ("section", "name"),
    [
        *(("model", name) for name in ("vocabulary_size", "num_regions", "feature_depth", "lstm_units")),
        *(("encoder", name) for name in ("name", "image_size", "trained", "probe")),
    ],
)
def test_a_value_that_is_missing(copy, section, name):
    config = config_of(copy)
    del config[section][name]
    write_config(copy, config)
    assert_refused(copy, "does not describe a captioner|does not fit")


def test_options_that_came_later_have_their_defaults(copy):
    config = config_of(copy)
    del config["decoding"]["no_repeat_ngram_size"], config["model"]["attention_penalty"]
    write_config(copy, config)
    assert captioning.load(copy).options == DecodeOptions(max_length=6)


# A save that is interrupted


def save(folder: Path, parts) -> None:
    bundle.save(folder, parts, files={"scores.json": '{"new": 1}'}, about={"seed": 2})


def fail_at(number: int, real, error: BaseException):
    """The real function, but for its call of this number, from 0, which raises."""
    calls = iter(range(10**6))

    def call(*arguments, **others):
        if next(calls) == number:
            raise error
        return real(*arguments, **others)

    return call


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_save_takes_the_place_of_an_older_one(copy, parts):
    save(copy, parts)
    assert config_of(copy)["about"] == {"seed": 2}
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    captioning.load(copy)


@pytest.mark.parametrize("number", range(len(FILES) + 1))
def test_a_disk_that_fills_up_at_any_file_keeps_the_older_bundle(copy, parts, monkeypatch, number):
    before = snapshot(copy)
    monkeypatch.setattr(storage.os, "replace", fail_at(number, os.replace, disk_full()))
    with pytest.raises(StorageError, match="the disk is full"):
        save(copy, parts)
    monkeypatch.undo()
    assert snapshot(copy) == before
    save(copy, parts)
    assert config_of(copy)["about"] == {"seed": 2}


@pytest.mark.parametrize("number", [0, 1])
def test_a_disk_that_refuses_the_swap_keeps_the_older_bundle(copy, parts, monkeypatch, number):
    before = snapshot(copy)
    monkeypatch.setattr(Path, "rename", fail_at(number, Path.rename, disk_full()))
    with pytest.raises(StorageError, match="the disk is full"):
        save(copy, parts)
    monkeypatch.undo()
    assert snapshot(copy) == before


def test_a_kill_in_the_middle_of_the_swap_keeps_the_older_bundle(copy, parts, monkeypatch):
    monkeypatch.setattr(Path, "rename", fail_at(1, Path.rename, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(copy, parts)
    monkeypatch.undo()
    captioning.load(copy)
    save(copy, parts)
    assert config_of(copy)["about"] == {"seed": 2}


def test_after_that_kill_a_save_that_is_refused_keeps_the_older_bundle_too(copy, parts, monkeypatch):
    monkeypatch.setattr(Path, "rename", fail_at(1, Path.rename, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(copy, parts)
    monkeypatch.setattr(Path, "rename", fail_at(0, Path.rename, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(copy, parts)
    captioning.load(copy)


def test_a_first_save_that_fails_leaves_no_bundle(tmp_path, parts, monkeypatch):
    monkeypatch.setattr(Path, "rename", fail_at(0, Path.rename, disk_full()))
    with pytest.raises(StorageError):
        save(tmp_path / "new", parts)
    monkeypatch.undo()
    with pytest.raises(CaptioningError, match=r"no config\.json"):
        captioning.load(tmp_path / "new")


def test_weights_are_written_elsewhere_where_memory_is_short(parts, monkeypatch):
    whole = len(bundle.weights_bytes(parts.model))
    real, places = bundle_writer.tempfile.TemporaryDirectory, []
    monkeypatch.setattr(bundle_writer.tempfile, "TemporaryDirectory", lambda dir: (places.append(dir), real())[1])
    monkeypatch.setattr(bundle_writer.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 1000))
    assert len(bundle.weights_bytes(parts.model)) == whole
    assert places == [None]
