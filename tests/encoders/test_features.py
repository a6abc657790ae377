"""Encoders give the grids of keras.applications, with any weights they are given."""

import os

import keras
import numpy as np
import pytest

from captioning.encoders import registry
from captioning.encoders.registry import (
    ONE_STAGE,
    STAGES,
    build_encoder,
    image_size_of,
    open_stages,
    probe,
    rate_factors,
    weights_key,
)
from captioning.errors import DataError

SIZE = 64
GRIDS = {"resnet50": (4, 2048), "mobilenetv2": (4, 1280), "resnet101": (4, 2048), "efficientnetv2b0": (4, 1280)}
ENCODERS = [*list(GRIDS)[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in list(GRIDS)[2:])]
built: dict[str, keras.Model] = {}


def encoder_of(name: str) -> keras.Model:
    if name not in built:
        keras.utils.set_random_seed(0)
        built[name] = build_encoder(name, "none", SIZE)
    return built[name]


def network_of(encoder: keras.Model) -> keras.Model:
    return next(layer for layer in encoder.layers if isinstance(layer, keras.Model))


def pixels_for(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype="uint8")


# The encoders


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_the_network_behind_its_own_preprocessing(name):
    encoder, pixels = encoder_of(name), pixels_for(2)
    module = getattr(keras.applications, registry.ENCODERS[name].application.partition(".")[0])
    wanted = np.asarray(network_of(encoder)(module.preprocess_input(pixels.astype("float32")), training=False))
    found = np.asarray(encoder(pixels.astype("float32"), training=False))
    assert encoder.output_shape == (None, *GRIDS[name])
    assert registry.ENCODERS[name].depth == GRIDS[name][1]
    np.testing.assert_allclose(found, wanted.reshape(2, *GRIDS[name]), rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0


@pytest.mark.parametrize("name", ["mobilenetv2", "tiny"])
def test_bytes_are_as_floats(name):
    encoder = encoder_of(name)
    pixels = pixels_for(2, encoder.input_shape[1])
    wanted = np.asarray(encoder(pixels.astype("float32"), training=False))
    found = encoder.predict_on_batch(pixels)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "asked", "size"),
    [("resnet50", 0, 224), ("tiny", 0, 132), ("resnet50", 96, 96), ("tiny", 32, 32)],
)
def test_the_size_is_the_one_asked_for_or_the_usual(name, asked, size):
    assert image_size_of(name, asked) == size


LAST_STAGES = {"resnet50": 2 * (3 * 3 + 1), "mobilenetv2": 3 * 3 + 1}  # weights: blocks of 3 convolutions, and one more


@pytest.mark.parametrize("name", LAST_STAGES)
def test_only_the_last_stage_is_opened_and_no_batch_norm(name):
    encoder = encoder_of(name)
    encoder.trainable = False
    assert open_stages(encoder) == LAST_STAGES[name]
    network = network_of(encoder)
    opened = {layer.name for layer in network.layers if layer.trainable_weights}
    norms = {layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
    last = network.layers.index(network.get_layer("conv4_block6_out" if name == "resnet50" else "block_13_project_BN"))
    convolutions = {layer.name for layer in network.layers[last + 1 :] if layer.weights} - norms
    assert opened == convolutions
    encoder.trainable = False
    assert not encoder.trainable_weights


NORM = keras.layers.BatchNormalization


@pytest.mark.parametrize("name", ENCODERS)
def test_every_layer_that_can_be_trained_belongs_to_one_stage(name):
    for layer in network_of(encoder_of(name)).layers:
        stages = [stage for stage in STAGES.get(name, ONE_STAGE) if layer.name.startswith(stage)]
        assert len(stages) == 1 or not layer.trainable_variables, layer.name


@pytest.mark.parametrize("name", LAST_STAGES)
def test_more_stages_open_more_weights_and_earlier_ones_have_lower_rates(name):
    encoder, count = encoder_of(name), len(STAGES[name])
    opened = [open_stages(encoder, stages) for stages in (1, 2, count, 0)]
    assert opened[0] < opened[1] < opened[2] == opened[3]
    norms = {id(weight) for layer in network_of(encoder).layers if isinstance(layer, NORM) for weight in layer.weights}
    assert not any(id(weight) in norms for weight in encoder.trainable_weights)
    factors = [rate_factors(encoder)[weight.path] for weight in encoder.trainable_weights]
    assert factors == sorted(factors)
    assert (factors[0], factors[-1]) == (0.5 ** (count - 1), 1)
    encoder.trainable = False


# Weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenetv2.weights.h5"
    network_of(encoder_of("mobilenetv2")).save_weights(path)
    return path


def test_saved_weights_give_the_same_grids(weights):
    loaded, pixels = build_encoder("mobilenetv2", str(weights), SIZE), pixels_for(1)
    np.testing.assert_array_equal(loaded(pixels), encoder_of("mobilenetv2")(pixels))


@pytest.fixture
def refused():
    """Builds a network with such weights, expecting a refusal in one line like this."""

    def build(weights: object, message: str) -> None:
        with pytest.raises(DataError, match=message) as refusal:
            build_encoder("mobilenetv2", str(weights), 96)
        assert "\n" not in str(refusal.value)

    return build


def test_a_weights_file_that_is_not_there(refused):
    refused("nowhere.weights.h5", r"no weights file nowhere\.weights\.h5; give a .* of MobileNetV2")


@pytest.mark.parametrize("name", ["broken.weights.h5", "broken.h5", "broken.txt"])
def test_a_weights_file_that_is_none(tmp_path, refused, name):
    (tmp_path / name).write_text("not HDF5")
    refused(tmp_path / name, rf"{name} does not hold the weights of MobileNetV2")


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_the_weights_of_another_network(tmp_path, refused):
    build_encoder("tiny").save_weights(tmp_path / "tiny.weights.h5")
    refused(tmp_path / "tiny.weights.h5", "does not hold the weights of MobileNetV2 without its top")


def test_imagenet_without_a_network(monkeypatch, refused):
    asked = []

    def offline(*arguments, **others):
        asked.append(arguments)
        raise Exception("URL fetch failure: no route to host\nand more")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    refused("imagenet", r"MobileNetV2 could not be downloaded .*no route.*--encoder-weights FILE")
    assert asked


def test_a_weights_key_follows_the_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"1")
    assert weights_key(str(one)) == weights_key(str(other))
    other.write_bytes(b"2")
    assert len({weights_key(name) for name in (str(one), str(other), "imagenet", "none")}) == 4


def test_a_probe_tells_encoders_apart():
    one, other = (build_encoder("tiny", image_size=32) for _ in range(2))
    assert probe(one) == probe(one)
    assert np.abs(np.subtract(probe(one), probe(other))).max() > 0.02 * max(probe(one))
    assert len(probe(one)) == registry.PROBES


@pytest.mark.skipif("CAPTIONING_MOBILENET_WEIGHTS" not in os.environ, reason="needs MobileNetV2's ImageNet weights")
def test_the_published_weights_give_the_published_network():
    path = os.environ["CAPTIONING_MOBILENET_WEIGHTS"]
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))
    network.load_weights(path)
    pixels = pixels_for(2, 224)
    prepared = keras.applications.mobilenet_v2.preprocess_input(pixels.astype("float32"))
    found = np.asarray(build_encoder("mobilenetv2", path)(pixels.astype("float32")))
    np.testing.assert_allclose(found, np.asarray(network(prepared)).reshape(2, 49, 1280), atol=1e-4)
    assert found.std() > 0.1
