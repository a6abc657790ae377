"""Defaults that suit some kinds of training better than the general ones; a flag wins over them."""

from typing import Any

SCENES: dict[str, Any] = {  # defaults for the drawn scenes
    "encoder": "tiny",
    "min_count": 1,
    "glove_frozen_epochs": 0,
    "feature_units": 128,
    "attention_units": 64,
    "lstm_units": 128,
    "embedding_units": 64,
    "dropout": 0.1,
    "epochs": 16,
    "caption_length": 18,
    "label_smoothing": 0.02,
    "learning_rate": 4e-3,
    "reinforce_epochs": 0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}

BEGUN: dict[str, Any] = {  # defaults when training starts from a bundle
    "epochs": 5,
    "learning_rate": 1e-3,
    "glove": "none",  # new words start as <unk>
    "glove_frozen_epochs": 0,
}

ADDED: dict[str, Any] = {"learning_rate": 2e-3, "caption_length": 18, "reinforce_epochs": 1}  # with --add-languages

BEGUN_BY_SIZE: dict[int, dict[str, Any]] = {  # the same, by the largest number of training images that it suits
    60: {"epochs": 5, "learning_rate": 3e-4, "min_count": 1, "reinforce_epochs": 0, "keep_base": 0.5},
    250: {"epochs": 5, "learning_rate": 1e-3, "min_count": 1, "reinforce_epochs": 0, "keep_base": 0.8},
    1000: {"epochs": 3, "learning_rate": 1e-3, "min_count": 1, "reinforce_epochs": 0, "keep_base": 0.8},
    4000: {"epochs": 3, "learning_rate": 1e-3, "min_count": 5, "reinforce_epochs": 0, "keep_base": 0.4},
}

FEEDBACK: dict[str, Any] = {  # defaults for learning from corrections
    "epochs": 3,
    "learning_rate": 3e-4,
    "reinforce_epochs": 0,
}

SMOKE: dict[str, Any] = {
    "epochs": 1,
    "reinforce_epochs": 0,
    "batch_size": 8,
    "caption_length": 8,
    "feature_units": 16,
    "attention_units": 16,
    "lstm_units": 16,
    "embedding_units": 50,
    "min_count": 1,
}
