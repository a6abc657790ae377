"""Sentences without images, from which the decoder learns words and phrases beside the captions.

They stand in groups that count as images, whose features are the average grid of the training images. An epoch draws
some sentences of each group, as it draws captions of an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from captioning.errors import DataError
from captioning.training.batches import Examples

LARGEST = 256 * 2**20  # bytes of the file
AVERAGED = 1000  # images, evenly spaced


class WithAverage:
    """Grids (rows, L, D) with one row more, their average, which takes no place on the disk."""

    ndim = 3

    def __init__(self, grids: np.ndarray, rows: np.ndarray) -> None:
        self._grids, self.average_row = grids, len(grids)
        some = rows[:: ceil(len(rows) / AVERAGED)]
        self._average = np.mean([grids[row] for row in some], axis=0, dtype="float32").astype(grids.dtype)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        is_average = rows == self.average_row
        found = np.array(self._grids[np.where(is_average, 0, rows)])
        found[is_average] = self._average
        return found


def read_sentences(path: str) -> list[str]:
    """The sentences of a text file, one a line; none for an empty path."""
    if not path:
        return []
    try:
        if Path(path).stat().st_size > LARGEST:
            raise DataError(f"--sentences {path} is larger than {LARGEST // 2**20} MB; give a smaller file.")
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"--sentences {path} cannot be read ({error.strerror}); give a text file.") from None
    except UnicodeDecodeError:
        raise DataError(f"--sentences {path} is not UTF-8 text; convert it first.") from None
    sentences = list(dict.fromkeys(filter(None, map(str.strip, text.splitlines()))))
    if not sentences:
        raise DataError(f"--sentences {path} is empty; a sentence on every line was expected.")
    return sentences


def with_sentences(
    examples: Examples,
    sentences: Sequence[str],
    encode: Callable[[Sequence[str]], np.ndarray],
    *,
    captions_per_image: int,
    seed: int,
) -> Examples:
    """The examples and at most as many groups of sentences; `encode` turns sentences into (sentences, T + 1) ids."""
    assert isinstance(examples.array, np.ndarray), "sentences are added once"
    order = np.random.default_rng(seed).permutation(len(sentences))
    num_groups = min(len(examples), ceil(len(sentences) / captions_per_image))
    groups = [[sentences[place] for place in part] for part in np.array_split(order, num_groups)]
    array = WithAverage(examples.array, examples.rows[:, 0])
    return replace(
        examples,
        array=array,
        rows=np.concatenate([examples.rows, np.full((num_groups, examples.rows.shape[1]), array.average_row)]),
        tokens=[*examples.tokens, *map(encode, groups)],
        names=[*examples.names, *["the sentences"] * num_groups],
    )
