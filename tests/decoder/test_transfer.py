"""What another captioner has learnt is taken over whole; a word new to it keeps what it has, and nothing else moves."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from captioning.data.tokenizer import UNKNOWN
from captioning.decoder.model import CaptionModel
from captioning.decoder.transfer import choose_share, copy_matching_weights, interpolate_weights, start_new_words


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


def probabilities(model: CaptionModel, grids: np.ndarray, words: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(ops.softmax(model({"features": grids, "tokens": words})))


@pytest.mark.parametrize("unknown", [0, 5])
def test_new_words_share_the_probability_of_unknown_and_all_others_keep_theirs(base, unknown):
    old = len(base.tokenizer)
    words = [*base.tokenizer.words, "zebra", "quagga"]
    model = network(replace(base.model.config, vocabulary_size=len(words)))
    copy_matching_weights(model, words, base)
    start_new_words(model, [6, 2], unknown)
    grids, said = grids_for(model.config), np.arange(36).reshape(3, 2, 6) % old
    before, after = (probabilities(each, grids, said) for each in (base.model, model))
    known = [number for number in range(old) if number != UNKNOWN]
    np.testing.assert_allclose(after[..., known], before[..., known], rtol=1e-4)
    shares = np.array([unknown + 1, 6, 2]) / (unknown + 9)
    np.testing.assert_allclose(after[..., [UNKNOWN, old, old + 1]], before[..., [UNKNOWN]] * shares, rtol=1e-4)
    new = np.full_like(said, old)
    np.testing.assert_allclose(
        probabilities(model, grids, new)[..., known],
        probabilities(base.model, grids, np.full_like(said, UNKNOWN))[..., known],
        rtol=1e-4,
    )


def test_without_new_words_nothing_changes(base):
    before = base.model.get_weights()
    start_new_words(base.model, [], 3)
    for old, new in zip(before, base.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("gains", "chosen"),
    [
        ([0.0, 0.0], 0.8),
        ([1.0, 2.0], 0.0),
        ([1.0, -1.0], 0.4),
        ([-1.0, 1.0], 0.0),
        ([0.05, 0.05], 0.8),  # no more than chance
    ],
)
def test_less_of_the_base_model_is_kept_only_where_it_is_clearly_better(base, gains, chosen):
    model, rng = base.model, np.random.default_rng(0)
    noise = rng.normal(0, 0.2, (3, 12))
    noise -= noise.mean(axis=1, keepdims=True)
    initial = model.get_weights()
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    trained, found = model.get_weights(), iter(np.array([0.0, *gains])[:, None] + noise)
    assert choose_share(model, initial, (0.8, 0.4, 0.0), lambda: next(found)) == chosen
    after = model.get_weights()
    model.set_weights(trained)
    interpolate_weights(model, initial, chosen)
    for own, wanted in zip(after, model.get_weights(), strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-6)


def test_with_another_encoder_all_but_the_projection_of_its_features_is_copied(base):
    model, untouched = network(base.model.config, seed=6), network(base.model.config, seed=6)
    copy_matching_weights(model, base.tokenizer.words, base, same_encoder=False)
    for found, own, copied in zip(*(each.trainable_weights for each in (model, untouched, base.model)), strict=True):
        is_projection = "feature_projection" in found.path
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (found, own if is_projection else copied)))
