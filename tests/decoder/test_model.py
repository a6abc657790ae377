"""Training and decoding are one network; it looks, it learns captions by heart, it keeps float32 where it matters."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from captioning.data.tokenizer import END, START
from captioning.decoder.compiled_search import CaptionSearch
from captioning.decoder.config import ModelConfig, config_for
from captioning.decoder.model import WORD_SPREAD, CaptionModel
from captioning.decoder.search import SearchRules
from captioning.options import DecodeOptions, ModelOptions

WORDS, REGIONS, DEPTH, UNITS = 12, 4, 6, 8


def build(seed: int = 0, encoder: keras.Model | None = None, units: int = UNITS, **others) -> CaptionModel:
    keras.utils.set_random_seed(seed)
    widths = {"feature_units": units, "attention_units": units, "lstm_units": units, "embedding_units": units}
    model = CaptionModel(ModelConfig(WORDS, REGIONS, DEPTH, **widths | {"dropout": 0.0} | others), encoder)
    model.build()
    return model


def features_for(images: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, REGIONS, DEPTH)).astype("float32")


def tokens_for(*shape: int, seed: int = 1) -> np.ndarray:
    tokens = np.random.default_rng(seed).integers(3, WORDS, shape).astype("int32")
    tokens[..., 0] = START
    return tokens


def array(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def stepwise(model: CaptionModel, features, tokens) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (B, R, T, V) and attention (B, R, T, L), word by word."""
    state = model.start(features, tokens.shape[1])
    log_probs, attentions = [], []
    for time in range(tokens.shape[2]):
        found, state, attention = model.step(tokens[:, :, time], state)
        log_probs.append(array(found))
        attentions.append(array(attention))
    return np.stack(log_probs, axis=2), np.stack(attentions, axis=2)


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture
def bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("rows", [1, 3])
def test_word_by_word_is_as_all_at_once(model, rows):
    features, tokens = features_for(2), tokens_for(2, rows, 5)
    whole = ops.log_softmax(model({"features": features, "tokens": tokens}), axis=-1)
    log_probs, _ = stepwise(model, features, tokens)
    np.testing.assert_allclose(log_probs, array(whole), atol=1e-5)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-5)


def test_captions_of_one_image_are_as_if_it_were_shown_for_each(model):
    features, tokens = features_for(2), tokens_for(2, 3, 5)
    grouped = model({"features": features, "tokens": tokens})
    apart = model({"features": np.repeat(features, 3, axis=0), "tokens": tokens.reshape(6, 1, 5)})
    np.testing.assert_allclose(array(grouped).reshape(6, 1, 5, WORDS), array(apart), atol=1e-5)


def test_the_state_has_a_row_a_caption_and_shares_the_image(model):
    state = model.start(features_for(3), 2)
    assert [part.shape[:2] for part in state] == [(3, 1), (3, 1), (3, 2), (3, 2)]
    log_probs, after, attention = model.step(np.full((3, 2), START, "int32"), state)
    assert log_probs.shape == (3, 2, WORDS)
    assert attention.shape == (3, 2, REGIONS)
    assert [part.shape for part in after] == [part.shape for part in state]
    assert [part.dtype for part in after] == [part.dtype for part in state]


def test_attention_sums_to_one_and_follows_image_and_words(model):
    features, tokens = features_for(2), tokens_for(2, 2, 4)
    _, attention = stepwise(model, features, tokens)
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)
    assert np.ptp(attention, axis=0).max() > 1e-4
    assert np.ptp(attention, axis=1).max() > 1e-4
    assert np.ptp(attention, axis=2).max() > 1e-4


def test_regions_are_told_apart_by_their_place():
    model, features = build(), features_for(1)
    tokens = tokens_for(1, 1, 3)
    moved = features[:, ::-1].copy()
    before, after = (array(model({"features": grid, "tokens": tokens})) for grid in (features, moved))
    np.testing.assert_allclose(before, after, atol=1e-5)  # places mean nothing yet
    model.positions.assign(np.random.default_rng(0).normal(size=model.positions.shape))
    before, after = (array(model({"features": grid, "tokens": tokens})) for grid in (features, moved))
    assert np.abs(before - after).max() > 1e-3


def test_later_words_do_not_change_earlier_ones(model):
    features, tokens = features_for(2), tokens_for(2, 2, 6)
    tokens[:, :, 3] = END
    other = tokens.copy()
    other[:, :, 4:] = 0
    one, two = (array(model({"features": features, "tokens": some})) for some in (tokens, other))
    np.testing.assert_allclose(one[:, :, :4], two[:, :, :4], atol=1e-6)
    assert np.abs(one[:, :, 4:] - two[:, :, 4:]).max() > 1e-3


def test_images_are_as_the_features_their_encoder_gives():
    layer = [layers.Input((8, 8, 3)), layers.Conv2D(DEPTH, 4, strides=4), layers.Reshape((REGIONS, DEPTH))]
    model = build(encoder=keras.Sequential(layer))
    images, tokens = np.random.default_rng(0).random((2, 8, 8, 3), "float32"), tokens_for(2, 2, 4)
    seen = model.encoder(images)
    one, two = (array(model({"features": some, "tokens": tokens})) for some in (images, seen))
    np.testing.assert_allclose(one, two, atol=1e-6)
    one, two = (stepwise(model, some, tokens)[0] for some in (images, seen))
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert any(variable is model.encoder.trainable_variables[0] for variable in model.trainable_variables)


def train_once(model: CaptionModel) -> dict[str, np.ndarray]:
    """How far one step moved each variable that can be trained."""
    model.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = {variable.path: array(variable) for variable in model.trainable_variables}
    tokens = tokens_for(2, 2, 5)
    model.train_on_batch({"features": features_for(2), "tokens": tokens[..., :-1]}, tokens[..., 1:])
    return {
        variable.path: np.abs(array(variable) - before[variable.path]).max() for variable in model.trainable_variables
    }


