"""Captioners that caption together say what the mean of their probabilities says; those that do not fit are refused."""

from dataclasses import replace

import numpy as np
import pytest
from keras import ops

import captioning
from captioning.data.tokenizer import START, Tokenizer
from captioning.decoder.config import config_for
from captioning.decoder.keras_ensemble import KerasEnsemble
from captioning.decoder.model import CaptionModel
from captioning.encoders.registry import build_encoder
from captioning.errors import BundleError
from captioning.inference import bundle
from captioning.options import DecodeOptions


@pytest.fixture(scope="module")
def another(parts):
    """A model of the same encoder whose other weights differ."""
    model = CaptionModel(parts.model.config, parts.model.encoder)
    model.build()
    encoder_paths = {weight.path for weight in model.encoder.weights}
    rng = np.random.default_rng(3)
    for mine, its in zip(model.weights, parts.model.weights, strict=True):
        if mine.path not in encoder_paths:
            mine.assign(np.asarray(its) + 0.5 * rng.standard_normal(its.shape).astype("float32"))
    return model


@pytest.fixture(scope="module")
def both(saved, parts, another):
    """The folders of the two bundles."""
    folder = saved.with_name("another")
    bundle.save(folder, replace(parts, model=another), files={}, about={})
    return saved, folder


def step(model, grids):
    tokens = np.full((len(grids), 1), START, "int32")
    log_probs, _, attention = model.step(tokens, model.start(grids))
    return np.exp(ops.convert_to_numpy(log_probs)), ops.convert_to_numpy(attention)


def test_a_word_is_as_likely_as_the_members_think_on_average(parts, another, captioner, pictures):
    grids = captioner.features(pictures)
    members = [parts.model, another]
    probabilities, attention = zip(*(step(model, grids) for model in members), strict=True)
    found = step(KerasEnsemble(members), grids)
    assert np.abs(probabilities[0] - probabilities[1]).max() > 0.1
    np.testing.assert_allclose(found[0], np.mean(probabilities, axis=0), atol=1e-5)
    np.testing.assert_allclose(found[1], np.mean(attention, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "region"),
    [
        (DecodeOptions(max_length=6, force=("dog",)), (0.0, 0.0, 0.5, 1.0)),
        (DecodeOptions(max_length=6, strategy="sample", num_captions=3), None),
    ],
)
def test_a_captioner_asked_twice_says_what_it_says_alone(parts, captioner, pictures, options, region):
    twice = replace(parts, model=KerasEnsemble([parts.model, parts.model])).captioner()
    said = [each.caption(pictures[:2], options, region=region) for each in (twice, captioner)]
    for found, wanted in zip(*said, strict=True):
        assert found.text == wanted.text
        assert found.score == pytest.approx(wanted.score, abs=1e-4)


def test_the_order_of_the_bundles_does_not_matter_but_that_there_are_two_does(both, captioner, pictures):
    there, back = captioning.load(*both), captioning.load(*reversed(both))
    captions = there.caption(pictures)
    said = [caption.text for caption in captions]
    assert said == [caption.text for caption in back.caption(pictures)]
    assert said != [caption.text for caption in captioner.caption(pictures)]
    rivals = there.alternatives(pictures[0], captions[0], count=3)
    assert [len(each) for each in rivals] == [3] * (len(captions[0].words) + 1)
    assert there.calibration is None  # how sure one was says nothing of both


def test_captioners_of_other_words_are_refused(saved, parts, tmp_path):
    words = list(parts.tokenizer.words)
    words[-2:] = reversed(words[-2:])
    bundle.save(tmp_path / "other", replace(parts, tokenizer=Tokenizer(words)), files={}, about={})
    with pytest.raises(BundleError, match="different words"):
        captioning.load(saved, tmp_path / "other")


def test_captioners_fine_tuned_apart_look_through_their_own_eyes(saved, parts, pictures, tmp_path):
    model = CaptionModel(parts.model.config, build_encoder("tiny", image_size=32))
    model.build()
    bundle.save(tmp_path / "other", replace(parts, model=model), files={}, about={})
    folders = saved, tmp_path / "other"
    together, alone = captioning.load(*folders), [captioning.load(folder) for folder in folders]
    told = [step(one.model, one.features(pictures))[0] for one in alone]
    assert np.abs(told[0] - told[1]).max() > 0.1
    found, _ = step(together.model, together.features(pictures))
    np.testing.assert_allclose(found, np.mean(told, axis=0), atol=1e-3)
    mirrored = replace(together.options, mirrored=True)
    assert len(together.caption(pictures, mirrored, region=(0.0, 0.0, 0.5, 1.0))) == len(pictures)


def test_captioners_that_look_at_larger_pictures_are_refused(saved, parts, tmp_path):
    model_options = replace(parts.model_options, image_size=64)
    encoder = build_encoder("tiny", image_size=64)
    model = CaptionModel(config_for(model_options, len(parts.tokenizer), encoder.output_shape), encoder)
    model.build()
    bundle.save(tmp_path / "other", replace(parts, model=model, model_options=model_options), files={}, about={})
    with pytest.raises(BundleError, match=r"images of 64 pixels in .* of 32 in "):
        captioning.load(saved, tmp_path / "other")
