"""Our own encoders: each region sees its part of the picture, they train, and pocket wants to be taught first."""

import keras
import numpy as np
import pytest

from captioning.encoders.registry import build_encoder, open_stages
from captioning.errors import DataError

NORM = keras.layers.BatchNormalization


def pixels_for(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype="uint8")


@pytest.fixture(scope="module")
def pocket():
    keras.utils.set_random_seed(0)
    return build_encoder("pocket", "none")


def grid_of(encoder: keras.Model, picture: np.ndarray) -> np.ndarray:
    side = round(encoder.output_shape[1] ** 0.5)
    return np.asarray(encoder(picture)).reshape(side, side, -1)


def changed_by_a_spot(encoder: keras.Model, rows: slice, columns: slice) -> np.ndarray:
    """How much a white spot in a grey picture changes each region, (rows, columns)."""
    picture = np.full((1, *encoder.input_shape[1:]), 128, "float32")
    plain = grid_of(encoder, picture)
    picture[0, rows, columns] = 255
    return np.abs(grid_of(encoder, picture) - plain).sum(axis=-1)


def test_tiny_looks_at_parts_of_the_image_in_order():
    encoder = build_encoder("tiny")
    assert encoder.input_shape == (None, 132, 132, 3)
    assert encoder.output_shape == (None, 121, 128)
    changed = changed_by_a_spot(encoder, slice(38, 46), slice(98, 106))
    assert np.unravel_index(changed.argmax(), (11, 11)) == (3, 8)
    assert changed[7:].max() == 0


def test_pocket_looks_at_parts_of_the_image_in_order(pocket):
    assert pocket.input_shape == (None, 128, 128, 3)
    assert pocket.output_shape == (None, 64, 256)
    changed = changed_by_a_spot(pocket, slice(36, 44), slice(84, 92))
    assert np.unravel_index(changed.argmax(), (8, 8)) == (2, 5)


def test_pocket_sees_as_far_to_the_left_as_to_the_right(pocket):
    """A kernel of even side at a stride of two, say, is not half a pixel off, nor are all of them together."""
    rows, columns = np.mgrid[:8, :8]
    changed = changed_by_a_spot(pocket, slice(60, 68), slice(60, 68))  # around the corner of four regions
    assert (changed * rows).sum() / changed.sum() == pytest.approx(3.5, abs=0.3)
    assert (changed * columns).sum() / changed.sum() == pytest.approx(3.5, abs=0.3)


@pytest.mark.parametrize("size", [32, 80, 112, 160])
def test_pocket_has_a_region_for_every_sixteen_pixels(size):
    assert build_encoder("pocket", "none", size).output_shape == (None, (size // 16) ** 2, 256)


def test_pocket_is_small(pocket):
    assert pocket.count_params() < 5e6


@pytest.mark.parametrize("name", ["tiny", "pocket"])
def test_every_batch_norm_can_be_folded(name):
    """Into the convolution right before it, which has no bias and feeds nothing else."""
    encoder = build_encoder(name, "none", 32)
    norms = [layer for layer in encoder.layers if isinstance(layer, NORM)]
    assert norms
    for norm in norms:
        before = norm.input._keras_history.operation
        assert isinstance(before, keras.layers.Conv2D)
        assert not before.use_bias
        assert len(before._outbound_nodes) == 1


@pytest.mark.parametrize("name", ["tiny", "pocket"])
def test_it_trains(name):
    keras.utils.set_random_seed(0)
    encoder = build_encoder(name, "none", 32)
    before = [weight.numpy() for weight in encoder.trainable_weights]
    encoder.compile("adam", "mse", run_eagerly=True)
    pixels, grids = pixels_for(4, 32).astype("float32"), np.ones((4, *encoder.output_shape[1:]), "float32")
    losses = [encoder.train_on_batch(pixels, grids) for _ in range(3)]
    assert losses[-1] < losses[0]
    for weight, old in zip(encoder.trainable_weights, before, strict=True):
        assert (weight.numpy() != old).any(), weight.path


def test_all_of_pocket_is_fine_tuned_but_its_batch_norms():
    encoder = build_encoder("pocket", "none", 32)
    encoder.trainable = False
    convolutions = [layer for layer in encoder.layers if isinstance(layer, keras.layers.Conv2D)]
    assert open_stages(encoder) == len(convolutions) + 1  # the last has a bias
    assert all(layer.trainable_weights for layer in convolutions)
    statistics = [layer.moving_mean.numpy() for layer in encoder.layers if isinstance(layer, NORM)]
    encoder(pixels_for(2, 32), training=True)
    for layer, old in zip((one for one in encoder.layers if isinstance(one, NORM)), statistics, strict=True):
        np.testing.assert_array_equal(layer.moving_mean.numpy(), old)


# Weights


@pytest.fixture(scope="module")
def weights(pocket, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "pocket.weights.h5"
    pocket.save_weights(path)
    return path


def test_saved_weights_give_the_same_grids(pocket, weights):
    loaded, pixels = build_encoder("pocket", str(weights)), pixels_for(1, 128)
    np.testing.assert_array_equal(loaded(pixels), pocket(pixels))


def test_the_same_weights_serve_at_any_size(weights):
    assert build_encoder("pocket", str(weights), 64).output_shape == (None, 16, 256)


def assert_refused(weights: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        build_encoder("pocket", str(weights), 32)
    assert "\n" not in str(refusal.value)


def test_pocket_has_no_imagenet_weights():
    assert_refused("imagenet", "no ImageNet weights: .* captioning distill DATA.*--encoder-weights FILE")


def test_a_weights_file_that_is_not_there():
    assert_refused("nowhere.weights.h5", r"no weights file nowhere\.weights\.h5; .* of the pocket encoder")


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_the_weights_of_another_network(tmp_path):
    build_encoder("tiny").save_weights(tmp_path / "tiny.weights.h5")
    assert_refused(tmp_path / "tiny.weights.h5", "does not hold the weights of the pocket encoder")
