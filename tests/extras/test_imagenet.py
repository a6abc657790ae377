"""The classes of ImageNet, from a network of the published shape with random weights."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from captioning import cli
from captioning.data.images import read_image
from captioning.encoders.registry import build_classifier
from captioning.errors import DataError
from captioning.extras import imagenet
from captioning.extras.imagenet import ENCODER, NUM_CLASSES, class_names, load_classifier


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights file of the whole network, whose last layer is enlarged so that classes differ."""
    keras.utils.set_random_seed(0)
    [network] = (layer for layer in build_classifier(ENCODER, "none").layers if isinstance(layer, keras.Model))
    kernel, bias = network.layers[-1].weights
    kernel.assign(kernel * 1000)
    bias.assign(np.linspace(0, 3, NUM_CLASSES))
    file = tmp_path_factory.mktemp("imagenet") / "whole.weights.h5"
    network.save_weights(file)
    return file


@pytest.fixture(autouse=True)
def index(monkeypatch):
    """Keras' table of the classes, as if it had been fetched."""
    table = {str(number): [f"n{number:08}", f"kind_{number}"] for number in range(NUM_CLASSES)}
    monkeypatch.setattr("keras.src.applications.imagenet_utils.CLASS_INDEX", table)


@pytest.fixture
def photo(pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_names_are_in_the_order_of_the_output():
    assert class_names() == [f"kind {number}" for number in range(NUM_CLASSES)]


def test_it_says_what_the_network_computes(weights, photo):
    labels = load_classifier(str(weights)).label(photo)
    assert len(labels.found) == NUM_CLASSES
    shares = [each.probability for each in labels.found]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert shares == sorted(shares, reverse=True)
    pixels = read_image(photo, size=224)[None].astype("float32")
    [expected] = build_classifier(ENCODER, str(weights)).predict_on_batch(pixels)
    assert [each.text for each in labels.found] == [f"kind {place}" for place in np.argsort(-expected, kind="stable")]
    [brighter] = build_classifier(ENCODER, str(weights)).predict_on_batch(pixels / 2 + 120)
    assert not np.allclose(expected, brighter, rtol=1e-3)  # it looks at the picture


def test_the_command_writes_all_of_them(weights, photo, tmp_path, capsys):
    output = tmp_path / "labels.json"
    flags = ["--model", "imagenet", "--encoder-weights", str(weights), "--output", str(output)]
    assert cli.main(["classify", str(photo), *flags]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Most likely kind ")
    assert "among 1,000 labels" in printed
    assert len(json.dumps(json.loads(output.read_text()))) > NUM_CLASSES


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "There are no labels to choose from"),
        (["--model", "imagenet", "--labels", "dog,cat"], "labels of its own"),
        (["--model", "imagenet", "--prompt", "a {}"], "labels of its own"),
        (["--model", "imagenet", "--encoder-weights", "nowhere.h5"], "There is no weights file nowhere.h5"),
    ],
)
def test_what_cannot_be_is_refused(photo, flags, words, capsys):
    assert cli.main(["classify", str(photo), *flags]) != 0
    assert words in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # of Keras, before it refuses the file
def test_weights_of_another_network_are_refused(tmp_path):
    trunk = keras.applications.EfficientNetV2B0(weights=None, include_top=False, input_shape=(224, 224, 3))
    trunk.save_weights(tmp_path / "trunk.weights.h5")
    with pytest.raises(DataError, match="does not hold the weights of EfficientNetV2B0 with its top"):
        load_classifier(str(tmp_path / "trunk.weights.h5"))


def test_offline_it_fetches_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(imagenet, "build_classifier", lambda *_: pytest.fail("it would have been fetched"))
    with pytest.raises(DataError, match=r"has no efficientnetv2-b0\.h5 and no imagenet_class_index\.json"):
        load_classifier(offline=True)


def test_names_that_cannot_be_fetched_are_told(monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure")

    monkeypatch.setattr("keras.applications.imagenet_utils.decode_predictions", fail)
    with pytest.raises(DataError, match=r"could not be downloaded \(URL fetch failure\); go online once"):
        class_names()
