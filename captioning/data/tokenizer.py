"""Captions <-> ids: normalise, build the vocabulary, encode, decode.

Saved as vocabulary.json and, because people expect it, as tokenizer.pkl. That holds plain built-in types only and is
read by an unpickler that accepts nothing else.
"""

import io
import pickle
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from captioning.errors import BundleError
from captioning.runtime import strict_json

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")

_IDEOGRAPH = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # scripts that put no spaces between words
_MARKS = "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark).startswith("M"))
_LETTER = rf"(?!{_IDEOGRAPH})[^\W_][{_MARKS}]*"  # with the vowel signs and accents that follow it
_WORD = re.compile(rf"{_IDEOGRAPH}|'s(?!{_LETTER})|(?:{_LETTER})+(?:[-'](?!s(?!{_LETTER}))(?:{_LETTER})+)*")


def normalise(caption: str) -> list[str]:
    """The words of a caption: lower case, no punctuation; "dog's" is two words, "t-shirt" one, each ideograph one."""
    return _WORD.findall(unicodedata.normalize("NFC", caption).lower().replace("\u2019", "'"))


def word_counts(captions: Iterable[str]) -> Counter[str]:
    """Count the words of captions."""
    return Counter(word for caption in captions for word in normalise(caption))


class Tokenizer:
    """A vocabulary that turns captions into ids and back; ids 0 to 3 are <pad>, <start>, <end>, <unk>."""

    def __init__(self, words: Sequence[str]) -> None:
        assert tuple(words[:4]) == SPECIAL_WORDS, "a vocabulary starts with the four special words"
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(self.words)}

    @classmethod
    def fit(cls, captions: Iterable[str], *, min_count: int = 5) -> "Tokenizer":
        """The vocabulary of all words that occur at least `min_count` times, most frequent first."""
        return cls(SPECIAL_WORDS).extended(captions, min_count=min_count)

    def extended(self, captions: Iterable[str], *, min_count: int = 1) -> "Tokenizer":
        """Return this vocabulary, each word with its id, followed by new words seen at least `min_count` times."""
        counts = word_counts(captions)
        new = [word for word in counts if counts[word] >= min_count and word not in self._ids]
        return Tokenizer((*self.words, *sorted(new, key=lambda word: (-counts[word], word))))

    def __len__(self) -> int:
        return len(self.words)

    def id(self, word: str) -> int:
        """The id of one normalised word, <unk>'s if it is not in the vocabulary."""
        return self._ids.get(word, UNKNOWN) if word not in SPECIAL_WORDS else UNKNOWN

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption's words, without start and end."""
        return [self.id(word) for word in normalise(caption)]

    def encode_batch(self, captions: Sequence[str], length: int) -> np.ndarray:
        """(N, length + 1) int32: <start> words <end>, padded with <pad>; one that is cut has no end."""
        rows = np.full((len(captions), length + 1), PAD, dtype="int32")
        for row, caption in zip(rows, captions, strict=True):
            tokens = [START, *self.encode(caption), END][
                : length + 1
            ]  # no end after a cut: else captions would learn to stop at "in front of a"
            row[: len(tokens)] = tokens
        return rows

    def decode(self, tokens: Iterable[int]) -> str:
        """The caption that ids spell, up to the first <end>; padding and <start> are left out."""
        return " ".join(self.split(tokens)).replace(" 's", "'s")

    def split(self, tokens: Iterable[int]) -> list[str]:
        """The words that ids spell, one per id, up to the first <end>."""
        words = []
        for token in map(int, tokens):
            if token == END:
                break
            if token not in (PAD, START):
                words.append(self.words[token])
        return words

    def to_json(self) -> str:
        """The contents of vocabulary.json."""
        return strict_json.dumps({"format": 1, "words": self.words}, ensure_ascii=False, indent=0)

    def to_pickle(self) -> bytes:
        """The contents of tokenizer.pkl: one dict of built-in types."""
        return pickle.dumps({"format": 1, "words": list(self.words)}, protocol=4)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Tokenizer":
        """The tokenizer of a vocabulary.json, refused where it is not one."""
        try:
            return cls._from_record(strict_json.loads(text))
        except ValueError as error:
            raise BundleError(
                f"The vocabulary is not readable JSON ({error}); take the file of the training."
            ) from None

    @classmethod
    def from_pickle(cls, data: bytes) -> "Tokenizer":
        """The tokenizer of a tokenizer.pkl; a pickle that refers to any class or function is refused."""
        try:
            return cls._from_record(_PlainUnpickler(io.BytesIO(data)).load())
        except (
            pickle.UnpicklingError,
            EOFError,
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
            OverflowError,
        ) as error:
            raise BundleError(
                f"This tokenizer.pkl was not written by this program ({error}); take vocabulary.json."
            ) from None

    @classmethod
    def _from_record(cls, record: object) -> "Tokenizer":
        words = record.get("words") if isinstance(record, dict) and record.get("format") == 1 else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BundleError("The vocabulary is not one of this program: expected format 1 and a list of words.")
        if tuple(words[:4]) != SPECIAL_WORDS or len(set(words)) != len(words):
            raise BundleError(f"The vocabulary must start with {' '.join(SPECIAL_WORDS)} and hold every word once.")
        for word in words:
            if not word.isprintable() or not word:
                raise BundleError(f"The vocabulary has the word {word!r}, which cannot be printed; do not use it.")
        return cls(words)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it refers to something outside itself")
