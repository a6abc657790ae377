"""How the weights are trained: the loss, the optimizer with its schedule, and the arithmetic."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
from keras import ops

from captioning.decoder.model import CaptionModel
from captioning.encoders.registry import rate_factors
from captioning.options import TrainOptions

if TYPE_CHECKING:
    from captioning.training.trainer import Phase


class SmoothedCrossEntropy(keras.losses.Loss):
    """Weighted cross-entropy of each word, in float32; the weights have a mean of 1 where all words count the same."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(reduction="sum_over_batch_size", dtype="float32")
        self.label_smoothing = label_smoothing

    def call(self, targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        size = logits.shape[-1]
        spread = (
            ops.one_hot(ops.cast(targets, "int32"), size) * (1 - self.label_smoothing) + self.label_smoothing / size
        )
        return ops.categorical_crossentropy(spread, logits, from_logits=True)


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with a fraction of the learning rate for every trainable variable, in their order."""

    def __init__(
        self, rate: keras.optimizers.schedules.LearningRateSchedule, *, factors: Sequence[float], **options: float
    ) -> None:
        super().__init__(rate, **options)
        self.factors = tuple(factors)

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: keras.KerasTensor
    ) -> None:
        """Update one variable at its own learning rate."""
        factor = self.factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


def compile_model(model: CaptionModel, options: TrainOptions, phase: "Phase") -> None:
    """Compile with AdamW, a warm-up, a cosine schedule and clipped gradients.

    XLA is used on JAX, and on TensorFlow for grids, where it saves a third of the time; not for images.
    """
    steps = phase.epochs * math.ceil(len(phase.train) / options.batch_size)
    warmup = max(1, round(options.warmup * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        phase.learning_rate / 100,
        max(1, steps - warmup),
        alpha=0.0,
        warmup_target=phase.learning_rate,
        warmup_steps=warmup,
    )
    trained = model.trainable_variables
    slower = rate_factors(model.encoder) if model.encoder else {}
    factors = [slower.get(variable.path, 1.0) for variable in trained]
    settings = {"weight_decay": options.weight_decay, "global_clipnorm": options.clip_norm}
    is_even = all(factor == 1 for factor in factors)
    optimizer = (
        keras.optimizers.AdamW(rate, **settings) if is_even else LayerwiseAdamW(rate, factors=factors, **settings)
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "embeddings", "gamma", "beta"])
    loss = SmoothedCrossEntropy(0.0 if phase.make_batch else options.label_smoothing)
    backend, has_grids = keras.backend.backend(), phase.train.array.ndim == 3
    model.compile(optimizer, loss, jit_compile=backend == "jax" or (backend == "tensorflow" and has_grids))
    model.optimizer.build(trained)


def set_precision(choice: str) -> str:
    """Set the arithmetic of the layers built from now on and return its name; "auto" chooses by the hardware."""
    policy = _suitable_precision() if choice == "auto" else choice
    keras.config.set_dtype_policy(policy)
    return policy


def _suitable_precision() -> str:
    if re.search("gpu|cuda", str(ops.zeros(1).device).lower()):  # the backend's default place for a tensor
        return "mixed_float16"
    flags = Path("/proc/cpuinfo")
    has_bfloat16 = flags.is_file() and re.search(r"\b(avx512_bf16|amx_bf16)\b", flags.read_text()) is not None
    return "mixed_bfloat16" if has_bfloat16 and keras.backend.backend() == "tensorflow" else "float32"
