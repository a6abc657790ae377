"""Scores of predicted captions against references: BLEU-1..4, METEOR, ROUGE-L and CIDEr-D, with 95 % intervals.

Captions are strings of tokens with single spaces, normalised by the caller. Each metric is a table of per-image
statistics and a function of its column sums. So a bootstrap only reweighs the rows.
"""

import importlib.metadata
import importlib.resources
import importlib.util
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain

import numpy as np

References = Sequence[Sequence[str]]
_Family = tuple[np.ndarray, Callable[[np.ndarray], dict[str, np.ndarray]]]  # table (N, k); sums (S, k) -> values (S,)


@dataclass(frozen=True)
class Score:
    """A metric's value and its 95 % interval; all on the metric's own scale (CIDEr-D reaches 10, the others 1)."""

    value: float
    low: float
    high: float


def score(
    predictions: Sequence[str],
    references: References,
    *,
    java: bool = False,
    meteor: bool = True,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Score]:
    """Score one prediction per image against that image's references. Intervals come from resampling the images.

    METEOR is for English alone. With `java`, it is METEOR 1.5 if pycocoevalcap and Java are found. Otherwise it is
    "METEOR-nltk-exact-stem", whose values are not comparable with METEOR's. CIDEr-D's document frequencies come from
    all references and stay fixed while resampling.
    """
    weights = list(_bootstrap_weights(len(predictions), resamples, seed))
    found = _values(predictions, references, weights, java=java, meteor=meteor)
    return {name: _interval(values) for name, values in found.items()}


def difference(
    predictions_a: Sequence[str],
    predictions_b: Sequence[str],
    references: References,
    *,
    java: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Score]:
    """Score a minus score b on the same images, resampled together. If the interval excludes 0, one is better."""
    weights = list(_bootstrap_weights(len(predictions_a), resamples, seed))
    values_a = _values(predictions_a, references, weights, java=java)
    values_b = _values(predictions_b, references, weights, java=java)
    return {name: _interval(values_a[name] - values_b[name]) for name in values_a}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute the scores."""
    names = ["nltk", "numpy"] + ["pycocoevalcap"] * _meteor_available()
    return {name: importlib.metadata.version(name) for name in names}


class CiderD:
    """CIDEr-D (sigma 6, n-grams of 1 to 4 words, COCO's factor 10) against fixed document frequencies.

    `documents` are the reference sets in which frequencies are counted. `score` caches the vectors of its references,
    about 2 kB per image, so scoring the same images again is fast.
    """

    def __init__(self, documents: References) -> None:
        frequency = Counter(chain.from_iterable({g for text in texts for g in _ngrams(text)} for texts in documents))
        self._unseen = np.log(len(documents))  # the weight of a document frequency of 1 or 0
        self._index = {ngram: row for row, ngram in enumerate(frequency, start=1)}  # row 0: n-grams in no reference
        self._weight = [self._unseen, *(self._unseen - np.log(list(frequency.values()))).tolist()]
        self._digests: dict[tuple[str, ...], tuple[np.ndarray, ...]] = {}

    def score(self, candidates: Sequence[str], references: References) -> np.ndarray:
        """Score each candidate against its own references: (N,) float64; the corpus value is the mean."""
        assert len(candidates) == len(references), "one set of references per candidate"
        digests = [self._digest(tuple(texts)) for texts in references]
        scratch = np.zeros(len(self._weight))
        return np.array([self._similarity(*pair, scratch) for pair in zip(candidates, digests, strict=True)])

    def _similarity(self, candidate: str, digest: tuple[np.ndarray, ...], scratch: np.ndarray) -> float:
        rows, weights, slots, norms, lengths = digest
        own_rows, own_weights, orders, own_length = self._vector(candidate)
        own_norms = np.sqrt(np.bincount(orders, own_weights**2, minlength=4))
        own_rows, own_weights = own_rows[own_rows > 0], own_weights[own_rows > 0]
        scratch[own_rows] = own_weights
        clipped = np.minimum(scratch[rows], weights) * weights
        scratch[own_rows] = 0
        products = np.bincount(slots, clipped, minlength=norms.size).reshape(norms.shape)  # (R, 4)
        scale = norms * own_norms
        cosines = np.divide(products, scale, out=products, where=scale > 0)
        return 10 * float((cosines.mean(axis=1) * np.exp(-((lengths - own_length) ** 2) / 72)).mean())

    def _digest(self, texts: tuple[str, ...]) -> tuple[np.ndarray, ...]:
        if texts not in self._digests:
            for ngram in chain.from_iterable(map(_ngrams, texts)):
                if ngram not in self._index:
                    self._index[ngram] = len(self._weight)
                    self._weight.append(self._unseen)
            rows, weights, orders, lengths = zip(*map(self._vector, texts), strict=True)
            slots = np.concatenate([4 * number + order for number, order in enumerate(orders)])
            flat = np.concatenate(weights)
            norms = np.sqrt(np.bincount(slots, flat**2, minlength=4 * len(texts))).reshape(-1, 4)
            self._digests[texts] = (np.concatenate(rows), flat, slots, norms, np.array(lengths))
        return self._digests[texts]

    def _vector(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        counts = Counter(_ngrams(text))
        rows = [self._index.get(ngram, 0) for ngram in counts]
        weights = [count * self._weight[row] for row, count in zip(rows, counts.values(), strict=True)]
        orders = [len(ngram) - 1 for ngram in counts]
        length = sum(count for order, count in zip(orders, counts.values(), strict=True) if order == 1)  # in bigrams
        return np.array(rows, dtype=np.intp), np.array(weights), np.array(orders, dtype=np.intp), length


def _ngrams(text: str) -> Iterator[tuple[str, ...]]:
    words = text.split()
    return chain.from_iterable(zip(*(words[start:] for start in range(size)), strict=False) for size in range(1, 5))


def _bootstrap_weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image counts: first once each, which gives the value itself, then drawn with replacement."""
    assert images > 0, "nothing to score"
    yield np.ones(images)
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(images, size=images), minlength=images).astype(float)


