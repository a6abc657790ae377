"""Shared fixtures: thirty words, an untrained captioner of width 8, its bundle, eight drawn scenes."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from captioning.data.tokenizer import Tokenizer
from captioning.options import DecodeOptions, ModelOptions

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiled functions run for a few steps only

WORDS = "a the two red blue big dog cat ball man sits runs jumps eats on in with under of and tree car box bed it is"
WIDTHS = {name: 8 for name in ("feature_units", "attention_units", "lstm_units", "embedding_units")}


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.fit([WORDS], min_count=1)


@pytest.fixture(scope="session")
def parts(tokenizer):
    """An untrained captioner's parts, with enlarged weights, so that captions of different images differ."""
    import keras

    from captioning.decoder.config import config_for
    from captioning.decoder.model import CaptionModel
    from captioning.encoders.registry import build_encoder
    from captioning.inference import bundle

    keras.utils.set_random_seed(1)
    model_options = ModelOptions(encoder="tiny", image_size=32, **WIDTHS)
    encoder = build_encoder("tiny", image_size=32)
    model = CaptionModel(config_for(model_options, len(tokenizer), encoder.output_shape), encoder)
    model.build()
    for layer in model.layers:
        if layer is not encoder:
            layer.set_weights([3 * weight for weight in layer.get_weights()])
    return bundle.as_saved(bundle.Parts(model, tokenizer, None, model_options, DecodeOptions(max_length=6)))


@pytest.fixture(scope="session")
def captioner(parts):
    return parts.captioner()


@pytest.fixture(scope="session")
def pictures():
    """Seven images of 48 x 40 pixels with different colours and patterns."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (7, 6, 5, 3), dtype="uint8")
    return list(np.kron(coarse, np.ones((1, 8, 8, 1), "uint8")))


@pytest.fixture(scope="session")
def saved(parts, tmp_path_factory):
    """The folder of the captioner's bundle. Tests only read it."""
    from captioning.inference import bundle

    folder = tmp_path_factory.mktemp("artifacts") / "small"
    bundle.save(folder, parts, files={"scores.json": "{}"}, about={"seed": 1})
    return folder


@pytest.fixture(scope="session")
def exported(saved, captioner):
    """The folder of the same bundle with its graphs for ONNX Runtime. Tests only read it."""
    pytest.importorskip("onnx")
    from captioning.extras.export import into_bundle

    folder = saved.with_name("exported")
    shutil.copytree(saved, folder)
    into_bundle(folder, captioner)
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """The folder of eight drawn scenes in three splits. Tests only read it."""
    from captioning.data.scenes.dataset import write_scenes

    return write_scenes(tmp_path_factory.mktemp("drawn") / "scenes", sizes={"train": 4, "dev": 2, "test": 2})


@pytest.fixture
def loaded(captioner, monkeypatch):
    """Makes `captioning.load` return the captioner at once, for every bundle."""
    monkeypatch.setattr("captioning.load", lambda path, **options: captioner)
    return captioner


@pytest.fixture(scope="module")
def pool(saved):
    """The captioners of an app that serves one bundle."""
    from captioning.serving.pool import CaptionerPool

    return CaptionerPool([saved])


@pytest.fixture
def photo(pictures, tmp_path):
    """The path of the first picture as a PNG file."""
    Image.fromarray(pictures[0]).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")
