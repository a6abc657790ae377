"""The network: an encoder, Bahdanau's additive attention and an LSTM decoder.

Shapes: B images, R captions of each, T steps, L regions of an image, D depth of its features, V words.
The search uses `start` and `step`, training uses `call`; both run the same recurrent code, `_advance`. The state is a
tuple of arrays (B, R, ...). Those that all captions of an image share have a single row, (B, 1, ...).
"""

import random
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops

from captioning.decoder.config import ModelConfig

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

State = tuple["Tensor", ...]
ELSEWHERE = -1e9  # attention score of a region that is ruled out
WORD_SPREAD = 0.4  # initial standard deviation of the word vectors, that of published GloVe


def _dropout(share: float, name: str, shape: tuple[int | None, ...] | None = None) -> layers.Dropout:
    # without a seed, torch draws from a generator that no checkpoint saves
    return layers.Dropout(share, noise_shape=shape, seed=random.getrandbits(31), name=name)


def _mean(values: "Tensor", where: "Tensor | None") -> "Tensor":
    if where is None:
        return ops.mean(values, axis=1)
    weights = ops.cast(ops.expand_dims(where, -1), values.dtype)
    return ops.sum(values * weights, axis=1) / ops.sum(weights, axis=1)


class CaptionModel(keras.Model):
    """Generates captions from features (B, L, D), or from images where an encoder is given, to be trained along.

    At every step, Bahdanau (additive) attention scores each region by its key and by a query from the hidden state,
    score = v . tanh(key + query). The softmax of the scores weighs the regions' values into the context of the word.
    """

    def __init__(self, config: ModelConfig, encoder: keras.Model | None = None) -> None:
        super().__init__(name="caption_model")
        self.config = config
        self.encoder = encoder
        units = config.lstm_units
        self.feature_projection = layers.Dense(config.feature_units, activation="relu", name="feature_projection")
        self.feature_norm = layers.LayerNormalization(name="feature_norm")
        self.positions = self.add_weight(
            (config.num_regions, config.feature_units), initializer="zeros", name="positions"
        )
        self.keys = layers.Dense(config.attention_units, use_bias=False, name="keys")
        self.attention_score = layers.Dense(1, use_bias=False, dtype="float32", name="attention_score")
        self.initial_state = layers.Dense(2 * units, activation="tanh", name="initial_state")
        self.embedding = layers.Embedding(
            config.vocabulary_size,
            config.embedding_units,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=WORD_SPREAD),
            name="embedding",
        )
        self.embedding_projection = layers.Dense(4 * units, use_bias=False, name="embedding_projection")
        self.context_projection = layers.Dense(4 * units, use_bias=False, name="context_projection")
        # one matrix product with the hidden state gives the attention's query, the context's gate and the recurrence
        self.widths = (config.attention_units, config.feature_units, 4 * units)
        self.hidden_projection = layers.Dense(sum(self.widths), name="hidden_projection")
        self.head_hidden = layers.Dense(config.embedding_units, name="head_hidden")
        self.head_context = layers.Dense(config.embedding_units, use_bias=False, name="head_context")
        self.head = layers.Dense(config.vocabulary_size, name="head")
        self.drop_features = _dropout(config.dropout, "drop_features", shape=(None, 1, None))
        self.drop_words = _dropout(config.dropout, "drop_words")
        self.drop_outputs = _dropout(config.dropout, "drop_outputs")
        self.words_live = self.add_weight(name="words_live", initializer="ones", trainable=False)

    def build(self, input_shape: object = None) -> None:
        features = ops.zeros((1, self.config.num_regions, self.config.feature_depth))
        self.step(ops.zeros((1, 1), dtype="int32"), self._start(features, 1, training=False))
        self.built = True

    def set_word_vectors(self, matrix: np.ndarray) -> None:
        """Initialises the embedding from (V, embedding_units) vectors, scaled to WORD_SPREAD."""
        self.embedding.embeddings.assign(matrix * (WORD_SPREAD / matrix.std()))

    def train_words(self, live: bool) -> None:
        """Makes the word vectors trainable, or keeps them fixed, which needs no new compilation."""
        self.words_live.assign(float(live))

    def start(self, features: "Tensor", num_rows: int = 1, where: "Tensor | None" = None) -> State:
        """The state before the first word: (B, L, D) -> keys and values (B, 1, L, .), hidden and cell (B, R, .).

        where (B, L), true for one region or more, confines the attention to these regions and is part of the state.
        """
        return self._start(features, num_rows, where, training=False)

    def _start(self, features: "Tensor", num_rows: int, where: "Tensor | None" = None, *, training: bool) -> State:
        if len(features.shape) == 4:
            assert self.encoder is not None, "images need a model with an encoder"
            features = self.encoder(features, training=training)
        values = self.feature_projection(features)
        values = self.feature_norm(values + ops.cast(self.positions, values.dtype))
        values = self.drop_features(values, training=training)
        hidden, cell = ops.split(self.initial_state(_mean(values, where)), 2, axis=-1)
        rows = [ops.repeat(ops.expand_dims(part, 1), num_rows, axis=1) for part in (hidden, cell)]
        shared = [ops.cast(self.keys(values), "float32"), values, *([] if where is None else [where])]
        keys, values, *confined = [ops.expand_dims(part, 1) for part in shared]
        return keys, values, *rows, *confined

    def step(self, tokens: "Tensor", state: State) -> tuple["Tensor", State, "Tensor"]:
        """One step: tokens (B, R) -> log-probabilities (B, R, V), the next state, attention (B, R, L)."""
        words = self._embed(tokens)
        context, state, attention = self._advance(self.embedding_projection(words), state)
        logits = self._head(words, state[2], context, training=False)
        return ops.log_softmax(logits, axis=-1), state, attention

    def _embed(self, tokens: "Tensor") -> "Tensor":
        words = self.embedding(tokens)
        live = ops.cast(self.words_live, words.dtype)
        return live * words + (1 - live) * ops.stop_gradient(words)

    def _advance(self, word_part: "Tensor", state: State) -> tuple["Tensor", State, "Tensor"]:
        """One step of attention and LSTM: the context (B, R, F), the next state, attention (B, R, L)."""
        keys, values, hidden, cell, *confined = state
        edges = np.cumsum(self.widths)[:-1].tolist()
        query, gate, recurrent = ops.split(self.hidden_projection(hidden), edges, axis=-1)
        # Bahdanau (additive) attention: v . tanh(key + query) for every region
        scores = self.attention_score(ops.tanh(keys + ops.expand_dims(ops.cast(query, "float32"), 2)))
        scores = ops.where(confined[0], scores[..., 0], ELSEWHERE) if confined else scores[..., 0]
        attention = ops.softmax(scores, axis=-1)  # (B, R, L)
        context = ops.matmul(ops.cast(attention, values.dtype), values[:, 0]) * ops.sigmoid(gate)
        gates = word_part + recurrent + self.context_projection(context)
        inputs, forget, candidate, output = ops.split(gates, 4, axis=-1)
        cell = ops.sigmoid(forget + 1.0) * cell + ops.sigmoid(inputs) * ops.tanh(candidate)
        hidden = ops.sigmoid(output) * ops.tanh(cell)
        return context, (keys, values, hidden, cell, *confined), attention

    def _penalise(self, attention: "Tensor", weights: "Tensor") -> None:
        """Doubly stochastic attention: adds a loss where the regions of an image get unequal shares over a caption."""
        shares = ops.sum(attention * ops.expand_dims(weights, -1), axis=2)  # (B, R, L)
        equal = ops.sum(weights, axis=2, keepdims=True) / shares.shape[-1]
        self.add_loss(self.config.attention_penalty * ops.mean(ops.sum(ops.square(shares - equal), axis=-1)))

    def _head(self, words: "Tensor", hidden: "Tensor", context: "Tensor", *, training: bool) -> "Tensor":
        outputs = self.head_hidden(hidden) + self.head_context(context) + words
        return ops.cast(self.head(self.drop_outputs(outputs, training=training)), "float32")

    def call(self, inputs: dict[str, Any], training: bool = False) -> "Tensor":
        """Logits (B, R, T, V) of the next words, given "features" (B, L, D) or images and "tokens" (B, R, T)."""
        tokens = inputs["tokens"]
        state = self._start(inputs["features"], tokens.shape[1], training=training)
        words = self._embed(tokens)
        words = self.drop_words(words, training=training)
        contexts, hiddens, attentions = [], [], []
        for word_part in ops.unstack(self.embedding_projection(words), axis=2):
            context, state, attention = self._advance(word_part, state)
            contexts.append(context)
            hiddens.append(state[2])
            attentions.append(attention)
        if training and self.config.attention_penalty:
            self._penalise(ops.stack(attentions, axis=2), ops.cast(tokens != 0, "float32"))
        return self._head(words, ops.stack(hiddens, axis=2), ops.stack(contexts, axis=2), training=training)