def _interval(values: np.ndarray) -> Score:
    low, high = np.percentile(values[1:] if len(values) > 1 else values, [2.5, 97.5])
    return Score(float(values[0]), float(low), float(high))


def _values(
    predictions: Sequence[str],
    references: References,
    weights: Sequence[np.ndarray],
    *,
    java: bool,
    meteor: bool = True,
) -> dict[str, np.ndarray]:
    assert len(predictions) == len(references), "one set of references per prediction"
    values: dict[str, np.ndarray] = {}
    for table, finish in _families(predictions, references, java, meteor):
        values |= finish(np.stack([weight @ table for weight in weights]))
    return values


def _families(predictions: Sequence[str], references: References, java: bool, meteor: bool) -> Iterator[_Family]:
    count = len(predictions)
    yield _bleu_table(predictions, references), _bleu
    if meteor and java and _meteor_available():
        yield _meteor_table(predictions, references), _meteor
    elif meteor:
        yield _nltk_meteor_table(predictions, references), partial(_mean, "METEOR-nltk-exact-stem", count)
    yield _rouge_table(predictions, references), partial(_mean, "ROUGE-L", count)
    yield CiderD(references).score(predictions, references)[:, None], partial(_mean, "CIDEr-D", count)


def _mean(name: str, count: int, sums: np.ndarray) -> dict[str, np.ndarray]:
    return {name: sums[:, 0] / count}


def _bleu_table(predictions: Sequence[str], references: References) -> np.ndarray:
    """Columns: matched n-grams (4), n-grams (4), length, closest reference length.

    A caption of fewer than n words has no n-gram, as in COCO's scorer. nltk's corpus_bleu counts one for it.
    """
    from nltk.translate.bleu_score import closest_ref_length, modified_precision

    table = []
    for prediction, texts in zip(predictions, references, strict=True):
        words, others = prediction.split(), [text.split() for text in texts]
        matched = [modified_precision(others, words, size).numerator for size in range(1, 5)]
        possible = [max(len(words) - size, 0) for size in range(4)]
        table.append([*matched, *possible, len(words), closest_ref_length(others, len(words))])
    return np.array(table, dtype=float)


def sentence_bleu(predictions: Sequence[str], references: References) -> np.ndarray:
    """BLEU-4 of each single caption, (N,), with add-one smoothing of n-grams of 2 to 4 words (Lin and Och 2004)."""
    table = _bleu_table(predictions, references)
    table[:, [1, 2, 3, 5, 6, 7]] += 1
    return _bleu(table)["BLEU-4"]


