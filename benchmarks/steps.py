"""The measured forms of a training step: ours, plain Keras, plain PyTorch, its matrix products alone.

Sizes are those of the default recipe. Data are random.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measure import Contender, timed
from captioning.options import ModelOptions, TrainOptions, WordOptions

MEAN_WORDS, SPREAD = 10.8, 3.8  # of Flickr8k's captions, without punctuation


@dataclass(frozen=True)
class Size:
    """A batch, the network's widths, and the length of a measurement. Defaults: the default recipe on MobileNetV2."""

    images: int = TrainOptions.batch_size
    captions: int = 5
    steps: int = WordOptions.caption_length  # words of a caption with the end token
    regions: int = 49
    depth: int = 1280
    words: int = 2540
    features: int = ModelOptions.feature_units
    attention: int = ModelOptions.attention_units
    lstm: int = ModelOptions.lstm_units
    embedding: int = ModelOptions.embedding_units
    repeats: int = 2  # training steps per round
    rounds: int = 4


QUICK = Size(4, 2, 5, 4, 8, 30, 8, 8, 8, 8, repeats=1, rounds=2)


def caption_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """Words of `count` captions, with the distribution of Flickr8k: a few are long."""
    shape = (MEAN_WORDS / SPREAD) ** 2
    return np.clip(np.rint(rng.gamma(shape, MEAN_WORDS / shape, count)), 2, 35).astype(int)


def draw_examples(size: Size) -> Any:
    """The images of one batch: grids in half precision, captions of random words as the tokenizer encodes them."""
    from captioning.training.batches import Examples

    rng = np.random.default_rng(0)
    array = np.maximum(0, rng.normal(size=(size.images, size.regions, size.depth))).astype("float16")
    captions = np.zeros((size.images, size.captions, size.steps + 1), "int32")
    lengths = caption_lengths(size.images * size.captions, rng)
    for row, length in zip(captions.reshape(-1, size.steps + 1), lengths, strict=True):
        ids = np.array([1, *rng.integers(4, size.words, length), 2])[: size.steps + 1]  # a truncated one has no end
        row[: len(ids)] = ids
    return Examples(array, np.arange(size.images)[:, None], list(captions))


def draw_batch(size: Size) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """One batch in the form of our training: inputs, targets, weights."""
    from captioning.training.batches import Batches

    options = {"batch_size": size.images, "captions_per_image": size.captions}
    return Batches(draw_examples(size), order=None, **options)[0]


