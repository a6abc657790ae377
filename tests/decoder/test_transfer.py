"""What another captioner has learnt is taken over whole; a word new to it keeps what it has, and nothing else moves."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from captioning.decoder.model import CaptionModel
from captioning.decoder.transfer import copy_matching_weights, interpolate_weights


def network(config, seed: int = 5) -> CaptionModel:
    keras.utils.set_random_seed(seed)
    model = CaptionModel(config)
    model.build()
    return model


@pytest.fixture
def base(parts):
    """A captioner without its encoder, every weight of it another number than at the start."""
    model = network(parts.model.config)
    for number, weight in enumerate(model.trainable_weights):
        weight.assign(np.random.default_rng(number).normal(0, 0.3, weight.shape))
    return SimpleNamespace(model=model, tokenizer=parts.tokenizer)


def told(model: CaptionModel, grids: np.ndarray, words: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(model({"features": grids, "tokens": words}))


def grids_for(config, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, config.num_regions, config.feature_depth)).astype("float32")


def test_with_the_same_words_it_says_the_same(base):
    heir = network(base.model.config)
    assert copy_matching_weights(heir, base.tokenizer.words, base) == len(base.tokenizer)
    grids, words = grids_for(heir.config), np.arange(36).reshape(3, 2, 6) % len(base.tokenizer)
    np.testing.assert_array_equal(told(heir, grids, words), told(base.model, grids, words))


def test_words_stand_where_they_are_now_and_new_ones_keep_what_they_have(base):
    old = base.tokenizer.words
    words = [*old[:4], "zebra", *old[:3:-1][:20], "quagga"]
    heir = network(replace(base.model.config, vocabulary_size=len(words)))
    own, head = heir.embedding.get_weights()[0], heir.head.get_weights()[0]
    assert copy_matching_weights(heir, words, base) == len(words) - 2
    new = [words.index("zebra"), words.index("quagga")]
    np.testing.assert_array_equal(heir.embedding.get_weights()[0][new], own[new])
    np.testing.assert_array_equal(heir.head.get_weights()[0][:, new], head[:, new])
    shared = [number for number in range(len(words)) if number not in new]
    places = [old.index(words[number]) for number in shared]
    said = np.array([[[1, *shared[4:9]]]])
    meant = np.array([[[1, *places[4:9]]]])
    grids = grids_for(heir.config, 1)
    logits = told(heir, grids, said)[..., shared]
    np.testing.assert_allclose(logits, told(base.model, grids, meant)[..., places], rtol=1e-5, atol=1e-5)


def test_more_regions_have_their_places_between_the_old_ones(base):
    config = replace(base.model.config, num_regions=16)
    assert base.model.config.num_regions == 9
    base.model.positions.assign(np.arange(9.0)[:, None] * np.ones((1, config.feature_units)))
    heir = network(config)
    copy_matching_weights(heir, base.tokenizer.words, base)
    found = ops.convert_to_numpy(heir.positions)[:, 0].reshape(4, 4)
    assert (found[0, 0], found[0, 3], found[3, 0], found[3, 3]) == pytest.approx((0, 2, 6, 8))
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) >= 0).all()


def test_what_reads_regions_of_another_depth_stays(base):
    config = replace(base.model.config, feature_depth=3)
    heir, untouched = network(config), network(config)
    copy_matching_weights(heir, base.tokenizer.words, base)
    kernels = [ops.convert_to_numpy(model.feature_projection.kernel) for model in (heir, untouched)]
    np.testing.assert_array_equal(*kernels)
    np.testing.assert_array_equal(heir.keys.get_weights(), base.model.keys.get_weights())


def test_an_encoder_that_it_holds_is_left_alone(parts, base):
    keras.utils.set_random_seed(7)
    encoder = keras.models.clone_model(parts.model.encoder)
    before = encoder.get_weights()
    heir = CaptionModel(parts.model.config, encoder)
    heir.build()
    copy_matching_weights(heir, parts.tokenizer.words, SimpleNamespace(model=parts.model, tokenizer=parts.tokenizer))
    for old, new in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(heir.head.get_weights()[0], parts.model.head.get_weights()[0])


@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_a_network_goes_back_part_of_the_way_to_what_it_was(base, share):
    model, numbers = base.model, np.random.default_rng(0)
    begun = [ops.convert_to_numpy(weight) for weight in model.weights]
    for weight in model.trainable_weights:
        weight.assign(numbers.normal(size=weight.shape))
    learnt = [ops.convert_to_numpy(weight) for weight in model.weights]
    interpolate_weights(model, begun, share)
    for weight, before, after in zip(model.weights, begun, learnt, strict=True):
        wanted = after if not weight.trainable else after + share * (before - after)
        np.testing.assert_allclose(ops.convert_to_numpy(weight), wanted, rtol=1e-5, atol=1e-6)
