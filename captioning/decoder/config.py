"""The sizes of the network, and how many weights it has for them. Nothing here needs Keras."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from captioning.options import ModelOptions


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build the network again."""

    vocabulary_size: int
    num_regions: int
    feature_depth: int
    feature_units: int
    attention_units: int
    lstm_units: int
    embedding_units: int
    dropout: float = 0.0
    attention_penalty: float = 0.0


def config_for(options: ModelOptions, vocabulary_size: int, grid: Sequence[int]) -> ModelConfig:
    """The configuration for these options, a vocabulary and an encoder's (B, L, D) output."""
    shared = {entry.name: getattr(options, entry.name) for entry in fields(ModelConfig) if hasattr(options, entry.name)}
    return ModelConfig(vocabulary_size, grid[1], grid[2], **shared)


def count_weights(config: ModelConfig) -> int:
    """The number of weights without the encoder's, computed before any memory is taken for them."""
    features, attention = config.feature_units, config.attention_units
    units, words = config.lstm_units, config.embedding_units
    image = (config.feature_depth + 3 + config.num_regions) * features + (features + 1) * attention
    start = (features + 1) * 2 * units
    inputs = (words + features) * 4 * units + config.vocabulary_size * words
    recurrence = (units + 1) * (attention + features + 4 * units)
    head = (units + 1 + features) * words + (words + 1) * config.vocabulary_size
    return image + start + inputs + recurrence + head + 1