def row_by_row(inputs: dict[str, np.ndarray], targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same batch for the plain networks: features, tokens and targets, one caption per row."""
    tokens = inputs["tokens"]
    features = np.repeat(inputs["features"].astype("float32"), tokens.shape[1], axis=0)
    return features, tokens.reshape(-1, tokens.shape[-1]), targets.reshape(-1, targets.shape[-1])


def config_of(size: Size, dropout: float = 0.4) -> Any:
    """The network's configuration."""
    from captioning.decoder.config import ModelConfig

    widths = size.features, size.attention, size.lstm, size.embedding
    return ModelConfig(size.words, size.regions, size.depth, *widths, dropout=dropout)


def weights_of(model: Any) -> dict[str, list[np.ndarray]]:
    """Our network's weights under the names of the plain networks' layers."""
    names = [
        "feature_projection",
        "feature_norm",
        "keys",
        "attention_score",
        "embedding",
        "head_hidden",
        "head_context",
        "head",
    ]
    found = {name: getattr(model, name).get_weights() for name in names} | {"positions": [np.asarray(model.positions)]}
    edges, (kernel, bias) = np.cumsum(model.widths)[:-1], model.hidden_projection.get_weights()
    kernels, biases = np.split(kernel, edges, axis=1), np.split(bias, edges)
    for name, *pair in zip(("query", "gate"), kernels, biases, strict=False):
        found[name] = pair
    halves = [np.split(part, 2, axis=-1) for part in model.initial_state.get_weights()]
    found["initial_hidden"], found["initial_cell"] = map(list, zip(*halves, strict=True))
    inward = [layer.get_weights()[0] for layer in (model.embedding_projection, model.context_projection)]
    units = model.config.lstm_units
    forget_bias = np.arange(4 * units) // units == 1  # our network adds this 1 in its step
    found["cell"] = [np.concatenate(inward), kernels[2], (biases[2] + forget_bias).astype("float32")]
    return found


def compile_as_ours(model: Any, examples: Any, size: Size) -> None:
    """Compiles a network as `train.py` does."""
    from captioning.training.optimization import compile_model
    from captioning.training.trainer import Phase

    nothing: Any = lambda: None  # noqa: E731
    phase = Phase("fit", 1, 1e-3, examples, examples, nothing, nothing)
    compile_model(model, TrainOptions(batch_size=size.images), phase)


def ours(size: Size, precision: str, jit: bool) -> tuple[dict[str, Any], Callable[[], Any]]:
    """Our training step, as `train.py` compiles it."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    import keras

    from captioning.decoder.model import CaptionModel
    from captioning.training.optimization import set_precision

    keras.utils.set_random_seed(0)
    set_precision(precision)
    model = CaptionModel(config_of(size))
    model.build()
    compile_as_ours(model, draw_examples(size), size)
    model.jit_compile = model.jit_compile and jit
    inputs, targets, weights = draw_batch(size)
    step = lambda: model.train_on_batch(inputs, targets, sample_weight=weights)  # noqa: E731
    return {"parameters": num_parameters(model)}, step


def plain_keras(size: Size) -> tuple[dict[str, Any], Callable[[], Any]]:
    """The training step of the plain Keras network: a graph, in float32, not compiled by XLA."""
    import keras

    from benchmarks.plain_keras import PlainCaptioner, masked_loss

    keras.utils.set_random_seed(0)
    model = PlainCaptioner(config_of(size))
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=1e-2, global_clipnorm=5.0)
    model.compile(optimizer, masked_loss, jit_compile=False)
    inputs, targets, _ = draw_batch(size)
    features, tokens, targets = row_by_row(inputs, targets)
    step = lambda: model.train_on_batch({"features": features, "tokens": tokens}, targets)  # noqa: E731
    step()  # builds its layers
    return {"parameters": num_parameters(model)}, step


def num_parameters(model: Any) -> int:
    """The number of trainable parameters of a Keras model."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def plain_torch(size: Size) -> tuple[dict[str, Any], Callable[[], Any]]:
    """The training step of the plain PyTorch network."""
    import torch

    from benchmarks.plain_torch import PlainCaptioner, train_step

    torch.manual_seed(0)
    model = PlainCaptioner(config_of(size))
    inputs, targets, _ = draw_batch(size)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return {"parameters": parameters}, train_step(model, *row_by_row(inputs, targets))


Product = tuple[int, tuple[int, ...], tuple[int, ...]]  # count, (..., M, K), (..., K, N)


def products_of(size: Size) -> list[Product]:
    """The matrix products of our training step: forward, and two of the same size backward for each."""
    rows, regions = size.images * size.captions, size.images * size.regions
    hidden, values, queries, vectors = size.lstm, size.features, size.attention, size.embedding
    steps, attention = rows * size.steps, (size.images, size.captions, size.regions)
    forward: list[Product] = [
        (1, (regions, values), (values, queries)),
        (1, (size.images, values), (values, 2 * hidden)),
        (1, (steps, vectors), (vectors, 4 * hidden)),
        (size.steps, (rows, hidden), (hidden, queries + values + 4 * hidden)),
        (size.steps, (rows * size.regions, queries), (queries, 1)),
        (size.steps, attention, (size.images, size.regions, values)),
        (size.steps, (rows, values), (values, 4 * hidden)),
        (1, (steps, hidden), (hidden, vectors)),
        (1, (steps, values), (values, vectors)),
        (1, (steps, vectors), (vectors, size.words)),
    ]
    found: list[Product] = [
        (1, (regions, size.depth), (size.depth, values)),
        (1, (size.depth, regions), (regions, values)),
    ]
    for times, (*batch, height, inner), (*_, width) in forward:
        shape = tuple(batch)
        found.append((times, (*shape, height, inner), (*shape, inner, width)))
        found.append((times, (*shape, height, width), (*shape, width, inner)))
        found.append((times, (*shape, inner, height), (*shape, height, width)))
    return found


def operations_of(size: Size) -> int:
    """Multiplications and additions in a step's matrix products."""
    return sum(2 * times * math.prod(left) * right[-1] for times, left, right in products_of(size))


def products(size: Size, precision: str) -> tuple[dict[str, Any], Callable[[], Any]]:
    """The matrix products of a step alone, one after the other."""
    from captioning.runtime.keras_import import import_keras

    import_keras()
    from keras import ops

    dtype = precision.removeprefix("mixed_")
    pairs = [(times, ops.ones(left, dtype), ops.ones(right, dtype)) for times, left, right in products_of(size)]

    def step() -> None:
        made = [ops.matmul(left, right) for times, left, right in pairs for _ in range(times)]
        for product in made:
            ops.convert_to_numpy(product[..., :1, :1])  # waits for the product

    return {}, step


def prepare(task: dict[str, Any]) -> tuple[dict[str, Any], Contender]:
    """The contender of a task, built and warmed up, and its facts."""
    kinds: dict[str, Callable[..., Any]] = {
        "ours": ours,
        "plain_keras": plain_keras,
        "plain_torch": plain_torch,
        "products": products,
    }
    size = Size(**task.pop("size"))
    facts, step = kinds[task.pop("kind")](size, **task)
    for _ in range(2):
        step()
    return facts, timed(lambda: [step() for _ in range(size.repeats)])
