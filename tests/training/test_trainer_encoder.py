"""An encoder is trained with its decoder, each stage at its rate, and the training resumes exactly."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from captioning.data.tokenizer import Tokenizer
from captioning.decoder.config import ModelConfig
from captioning.decoder.model import CaptionModel
from captioning.encoders import registry
from captioning.encoders.registry import open_stages
from captioning.errors import Stopped
from captioning.evaluation.scoring import caption_split
from captioning.inference.captioner import Captioner
from captioning.inference.engine_keras import KerasEngine
from captioning.options import DecodeOptions, TrainOptions
from captioning.training.batches import Examples
from captioning.training.callbacks import StopRequest
from captioning.training.optimization import LayerwiseAdamW, compile_model
from captioning.training.trainer import SCORE, Phase, Trainer

SIZE, WORDS, UNITS = 8, 9, 4


def examples(images: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, WORDS, (images, 1, 3)).astype("int32")
    array = rng.integers(0, 256, (images, SIZE, SIZE, 3)).astype("uint8")
    return Examples(array, np.arange(images)[:, None], list(tokens), crop=0.6)


class PlainModel(CaptionModel):
    """Run step by step, which is cheaper than compiling a few of them."""

    run_eagerly = property(lambda self: keras.backend.backend() == "tensorflow", lambda self, value: None)


@pytest.fixture
def model(monkeypatch):
    """A captioner with an encoder of three stages, batch norms and a dropped branch among their layers."""
    keras.utils.set_random_seed(0)
    monkeypatch.setitem(registry.STAGES, "small", (("stem_",), ("one_",), ("two_", "top_")))
    images = keras.Input((SIZE, SIZE, 3))
    grid = keras.layers.Conv2D(3, 4, 4, name="stem_conv")(images)
    grid = keras.layers.BatchNormalization(name="stem_bn")(grid)
    grid = keras.layers.Conv2D(3, 1, name="one_conv")(grid)
    grid = grid + keras.layers.Dropout(0.5, name="two_drop")(keras.layers.Conv2D(3, 1, name="two_conv")(grid))
    encoder = keras.Model(images, keras.layers.Reshape((-1, 3))(keras.layers.Conv2D(3, 1, name="top_conv")(grid)))
    encoder.name = "small"
    model = PlainModel(ModelConfig(WORDS, 4, 3, UNITS, UNITS, UNITS, UNITS, dropout=0.3), encoder)
    model.build()
    return model


def phase(model: CaptionModel) -> Phase:
    validate = lambda: SimpleNamespace(scores={SCORE: 0.0}, samples=[])  # noqa: E731
    prepare = lambda: open_stages(model.encoder, 0)  # noqa: E731
    return Phase("fine-tune", 2, 1e-2, examples(4, 1), examples(2, 2), validate, prepare)


OPTIONS = TrainOptions(batch_size=2, captions_per_image=1, warmup=0.0)


def values(variables) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def test_a_variable_moves_by_its_share_of_the_rate():
    variables = [keras.Variable(np.zeros(3, "float32")) for _ in range(3)]
    optimizer = LayerwiseAdamW(0.1, factors=(1, 0.5, 0.25))
    optimizer.build(variables)
    for _ in range(3):
        optimizer.apply([keras.ops.ones(3)] * 3)
    moved = [keras.ops.convert_to_numpy(variable) for variable in variables]
    np.testing.assert_allclose(moved, [[-0.3] * 3, [-0.15] * 3, [-0.075] * 3], rtol=1e-3)


def test_every_stage_has_its_rate_and_the_decoder_the_whole(model):
    fine_tuning = phase(model)
    fine_tuning.prepare()
    compile_model(model, OPTIONS, fine_tuning)
    factors = dict(zip((weight.path for weight in model.trainable_variables), model.optimizer.factors, strict=True))
    assert len(factors) == len(model.trainable_variables)
    assert factors["caption_model/embedding/embeddings"] == factors["top_conv/kernel"] == 1
    assert (factors["one_conv/kernel"], factors["stem_conv/kernel"]) == (0.5, 0.25)


def test_a_training_that_is_stopped_in_the_middle_resumes_exactly(model, tmp_path):
    initial = values(model.variables)

    def run(folder: str, stop: bool) -> list[np.ndarray]:
        for variable, value in zip(model.variables, initial, strict=True):
            variable.assign(value)
        request, steps = StopRequest(), iter(range(9))
        at_the_third = lambda *_, **__: setattr(request, "signal", int(stop and next(steps) == 2))  # noqa: E731
        callbacks = [keras.callbacks.LambdaCallback(on_train_batch_begin=at_the_third)]
        trainer = Trainer(model, OPTIONS, tmp_path / folder, {}, callbacks=callbacks)
        trainer._run_phase(phase(model), trainer._resume(), request)
        return values([*model.variables, *model.optimizer.variables])

    whole = run("whole", stop=False)
    with pytest.raises(Stopped):
        run("halves", stop=True)
    for one, other in zip(whole, run("halves", stop=False), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mirrored", [False, True])
def test_validation_sees_what_the_encoder_learnt(model, mirrored):
    tokenizer = Tokenizer.fit(["a b c d e"], min_count=1)
    pixels = examples(2, 1).array
    features = SimpleNamespace(array=pixels, rows={Path("0.jpg"): 0, Path("1.jpg"): 1})
    options = DecodeOptions(strategy="greedy", mirrored=mirrored, max_length=3)

    def captioner() -> Captioner:
        return Captioner(KerasEngine(model), tokenizer, image_size=SIZE, options=options)

    used = captioner()
    before = [caption.score for caption in caption_split(used, features, features.rows)]
    for weight in model.encoder.trainable_weights:
        weight.assign(weight + 0.5)
    after = [caption.score for caption in caption_split(used, features, features.rows)]
    assert after != before
    assert after == [caption.score for caption in caption_split(captioner(), features, features.rows)]