def _bleu(sums: np.ndarray) -> dict[str, np.ndarray]:
    matched, possible, length, reference_length = np.split(sums, [4, 8, 9], axis=1)
    with np.errstate(divide="ignore"):  # log 0 = -inf is a precision of 0
        precisions = np.log(matched / np.maximum(possible, 1))
    brevity = np.minimum(0, 1 - reference_length / np.maximum(length, 1))
    values = np.exp(brevity + np.cumsum(precisions, axis=1) / np.arange(1, 5))
    return {f"BLEU-{size}": values[:, size - 1] for size in range(1, 5)}


def _rouge_table(predictions: Sequence[str], references: References) -> np.ndarray:
    pairs = zip(predictions, references, strict=True)
    return np.array([[_rouge(text.split(), [other.split() for other in texts])] for text, texts in pairs])


def _rouge(words: list[str], references: list[list[str]]) -> float:
    common = [_longest_common_subsequence(words, other) for other in references]
    precision = max(common) / max(len(words), 1)
    recall = max(length / max(len(other), 1) for length, other in zip(common, references, strict=True))
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision) if precision else 0.0


def _longest_common_subsequence(first: list[str], second: list[str]) -> int:
    """The length of the longest common subsequence, bit-parallel (Hyyrö 2004): a 0 bit is a step up."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    everywhere = (1 << len(first)) - 1
    row = everywhere
    for word in second:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & everywhere
    return len(first) - row.bit_count()


def _nltk_meteor_table(predictions: Sequence[str], references: References) -> np.ndarray:
    """METEOR (2007) with exact and stemmed matches. No synonyms, because nltk does not include WordNet."""
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import meteor_score

    stemmer = PorterStemmer()
    stemmer.stem = cache(stemmer.stem)
    pairs = zip(predictions, references, strict=True)
    scores = [
        meteor_score([t.split() for t in ts], p.split(), stemmer=stemmer, wordnet=_NoSynonyms()) for p, ts in pairs
    ]
    return np.array(scores)[:, None]


class _NoSynonyms:
    def synsets(self, word: str) -> list[object]:
        return []


def _meteor_available() -> bool:
    return shutil.which("java") is not None and importlib.util.find_spec("pycocoevalcap") is not None


def _meteor_table(predictions: Sequence[str], references: References) -> np.ndarray:
    """METEOR 1.5's 23 statistics of each image. `_meteor` lists their order."""
    jar = importlib.resources.files("pycocoevalcap.meteor") / "meteor-1.5.jar"
    command = ["java", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    lines = [" ||| ".join(["SCORE", *texts, text]) for text, texts in zip(predictions, references, strict=True)]
    answer = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    table = np.array([line.split() for line in answer.stdout.splitlines()], dtype=float)
    lengths, chunks, matched = table[:, 0:2], table[:, 20], table[:, 21:23]
    chunks[(chunks == 1) & (matched == lengths).all(axis=1)] = 0  # a caption equal to its reference is not fragmented
    return table


def _meteor(sums: np.ndarray) -> dict[str, np.ndarray]:
    """METEOR 1.5's score for English (Denkowski and Lavie 2014) with its published parameters.

    The columns of `sums`, each pair for caption and reference: words; function words; matched content words and
    matched function words for each of exact, stem, synonym and paraphrase; chunks (one column); matched words.
    """
    lengths, function_words, chunks, matched = sums[:, 0:2], sums[:, 2:4], sums[:, 20], sums[:, 21:23]
    stages = sums[:, 4:20].reshape(-1, 4, 2, 2)  # (S, stage, content | function, caption | reference)
    balance = np.array([0.75, 0.25])
    hits = np.einsum("sgkt,g,k->st", stages, np.array([1.0, 0.6, 0.8, 0.6]), balance)
    tiny = 1e-12  # avoids division by zero for empty captions and captions without a match
    precision, recall = (hits / np.maximum((lengths - function_words) * 0.75 + function_words * 0.25, tiny)).T
    harmonic = precision * recall / np.maximum(0.85 * precision + 0.15 * recall, tiny)
    return {"METEOR": harmonic * (1 - 0.6 * (chunks / np.maximum(matched.mean(axis=1), tiny)) ** 0.2)}
