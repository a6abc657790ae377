"""An encoder that anybody can fetch: frozen, a bundle is without it; fine-tuned, its last stage alone can be kept."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import captioning
from captioning.data.images import read_image
from captioning.decoder.config import config_for
from captioning.decoder.model import CaptionModel
from captioning.encoders.registry import build_encoder, earlier_weights, open_stages
from captioning.errors import DataError
from captioning.inference import bundle
from captioning.options import DecodeOptions, ModelOptions
from tests.inference.test_bundle import assert_refused, config_of, disk_full, fail_at, save, write_config


@pytest.fixture(scope="module")
def frozen(tokenizer, tmp_path_factory):
    """A bundle of a captioner on a frozen MobileNetV2, and two files of weights of that: the right one and another."""
    folder = tmp_path_factory.mktemp("frozen")
    model_options = ModelOptions(encoder="mobilenetv2", image_size=64, feature_units=8, attention_units=8, lstm_units=8)
    encoder = build_encoder("mobilenetv2", "none", 64)
    network = next(layer for layer in encoder.layers if isinstance(layer, keras.Model))
    model = CaptionModel(config_for(model_options, len(tokenizer), encoder.output_shape))
    model.build()
    network.save_weights(folder / "right.weights.h5")
    parts = bundle.Parts(model, tokenizer, encoder, model_options, DecodeOptions(max_length=3))
    bundle.save(folder / "bundle", parts, files={}, about={})
    with h5py.File(shutil.copy(folder / "right.weights.h5", folder / "wrong.weights.h5"), "r+") as file:
        file.visititems(lambda name, item: item.write_direct(item[()] * 1.2) if hasattr(item, "write_direct") else None)
    return folder, parts


def test_a_frozen_encoder_is_brought_along(frozen, pictures):
    folder, parts = frozen
    loaded = captioning.load(folder / "bundle", encoder_weights=str(folder / "right.weights.h5"))
    pixels = np.stack([read_image(picture, size=64) for picture in pictures])
    np.testing.assert_allclose(loaded.features(pictures), parts.encoder(pixels), rtol=1e-3, atol=1e-8)
    assert loaded.features(pictures).shape == (7, 4, 1280)


def test_other_weights_of_a_frozen_encoder(frozen):
    folder, _ = frozen
    file = str(folder / "wrong.weights.h5")
    assert_refused(folder / "bundle", "trained with other weights of mobilenetv2", encoder_weights=file)


def test_a_frozen_encoder_at_another_size(frozen, tmp_path):
    folder = Path(shutil.copytree(frozen[0] / "bundle", tmp_path / "bundle"))
    config = config_of(folder)
    config["encoder"]["image_size"] = 96
    write_config(folder, config)
    assert_refused(folder, "a model for features of another shape", encoder_weights=str(frozen[0] / "right.weights.h5"))


def test_weights_of_a_frozen_encoder_that_are_not_there(frozen):
    with pytest.raises(DataError, match=r"no weights file nowhere\.h5"):
        captioning.load(frozen[0] / "bundle", encoder_weights="nowhere.h5")


@pytest.fixture(scope="module")
def tuned(frozen, tokenizer):
    """The folder of such a bundle, its parts, and the file of the rest of its encoder's weights."""
    folder, parts = frozen
    encoder = build_encoder("mobilenetv2", str(folder / "right.weights.h5"), 64)
    open_stages(encoder)
    for weight in encoder.trainable_weights:
        weight.assign(weight * 1.1)
    model = CaptionModel(parts.model.config, encoder)
    model.build()
    parts = bundle.as_saved(bundle.Parts(model, tokenizer, None, parts.model_options, parts.decoding, whole=False))
    bundle.save(folder / "tuned", parts, files={}, about={})
    return folder / "tuned", parts, str(folder / "right.weights.h5")


@pytest.mark.whole
def test_what_was_tuned_is_kept_and_the_rest_is_fetched(tuned, pictures):
    folder, parts, file = tuned
    loaded = captioning.load(folder, encoder_weights=file)
    grids = loaded.features(pictures)
    assert grids.shape == (7, 4, 1280)
    np.testing.assert_array_equal(grids, parts.captioner().features(pictures))
    assert [*map(str, loaded.caption(pictures))] == [*map(str, parts.captioner().caption(pictures))]
    assert_refused(folder, "trained with other weights of mobilenetv2", encoder_weights="none")


def test_what_is_fetched_takes_no_room(tuned, tmp_path):
    folder, parts, _ = tuned
    before = [weight.copy() for weight in parts.model.get_weights()]
    bundle.save(tmp_path / "whole", replace(parts, whole=True), files={}, about={})
    sizes = [os.path.getsize(place / "model.weights.h5") for place in (folder, tmp_path / "whole")]
    rest = sum(int(np.prod(weight.shape)) for weight in earlier_weights(parts.model.encoder))
    assert sizes[1] - sizes[0] == pytest.approx(2 * rest, rel=0.2)
    assert all(np.array_equal(*pair) for pair in zip(before, parts.model.get_weights(), strict=True))


def test_the_rest_is_whole_again_after_a_save_that_fails(tuned, tmp_path, monkeypatch):
    _, parts, _ = tuned
    before = parts.model.get_weights()
    monkeypatch.setattr(CaptionModel, "save_weights", fail_at(0, None, disk_full()))
    with pytest.raises(OSError, match="space"):
        save(tmp_path / "new", parts)
    assert all(np.array_equal(*pair) for pair in zip(before, parts.model.get_weights(), strict=True))
