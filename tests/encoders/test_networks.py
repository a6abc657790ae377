"""Our own encoder: each region sees its part of the picture, its batch norms can be folded, it trains."""

import keras
import numpy as np
import pytest

from captioning.encoders.registry import build_encoder, open_stages
from captioning.errors import DataError

NORM = keras.layers.BatchNormalization


def pixels_for(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype="uint8")


def changed_by_a_spot(encoder: keras.Model, rows: slice, columns: slice) -> np.ndarray:
    """How much a white spot in a grey picture changes each region, (rows, columns)."""
    picture = np.full((1, *encoder.input_shape[1:]), 128, "float32")
    plain = np.asarray(encoder(picture))
    picture[0, rows, columns] = 255
    change = np.abs(np.asarray(encoder(picture)) - plain).sum(axis=-1)
    return change.reshape(round(change.size**0.5), -1)


def test_the_regions_are_in_order():
    encoder = build_encoder("tiny")
    assert encoder.input_shape == (None, 132, 132, 3)
    assert encoder.output_shape == (None, 121, 128)
    changed = changed_by_a_spot(encoder, slice(38, 46), slice(98, 106))
    assert np.unravel_index(changed.argmax(), (11, 11)) == (3, 8)
    assert changed[7:].max() == 0


def test_every_batch_norm_can_be_folded():
    """Into the convolution right before it, which has no bias and feeds nothing else."""
    encoder = build_encoder("tiny", "none", 32)
    norms = [layer for layer in encoder.layers if isinstance(layer, NORM)]
    assert norms
    for norm in norms:
        before = norm.input._keras_history.operation
        assert isinstance(before, keras.layers.Conv2D)
        assert not before.use_bias
        assert len(before._outbound_nodes) == 1


def test_it_trains():
    keras.utils.set_random_seed(0)
    encoder = build_encoder("tiny", "none", 32)
    before = [weight.numpy() for weight in encoder.trainable_weights]
    encoder.compile("adam", "mse", run_eagerly=True)
    pixels, grids = pixels_for(4, 32).astype("float32"), np.ones((4, *encoder.output_shape[1:]), "float32")
    losses = [encoder.train_on_batch(pixels, grids) for _ in range(3)]
    assert losses[-1] < losses[0]
    for weight, old in zip(encoder.trainable_weights, before, strict=True):
        assert (weight.numpy() != old).any(), weight.path


def test_all_of_it_is_fine_tuned_but_its_batch_norms():
    encoder = build_encoder("tiny", "none", 32)
    encoder.trainable = False
    convolutions = [layer for layer in encoder.layers if isinstance(layer, keras.layers.Conv2D)]
    assert open_stages(encoder) == len(convolutions)
    assert all(layer.trainable_weights for layer in convolutions)
    statistics = [layer.moving_mean.numpy() for layer in encoder.layers if isinstance(layer, NORM)]
    encoder(pixels_for(2, 32), training=True)
    for layer, old in zip((one for one in encoder.layers if isinstance(one, NORM)), statistics, strict=True):
        np.testing.assert_array_equal(layer.moving_mean.numpy(), old)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights file of a published network without its ImageNet weights."""
    path = tmp_path_factory.mktemp("weights") / "mobilenetv2.weights.h5"
    keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3)).save_weights(path)
    return path


def test_the_weights_of_a_file_serve_at_any_size(weights):
    small, large = (build_encoder("mobilenetv2", str(weights), size) for size in (32, 96))
    assert large.output_shape == (None, 9, 1280)
    for one, other in zip(small.get_weights(), large.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.weights.h5", r"no weights file .*nowhere\.weights\.h5; .* of MobileNetV2 without its top"),
        ("tiny.weights.h5", "does not hold the weights of MobileNetV2 without its top"),
    ],
)
@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_that_do_not_fit(name, message, tmp_path):
    build_encoder("tiny").save_weights(tmp_path / "tiny.weights.h5")
    with pytest.raises(DataError, match=message) as refusal:
        build_encoder("mobilenetv2", str(tmp_path / name), 32)
    assert "\n" not in str(refusal.value)
