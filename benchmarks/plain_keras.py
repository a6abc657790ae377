"""A plain Keras reference for training: one caption per row, every matrix product inside the time loop.

It uses none of our code. Shapes: N captions, T steps, L regions, D depth, V words. `copy_weights` copies our weights,
so that a test can check that both compute the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops


class PlainCaptioner(keras.Model):
    """Logits (N, T, V) from features (N, L, D) and tokens (N, T); widths are named as in ModelConfig."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.feature_projection = layers.Dense(config.feature_units, activation="relu")
        self.feature_norm = layers.LayerNormalization()
        self.positions = self.add_weight((config.num_regions, config.feature_units), initializer="zeros")
        self.keys = layers.Dense(config.attention_units, use_bias=False)
        self.query = layers.Dense(config.attention_units)
        self.attention_score = layers.Dense(1, use_bias=False)
        self.gate = layers.Dense(config.feature_units, activation="sigmoid")
        self.initial_hidden = layers.Dense(config.lstm_units, activation="tanh")
        self.initial_cell = layers.Dense(config.lstm_units, activation="tanh")
        self.embedding = layers.Embedding(config.vocabulary_size, config.embedding_units)
        self.cell = layers.LSTMCell(config.lstm_units)
        self.head_hidden = layers.Dense(config.embedding_units)
        self.head_context = layers.Dense(config.embedding_units, use_bias=False)
        self.head = layers.Dense(config.vocabulary_size)
        self.drop_features = layers.Dropout(config.dropout, noise_shape=(None, 1, None))
        self.drop_words = layers.Dropout(config.dropout)
        self.drop_outputs = layers.Dropout(config.dropout)

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """One caption per row, word by word, as in the paper."""
        features, tokens = inputs["features"], inputs["tokens"]
        values = self.feature_norm(self.feature_projection(features) + self.positions)
        values = self.drop_features(values, training=training)
        mean = ops.mean(values, axis=1)
        state = [self.initial_hidden(mean), self.initial_cell(mean)]
        logits = []
        for time in range(tokens.shape[1]):
            words = self.drop_words(self.embedding(tokens[:, time]), training=training)
            context = self.attend(values, state[0])
            hidden, state = self.cell(ops.concatenate([words, context], axis=-1), state)
            outputs = self.head_hidden(hidden) + self.head_context(context) + words
            logits.append(self.head(self.drop_outputs(outputs, training=training)))
        return ops.stack(logits, axis=1)

    def attend(self, values: Any, hidden: Any) -> Any:
        """The gated sum (N, D) of the regions, by Bahdanau's attention."""
        scores = self.attention_score(ops.tanh(self.keys(values) + ops.expand_dims(self.query(hidden), 1)))
        context = ops.sum(ops.softmax(scores, axis=1) * values, axis=1)
        return context * self.gate(hidden)

    def copy_weights(self, weights: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Sets the weights to those of our network, named as `steps.weights_of` names them."""
        for name, values in weights.items():
            if name == "positions":
                self.positions.assign(values[0])
            else:
                getattr(self, name).set_weights(values)


def masked_loss(targets: Any, logits: Any) -> Any:
    """The mean cross-entropy with label smoothing over all words, without padding."""
    smoothed = ops.one_hot(targets, logits.shape[-1]) * 0.9 + 0.1 / logits.shape[-1]
    is_word = ops.cast(targets != 0, "float32")
    losses = ops.categorical_crossentropy(smoothed, logits, from_logits=True)
    return ops.sum(losses * is_word) / ops.sum(is_word)
