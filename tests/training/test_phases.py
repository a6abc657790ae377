"""Which phases a training has, on grids or on pixels, and whether the encoder is trained in them."""

from pathlib import Path

import keras
import numpy as np
import pytest

from captioning.data.tokenizer import Tokenizer
from captioning.decoder.model import CaptionModel, ModelConfig
from captioning.encoders.features import Features
from captioning.encoders.registry import build_encoder
from captioning.inference.captioner import Captioner
from captioning.inference.engine_keras import KerasEngine
from captioning.options import DecodeOptions, TrainOptions
from captioning.training.inputs import Inputs
from captioning.training.phases import build_phases

SIZE = 32
SPLITS = {name: {Path(f"{name}.jpg"): ["a dog runs"] * 2} for name in ("train", "dev")}
ROWS = {Path("train.jpg"): 0, Path("dev.jpg"): 1}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    keras.utils.set_random_seed(0)
    encoder = build_encoder("tiny", "none", SIZE)
    _, regions, depth = encoder.output_shape
    tokenizer = Tokenizer.fit(["a dog runs"], min_count=1)
    model = CaptionModel(ModelConfig(len(tokenizer), regions, depth, 4, 4, 4, 4), encoder)
    model.build()
    return Captioner(KerasEngine(model), tokenizer, image_size=SIZE, options=DecodeOptions())


def phases(captioner: Captioner, **options) -> dict[str, tuple[bool, bool, float]]:
    """By name: whether a phase reads pixels, whether it trains the encoder, the smallest crop."""
    encoder = captioner.encoder
    pixels = Features(np.zeros((2, SIZE, SIZE, 3), "uint8"), ROWS)
    grids = Features(np.zeros((2, *encoder.output_shape[1:]), "float16"), ROWS)
    found = {}
    train_options = TrainOptions(**options)
    inputs = Inputs(encoder, grids, pixels)
    for phase in build_phases(captioner, inputs, SPLITS, train_options, length=4, reload_grids=lambda: grids):
        phase.prepare()
        found[phase.name] = phase.train.array.ndim == 4, bool(encoder.trainable_weights), phase.train.crop
    return found


def test_fine_tuning_alone_reads_pixels(captioner):
    found = phases(captioner, epochs=1, fine_tune_epochs=1, fine_tune_stages=0, reinforce_epochs=1)
    assert found == {"fit": (False, False, 1.0), "fine-tune": (True, True, 0.75), "reinforce": (False, False, 1.0)}


def test_sentences_are_learnt_beside_the_captions_alone(captioner):
    grids = Features(np.zeros((2, *captioner.encoder.output_shape[1:]), "float16"), ROWS)
    inputs, options = Inputs(captioner.encoder, grids, None), TrainOptions(epochs=1, reinforce_epochs=1)
    found = build_phases(captioner, inputs, SPLITS, options, length=4, sentences=["a dog", "a dog runs"])
    assert [(len(phase.train), len(phase.dev)) for phase in found] == [(2, 1), (1, 1)]
