"""A plain PyTorch reference for training, as in "Show, Attend and Tell" tutorials: captions are sorted by length, the
batch shrinks as they end, LSTMCell, attention and output layer run word by word.

It uses none of our code. Shapes: N captions, T steps, L regions, D depth, V words. `copy_weights` copies our weights,
so that a test can check that both compute the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence


class PlainCaptioner(nn.Module):
    """Logits of captions from features (N, L, D), tokens (N, T) and lengths (N,); widths as in ModelConfig."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        values, queries, units = config.feature_units, config.attention_units, config.lstm_units
        self.feature_projection = nn.Linear(config.feature_depth, values)
        self.feature_norm = nn.LayerNorm(values, eps=1e-3)
        self.positions = nn.Parameter(torch.zeros(config.num_regions, values))
        self.keys = nn.Linear(values, queries, bias=False)
        self.query = nn.Linear(units, queries)
        self.attention_score = nn.Linear(queries, 1, bias=False)
        self.gate = nn.Linear(units, values)
        self.initial_hidden = nn.Linear(values, units)
        self.initial_cell = nn.Linear(values, units)
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_units)
        self.cell = nn.LSTMCell(config.embedding_units + values, units)
        self.cell.bias_hh.data.zero_()
        self.cell.bias_hh.requires_grad_(False)  # the other networks have one bias
        self.head_hidden = nn.Linear(units, config.embedding_units)
        self.head_context = nn.Linear(values, config.embedding_units, bias=False)
        self.head = nn.Linear(config.embedding_units, config.vocabulary_size)
        self.dropout = nn.Dropout(config.dropout)
        self.drop_features = nn.Dropout1d(config.dropout)  # a channel of all regions at once

    def forward(self, features: Any, tokens: Any, lengths: Any) -> tuple[Any, Any, Any]:
        """The logits (N, longest, V) of the captions from the longest to the shortest, their lengths, their order."""
        lengths, order = lengths.sort(descending=True, stable=True)
        features, tokens = features[order], tokens[order]
        values = self.feature_norm(torch.relu(self.feature_projection(features)) + self.positions)
        values = self.drop_features(values.transpose(1, 2)).transpose(1, 2)
        mean = values.mean(dim=1)
        hidden, cell = torch.tanh(self.initial_hidden(mean)), torch.tanh(self.initial_cell(mean))
        words = self.dropout(self.embedding(tokens))
        longest = lengths.tolist()
        logits = torch.zeros(len(tokens), longest[0], self.head.out_features)
        for time in range(longest[0]):
            count = sum(length > time for length in longest)
            hidden, cell = hidden[:count], cell[:count]
            context = self.attend(values[:count], hidden)
            word = words[:count, time]
            hidden, cell = self.cell(torch.cat([word, context], dim=1), (hidden, cell))
            outputs = self.head_hidden(hidden) + self.head_context(context) + word
            logits[:count, time] = self.head(self.dropout(outputs))
        return logits, lengths, order

    def attend(self, values: Any, hidden: Any) -> Any:
        """The gated sum (N, D) of the regions, by Bahdanau's attention."""
        scores = self.attention_score(torch.tanh(self.keys(values) + self.query(hidden).unsqueeze(1)))
        context = (torch.softmax(scores, dim=1) * values).sum(dim=1)
        return context * torch.sigmoid(self.gate(hidden))

    def copy_weights(self, weights: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Sets the weights to those of our network, named as `steps.weights_of` names them."""
        with torch.no_grad():
            for name, values in weights.items():
                matrices = [torch.from_numpy(np.array(value)) for value in values]
                if name == "positions":
                    self.positions.copy_(matrices[0])
                elif name == "cell":
                    self.cell.weight_ih.copy_(matrices[0].T)
                    self.cell.weight_hh.copy_(matrices[1].T)
                    self.cell.bias_ih.copy_(matrices[2])
                else:
                    layer = getattr(self, name)
                    layer.weight.copy_(matrices[0].T if isinstance(layer, nn.Linear) else matrices[0])
                    if len(matrices) > 1:
                        layer.bias.copy_(matrices[1])


def packed_loss(logits: Any, targets: Any, lengths: Any) -> Any:
    """The mean cross-entropy with label smoothing over all words, without padding; rows are sorted by length."""
    packed, wanted = (pack_padded_sequence(part, lengths, batch_first=True).data for part in (logits, targets))
    return nn.functional.cross_entropy(packed, wanted.long(), label_smoothing=0.1)


def train_step(model: PlainCaptioner, features: np.ndarray, tokens: np.ndarray, targets: np.ndarray) -> Any:
    """A function that takes one step of AdamW on these captions and returns the loss."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-2)
    lengths = torch.from_numpy((targets != 0).sum(axis=1))
    grids, words, wanted = (torch.from_numpy(part) for part in (features, tokens, targets))

    def step() -> float:
        logits, sorted_lengths, order = model(grids, words, lengths)
        loss = packed_loss(logits, wanted[order], sorted_lengths)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        return loss.item()

    return step
