"""GloVe vectors for a vocabulary, read from a file or fitted on the captions.

Rows follow the vocabulary. The first four are the special tokens <pad> <start> <end> <unk>. <pad> is zero, the others
are random.
"""

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from captioning.errors import DataError

SPECIAL_TOKENS = 4
LARGEST_FIT = 5000  # words in the dense co-occurrence matrix
ENOUGH = 10  # x_max, the co-occurrences from which the weight is 1; 100 in the paper, on larger corpora
LEARNING_RATE = 0.05


@dataclass(frozen=True)
class Vectors:
    """matrix: (V, dimension) float32; covered: (V,) bool, the words found in the file."""

    matrix: np.ndarray
    covered: np.ndarray

    @property
    def coverage(self) -> float:
        """The share of the vocabulary's words found in the file, without special tokens."""
        return float(self.covered[SPECIAL_TOKENS:].mean())


def find_glove(folder: Path, dimension: int) -> Path | None:
    """Find `glove.*.{dimension}d.txt`, or a zip that holds one, in the folder."""
    texts = sorted(folder.glob(f"glove.*.{dimension}d.txt"))
    archives = (path for path in sorted(folder.glob("*.zip")) if _holds(path, dimension))
    return next(iter(texts), None) or next(archives, None)


def read_glove(path: Path, words: Sequence[str], *, dimension: int, seed: int = 0) -> Vectors:
    """Read the vectors of a vocabulary's words from a GloVe text file, or from a zip of them.

    Words missing from the file get random normal rows with the same standard deviation. A word2vec header line is
    skipped. The number of fields is checked on every line, the numbers only for words of the vocabulary.
    """
    rows = {word.encode(): row for row, word in enumerate(words) if row >= SPECIAL_TOKENS}
    matrix = np.zeros((len(words), dimension), dtype=np.float32)
    covered = np.zeros(len(words), dtype=bool)
    with _opened(path, dimension) as lines:
        for row, numbers in _wanted(lines, rows, path, dimension):
            matrix[row], covered[row] = numbers, True
    if not covered.any():
        raise DataError(f"{path} holds none of the vocabulary's {len(rows)} words; expected lower-case English GloVe.")
    return Vectors(_filled(matrix, covered, np.random.default_rng(seed)), covered)


def known_words(path: Path) -> set[str]:
    """Every word that a GloVe text file, or the first one in a zip, has a vector for."""
    with _opened(path, 0) as lines:
        return {line.partition(b" ")[0].decode("utf-8", "replace") for line in lines}


def word_vectors(
    choice: str, words: Sequence[str], captions: Sequence[Sequence[int]], *, dimension: int, folder: Path, seed: int = 0
) -> tuple[np.ndarray | None, float | None, str]:
    """Vectors for a choice of "auto", "fit", "none" or a file: rows, the share of words covered, a sentence."""
    path = Path(choice)
    if choice == "none":
        return None, None, "word vectors start at random"
    if choice in ("auto", "fit"):
        found = find_glove(folder, dimension) if choice == "auto" else None
        if not found:
            matrix = fit_glove(captions, len(words), dimension=dimension, seed=seed)
            return matrix, 1.0, f"GloVe fitted on {len(captions):,} captions, {dimension} numbers a word"
        path = found
    if not path.is_file():
        raise DataError(f"--glove {choice}: the file does not exist; give a glove.*.txt or .zip, auto, fit or none.")
    vectors = read_glove(path, words, dimension=dimension, seed=seed)
    coverage = f"{path.name} holds {vectors.coverage:.0%} of the vocabulary's {len(words):,} words"
    return vectors.matrix, vectors.coverage, coverage


@contextmanager
def _opened(path: Path, dimension: int) -> Iterator[IO[bytes]]:
    try:
        if path.suffix != ".zip":
            with path.open("rb") as lines:
                yield lines
        else:
            with zipfile.ZipFile(path) as archive, archive.open(_member(archive, path, dimension)) as lines:
                yield lines
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path} does not exist or is a folder; expected GloVe text or a zip of it.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is a damaged zip ({error}); delete it and download it again.") from error


def _member(archive: zipfile.ZipFile, path: Path, dimension: int) -> str:
    texts = [name for name in archive.namelist() if name.endswith(".txt")]
    fitting = [name for name in texts if name.endswith(f".{dimension}d.txt")] or texts[
        : int(len(texts) == 1 or not dimension)
    ]
    if not fitting:
        raise DataError(f"{path} holds no vectors of {dimension} numbers, only: {', '.join(texts) or 'no .txt file'}.")
    return fitting[0]


def _holds(path: Path, dimension: int) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).match(f"glove.*.{dimension}d.txt") for name in archive.namelist())


def _wanted(
    lines: Iterable[bytes], rows: dict[bytes, int], path: Path, dimension: int
) -> Iterator[tuple[int, np.ndarray]]:
    number = 0
    for number, line in enumerate(lines, start=1):
        fields = line.rstrip()
        extra = fields.count(b" ") - dimension
        if extra:
            _check_odd_line(fields, extra, number, f"{path}, line {number}, holds {dimension + extra} numbers")
        elif (row := rows.get(fields.partition(b" ")[0])) is not None:
            yield row, _parsed(fields.split(b" ")[1:], f"{path}, line {number},")
    if number == 0:
        raise DataError(f"{path} is empty: expected a word and its {dimension} numbers on every line.")


