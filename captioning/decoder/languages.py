"""The decoder of a further language: that of a trained captioner with words of its own and low-rank changes.

The encoder and the attention's keys and values stay those of the base. LoRA (Hu et al. 2021) changes the layers around
the LSTM. The vectors of the words are both the embedding and, turned by one matrix, the rows of the output layer. So a
language takes a fraction of the numbers of a decoder, and the base stays what it was.

V words, E width of their vectors, r rank of the changes.
"""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
from keras import layers, ops

from captioning.decoder.model import CaptionModel

CHANGED = ("initial_state", "hidden_projection", "context_projection", "head_hidden", "head_context")  # layers
WORDS, TURN, BIAS = "embedding/embeddings", "turn/kernel", "head_bias"

SMALL = 0.1  # at first, so that no word is far likelier than others

Shapes = dict[str, tuple[int, ...]]


class LanguageModel(CaptionModel):
    """A network of a further language in training: all that is not its own is frozen."""

    def __init__(self, base: CaptionModel, num_words: int, rank: int) -> None:
        super().__init__(replace(base.config, vocabulary_size=num_words), base.encoder)
        self.turn = layers.Dense(
            self.config.embedding_units,
            use_bias=False,
            kernel_initializer=keras.initializers.Identity(SMALL),
            name="turn",
        )
        self.head_bias = self.add_weight(name=BIAS, shape=(num_words,), initializer="zeros", autocast=False)
        self.build()
        copy_weights(base, self)
        for layer in self.layers:
            layer.trainable = layer.name in (*CHANGED, "embedding", "turn") or isinstance(layer, layers.Dropout)
        self.positions.trainable = False
        for name in CHANGED:
            getattr(self, name).enable_lora(rank)

    def _head(
        self, words: keras.KerasTensor, hidden: keras.KerasTensor, context: keras.KerasTensor, *, training: bool
    ) -> keras.KerasTensor:
        outputs = self.head_hidden(hidden) + self.head_context(context) + words
        outputs = self.turn(self.drop_outputs(outputs, training=training))
        vectors = ops.transpose(ops.cast(self.embedding.embeddings, outputs.dtype))
        return ops.cast(ops.matmul(outputs, vectors), "float32") + self.head_bias

    def numbers(self) -> dict[str, np.ndarray]:
        """What a language has of its own, by name."""
        found = {WORDS: self.embedding.embeddings, TURN: self.turn.kernel, BIAS: self.head_bias}
        for name in CHANGED:
            layer = getattr(self, name)
            found |= {f"{name}/a": layer.lora_kernel_a, f"{name}/b": layer.lora_kernel_b}
            found |= {} if layer.bias is None else {f"{name}/bias": layer.bias}
        return {name: ops.convert_to_numpy(value) for name, value in found.items()}


def shapes_of(base: CaptionModel, num_words: int, rank: int) -> Shapes:
    """The names of a language's numbers, with their shapes."""
    width = base.config.embedding_units
    shapes: Shapes = {WORDS: (num_words, width), TURN: (width, width), BIAS: (num_words,)}
    for name in CHANGED:
        layer = getattr(base, name)
        rows, columns = layer.kernel.shape
        shapes |= {f"{name}/a": (rows, rank), f"{name}/b": (rank, columns)}
        shapes |= {} if layer.bias is None else {f"{name}/bias": (columns,)}
    return shapes


def decoder_of(base: CaptionModel, numbers: dict[str, np.ndarray]) -> CaptionModel:
    """The network that captions in a language, from what that has of its own; it shares the encoder of the base."""
    vectors = numbers[WORDS]
    model = CaptionModel(replace(base.config, vocabulary_size=len(vectors)), base.encoder)
    model.build()
    copy_weights(base, model)
    model.embedding.embeddings.assign(vectors)
    model.head.set_weights([numbers[TURN] @ vectors.T, numbers[BIAS]])
    for name in CHANGED:
        layer = getattr(model, name)
        kernel = ops.convert_to_numpy(layer.kernel) + numbers[f"{name}/a"] @ numbers[f"{name}/b"]
        layer.set_weights([kernel] if layer.bias is None else [kernel, numbers[f"{name}/bias"]])
    return model


def copy_weights(base: CaptionModel, model: CaptionModel) -> None:
    """Copies all weights of a decoder but those of its words."""
    for layer in base.layers:
        if layer.name not in ("embedding", "head") and layer is not base.encoder and layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    model.positions.assign(base.positions)


def to_bytes(numbers: dict[str, np.ndarray], shapes: Shapes) -> bytes:
    """The numbers in half precision, one array after the other in the order of `shapes`."""
    return b"".join(np.clip(numbers[name], -65504, 65504).astype("<f2").tobytes() for name in shapes)


def from_bytes(data: bytes, shapes: Shapes) -> dict[str, np.ndarray]:
    """The numbers that `to_bytes` wrote; a ValueError where the data are not as long or hold NaN or infinity."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    if len(data) != 2 * sum(sizes):
        raise ValueError(f"it has {len(data):,} bytes where {2 * sum(sizes):,} were expected")
    flat = np.frombuffer(data, "<f2").astype("float32")
    if not np.isfinite(flat).all():
        raise ValueError("it holds NaN or infinite numbers")
    parts: Sequence[np.ndarray] = np.split(flat, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