@pytest.mark.parametrize("live", [True, False])
def test_word_vectors_learn_only_while_they_are_live(live):
    model = build()
    model.train_words(live)
    moved = train_once(model)
    words = {path for path in moved if "embedding/" in path}
    assert len(words) == 1
    assert all((distance > 0) == (live or path not in words) for path, distance in moved.items()), moved


def test_frozen_word_vectors_are_still_looked_up():
    model, inputs = build(), {"features": features_for(1), "tokens": tokens_for(1, 1, 4)}
    before = array(model(inputs))
    model.train_words(False)
    np.testing.assert_allclose(array(model(inputs)), before, atol=1e-6)


def test_word_vectors_are_brought_to_the_networks_spread():
    model, vectors = build(), np.random.default_rng(0).normal(3, 7, (WORDS, UNITS)).astype("float32")
    model.set_word_vectors(vectors)
    found = array(model.embedding.embeddings)
    np.testing.assert_allclose(found.std(), WORD_SPREAD, rtol=1e-4)
    np.testing.assert_allclose(found / found[0, 0], vectors / vectors[0, 0], rtol=1e-3)


def test_dropout_is_for_training_only():
    model, inputs = build(dropout=0.5), {"features": features_for(1), "tokens": tokens_for(1, 1, 4)}
    np.testing.assert_array_equal(array(model(inputs)), array(model(inputs, training=False)))
    assert np.abs(array(model(inputs, training=True)) - array(model(inputs))).max() > 1e-3


def test_mixed_precision_keeps_results_in_float32(bfloat16):
    model, features, tokens = build(), features_for(2), tokens_for(2, 2, 4)
    assert model.head.compute_dtype == "bfloat16"
    state = model.start(features, 2)
    log_probs, after, attention = model.step(tokens[:, :, 0], state)
    logits = model({"features": features, "tokens": tokens})
    dtypes = [keras.backend.standardize_dtype(some.dtype) for some in (log_probs, attention, logits)]
    assert dtypes == ["float32"] * 3
    assert [part.dtype for part in after] == [part.dtype for part in state]
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in model.weights} == {"float32"}
    np.testing.assert_allclose(array(attention).sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(np.exp(array(log_probs)).sum(-1), 1, atol=1e-5)


def test_attention_stays_within_the_regions_given():
    model, features = build(), features_for(2)
    where = np.ones((2, REGIONS), bool)
    where[0, 1:] = False
    attention = keras.ops.convert_to_numpy(model.step(tokens_for(2, 3), model.start(features, 3, where))[2])
    np.testing.assert_allclose(attention[0, :, 0], 1, atol=1e-6)
    free = keras.ops.convert_to_numpy(model.step(tokens_for(2, 3), model.start(features, 3))[2])
    np.testing.assert_allclose(attention[1], free[1], atol=1e-6)


def test_the_attention_penalty_counts_in_training_only():
    model, features, tokens = build(attention_penalty=2.0), features_for(2), tokens_for(2, 2, 5)
    tokens[1, 1, 2:] = 0
    inputs = {"features": features, "tokens": tokens}
    model(inputs)
    assert not model.losses
    model(inputs, training=True)
    _, attention = stepwise(model, features, tokens)
    heavy = (tokens != 0)[..., None]
    looked, fair = (attention * heavy).sum(2), heavy.sum(2) / REGIONS
    wanted = 2.0 * np.square(looked - fair).sum(-1).mean()
    np.testing.assert_allclose([keras.ops.convert_to_numpy(loss) for loss in model.losses], [wanted], rtol=1e-4)
    free = build()
    free(inputs, training=True)
    assert not free.losses


def test_the_configuration_follows_the_options():
    config = config_for(ModelOptions(lstm_units=7, dropout=0.25), 99, (None, 49, 2048))
    assert (config.vocabulary_size, config.num_regions, config.feature_depth) == (99, 49, 2048)
    assert (config.lstm_units, config.dropout) == (7, 0.25)
    assert config.attention_units == ModelOptions().attention_units


CAPTIONS = [[4, 5, 6, END, 0], [4, 7, END, 0, 0], [8, 9, 10, 11, END], [11, 9, 4, END, 0]]


@pytest.fixture(scope="module")
def learnt():
    model = build(units=24)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    targets = np.array(CAPTIONS, "int32")[:, None]
    tokens = np.concatenate([np.full((4, 1, 1), START, "int32"), targets[..., :-1]], axis=-1)
    parts = ({"features": features_for(4), "tokens": tokens}, targets, (targets != 0).astype("float32"))
    inputs, targets, weights = keras.tree.map_structure(lambda part: np.concatenate([part] * 150), parts)
    model.fit(inputs, targets, sample_weight=weights, batch_size=4, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize(
    "options", [{"strategy": "greedy"}, {"num_beams": 3}, {"strategy": "sample", "temperature": 0.1, "num_captions": 2}]
)
def test_four_captions_are_learnt_by_heart(learnt, options):
    found = CaptionSearch(learnt, SearchRules(DecodeOptions(max_length=5, **options))).search(features_for(4))
    for image, caption in enumerate(CAPTIONS):
        assert found.tokens[image, 0].tolist() == caption
    said = found.tokens[:, 0] != 0
    assert np.exp(found.log_probs[:, 0][said]).min() > 0.5


def test_the_network_looks_at_the_image(learnt):
    found = CaptionSearch(learnt, SearchRules(DecodeOptions(max_length=5))).search(features_for(4)[::-1])
    assert found.tokens[:, 0].tolist() == CAPTIONS[::-1]