def _check_odd_line(fields: bytes, extra: int, number: int, what: str) -> None:
    """Allow a word2vec header, and the few words with spaces in the largest files, which no vocabulary contains."""
    head = fields.split(b" ")[: max(extra, 0) + 1]
    header = number == 1 and len(fields.split(b" ")) == 2 and fields.replace(b" ", b"").isdigit()
    if header or (extra > 0 and not any(map(_is_number, head[1:]))):
        return
    advice = "choose the file of your dimension" if number == 1 else "the file is cut or damaged, download it again"
    raise DataError(f"{what} where {fields.count(b' ') - extra} were expected: {advice}.")


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _parsed(fields: list[bytes], where: str) -> np.ndarray:
    if not all(map(_is_number, fields)):
        raise DataError(f"{where} holds a field that is not a number: the file is damaged, download it again.")
    numbers = np.array([float(field) for field in fields])
    if not (np.abs(numbers) < 1e30).all():  # float32 ends at 3e38
        raise DataError(f"{where} holds NaN or infinity: the file is damaged, download it again.")
    return numbers


def _filled(matrix: np.ndarray, covered: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill every row without a vector, except <pad>, with random numbers of the same standard deviation."""
    empty = ~covered
    empty[0] = False
    matrix[empty] = rng.normal(0, matrix[covered].std(), (empty.sum(), matrix.shape[1]))
    return matrix


def fit_glove(
    captions: Iterable[Sequence[int]],
    vocabulary_size: int,
    *,
    dimension: int,
    window: int = 8,
    iterations: int = 60,
    seed: int = 0,
) -> np.ndarray:
    """Fit GloVe (Pennington, Socher and Manning 2014) to tokenised captions: (vocabulary_size, dimension) float32.

    Each caption is a sequence of token ids. Special tokens are ignored. The co-occurrence matrix is dense, so only the
    `LARGEST_FIT` most frequent words are fitted. All other words get random rows of the same standard deviation.
    """
    ids = _padded(captions)
    counts = np.bincount(ids[ids >= SPECIAL_TOKENS], minlength=vocabulary_size)
    fitted = np.sort(np.argsort(-counts, kind="stable")[: min(LARGEST_FIT, np.count_nonzero(counts))])
    assert len(fitted), "no caption has a word"
    place = np.full(vocabulary_size, -1)
    place[fitted] = np.arange(len(fitted))
    table = _co_occurrences(place[ids], len(fitted), window)
    rng = np.random.default_rng(seed)
    matrix = np.zeros((vocabulary_size, dimension), dtype=np.float32)
    matrix[fitted] = _factorised(table, dimension, iterations, rng)
    return _filled(matrix, np.isin(np.arange(vocabulary_size), fitted), rng)


def _padded(captions: Iterable[Sequence[int]]) -> np.ndarray:
    rows = list(captions)
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, caption in zip(ids, rows, strict=True):
        row[: len(caption)] = caption
    return ids


def _co_occurrences(ids: np.ndarray, words: int, window: int) -> np.ndarray:
    """Co-occurrences of words within the window, each weighted by 1 / distance: (words, words) float32."""
    table = np.zeros((words, words), dtype=np.float32)
    for distance in range(1, min(window, ids.shape[1] - 1) + 1):
        left, right = ids[:, :-distance], ids[:, distance:]
        both = (left >= 0) & (right >= 0)
        np.add.at(table, (left[both], right[both]), np.float32(1 / distance))
    return table + table.T


def _factorised(table: np.ndarray, dimension: int, iterations: int, rng: np.random.Generator) -> np.ndarray:
    """Minimise the sum of weight * (left · right + biases - log count)^2 by AdaGrad. Return left + right."""
    words = len(table)
    weight = np.where(table > 0, np.minimum(table / ENOUGH, 1) ** 0.75, 0).astype(np.float32)
    target = np.log(np.where(table > 0, table, 1))
    left, right = rng.uniform(-0.5 / dimension, 0.5 / dimension, (2, words, dimension)).astype(np.float32)
    parameters = [left, right, np.zeros((words, 1), np.float32), np.zeros((words, 1), np.float32)]
    squares = [np.ones_like(parameter) for parameter in parameters]
    for _ in range(iterations):
        gradients = _gradients(parameters, weight, target)
        for parameter, gradient, square in zip(parameters, gradients, squares, strict=True):
            square += gradient**2
            parameter -= LEARNING_RATE * gradient / np.sqrt(square)
    return left + right


def _gradients(parameters: Sequence[np.ndarray], weight: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    left, right, left_bias, right_bias = parameters
    error = left @ right.T
    error += left_bias
    error += right_bias.T
    error -= target
    error *= weight
    return error @ right, error.T @ left, error.sum(axis=1, keepdims=True), error.sum(axis=0)[:, None]
