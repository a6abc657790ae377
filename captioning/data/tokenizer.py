"""Captions <-> ids: normalise, build the vocabulary, encode, decode.

Saved as vocabulary.json and, because people expect it, as tokenizer.pkl. That holds plain built-in types only and is
read by an unpickler that accepts nothing else.
"""

import io
import pickle
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from captioning.errors import BundleError
from captioning.runtime import strict_json

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")

_IDEOGRAPH = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # scripts that put no spaces between words
_MARKS = "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark).startswith("M"))
_LETTER = rf"(?!{_IDEOGRAPH})[^\W_][{_MARKS}]*"  # with the vowel signs and accents that follow it
_WORD = re.compile(rf"{_IDEOGRAPH}|'s(?!{_LETTER})|(?:{_LETTER})+(?:[-'](?!s(?!{_LETTER}))(?:{_LETTER})+)*")
_NO_SPACE = re.compile(rf"(?<={_IDEOGRAPH}) (?={_IDEOGRAPH})| (?='s(?!\S))")
AS_NORMALISED: Mapping[str, str] = MappingProxyType({})


def normalise(caption: str) -> list[str]:
    """The words of a caption: lower case, no punctuation; "dog's" is two words, "t-shirt" one, each ideograph one."""
    return _WORD.findall(unicodedata.normalize("NFC", caption).lower().replace("\u2019", "'"))


def is_ideograph(character: str) -> bool:
    """Whether a character is of a script that puts no spaces between words, such as Chinese."""
    return re.fullmatch(_IDEOGRAPH, character) is not None


def word_counts(captions: Iterable[str]) -> Counter[str]:
    """Count the words of captions."""
    return Counter(word for caption in captions for word in normalise(caption))


def usual_spelling(captions: Iterable[str]) -> dict[str, str]:
    """Return the most frequent spelling of each word that is not lower case, the first words of captions apart."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for caption in captions:
        for form in _WORD.findall(unicodedata.normalize("NFC", caption).replace("\u2019", "'"))[1:]:
            forms[form.lower()][form] += 1
    usual = {word: max(counts, key=lambda form: (counts[form], form)) for word, counts in forms.items()}
    return {word: form for word, form in usual.items() if form != word and normalise(form) == [word]}


class Tokenizer:
    """A vocabulary that turns captions into ids and back; ids 0 to 3 are <pad>, <start>, <end>, <unk>.

    `spelling` says how captions spell some words, such as German nouns.
    """

    def __init__(self, words: Sequence[str], spelling: Mapping[str, str] = AS_NORMALISED) -> None:
        assert tuple(words[:4]) == SPECIAL_WORDS, "a vocabulary starts with the four special words"
        self.words, self.spelling = tuple(words), dict(spelling)
        self._ids = {word: index for index, word in enumerate(self.words)}
        self._ids |= {form: self._ids[word] for word, form in self.spelling.items()}

    @classmethod
    def fit(cls, captions: Iterable[str], *, min_count: int = 5) -> "Tokenizer":
        """The vocabulary of all words that occur at least `min_count` times, most frequent first."""
        return cls(SPECIAL_WORDS).extended(captions, min_count=min_count)

    def extended(self, captions: Iterable[str], *, min_count: int = 1) -> "Tokenizer":
        """Return this vocabulary, each word with its id, followed by new words seen at least `min_count` times."""
        counts = word_counts(captions)
        new = [word for word in counts if counts[word] >= min_count and word not in self._ids]
        return Tokenizer((*self.words, *sorted(new, key=lambda word: (-counts[word], word))), self.spelling)

    def spelt(self, captions: Iterable[str]) -> "Tokenizer":
        """Return this vocabulary, its words spelt as in these captions."""
        usual = usual_spelling(captions)
        return Tokenizer(self.words, {word: usual[word] for word in self.words if word in usual})

    def __len__(self) -> int:
        return len(self.words)

    def id(self, word: str) -> int:
        """The id of one word, normalised or as captions spell it; <unk>'s if it is not in the vocabulary."""
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
        return _NO_SPACE.sub("", " ".join(map(self.spell, self.split(tokens))))

    def spell(self, word: str) -> str:
        """A word as captions spell it."""
        return self.spelling.get(word, word)

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
        return strict_json.dumps(self._record(), ensure_ascii=False, indent=0)

    def to_pickle(self) -> bytes:
        """The contents of tokenizer.pkl: one dict of built-in types."""
        return pickle.dumps(self._record(), protocol=4)

    def _record(self) -> dict[str, object]:
        spelling: dict[str, object] = {"spelling": self.spelling} if self.spelling else {}
        return {"format": 1, "words": list(self.words)} | spelling

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
        spelling = record.get("spelling", {}) if isinstance(record, dict) else {}
        if not isinstance(spelling, dict) or not all(isinstance(form, str) for form in spelling.values()):
            raise BundleError(
                "The spelling in the vocabulary is not one of this program: expected a text for each word."
            )
        known = set(words[4:])
        for word, form in spelling.items():
            if word not in known or normalise(form) != [word] or not form.isprintable():
                raise BundleError(f"The vocabulary spells the word {word!r} as {form!r}, another word; do not use it.")
        return cls(words, spelling)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it refers to something outside itself")
