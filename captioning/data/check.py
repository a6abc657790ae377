"""What a person should know about the data before training on it: counts, words, damage, and leaks between splits.

It changes nothing by itself; `clean` drops what cannot be read.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioning.data.dataset import SPLITS, Dataset
from captioning.data.formats import Problem
from captioning.data.image_index import DuplicateFinder, ImageFacts, index_images
from captioning.data.tokenizer import normalise
from captioning.errors import DataError

MIN_COUNTS = (1, 2, 3, 5, 10)
SHORT = 3  # words; "broken image" is no caption
REPEATED_SHARE = 0.01  # below it, captions shared by several images are not worth a line
LISTED = 10
NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Leak:
    """An image whose twin, the same file or a copy of the picture, is in another split."""

    image: Path
    split: str
    twin: Path
    twin_split: str
    same_file: bool


@dataclass(frozen=True)
class Coverage:
    """How much of the training captions has a word vector, as shares of 1; words without one by frequency."""

    vocabulary: float
    running_words: float
    uncovered: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What `inspect` found; `text` says it in words."""

    name: str
    layout: str
    images: dict[str, int]  # by split
    captions: dict[str, int]
    captions_per_image: tuple[int, float, int]  # min, mean, max
    words_per_caption: tuple[int, int, int, int]  # min, median, 95 %, max
    vocabulary: dict[int, int]  # least count in the training captions -> number of words
    coverage: Coverage | None
    problems: tuple[Problem, ...]
    unreadable: dict[Path, str]
    leaks: tuple[Leak, ...]
    short: tuple[Problem, ...]
    repeated_for_image: tuple[Problem, ...]
    most_repeated: tuple[tuple[str, int], ...]
    without_spaces: int
    languages: dict[str, int]  # captions by the language that the data states

    def text(self) -> str:
        """Return the report as calm plain text, long lists cut to ten."""
        lines = [f"{self.name} ({self.layout})" if self.layout else self.name, "", *self._table(), "", *self._words()]
        sections = [line for title, entries in self._sections() for line in _section(title, entries)]
        return "".join(f"{_printable(line)}\n" for line in [*lines, *(sections or ["", "Nothing wrong was found."])])

    def _table(self) -> list[str]:
        images, captions = ([f"{count:,}" for count in counts.values()] for counts in (self.images, self.captions))
        rows = (["", *self.images], ["images", *images], ["captions", *captions])
        return [f"  {title:<20}" + "".join(f"{cell:>10}" for cell in cells) for title, *cells in rows]

    def _words(self) -> Iterator[str]:
        fewest, mean, most = self.captions_per_image
        yield f"  captions per image  {fewest} to {most}, on average {mean:.1f}"
        shortest, median, usual, longest = self.words_per_caption
        yield f"  words per caption   {shortest} to {longest}, half at most {median}, 95 % at most {usual}"
        counts = ", ".join(
            f"{number:,} at least {least} times" for least, number in self.vocabulary.items() if least > 1
        )
        yield f"  different words     {self.vocabulary[1]:,} in the training captions, {counts}"
        if self.coverage:
            share, running = self.coverage.vocabulary, self.coverage.running_words
            yield f"  with a word vector  {share:.1%} of the different words, {running:.1%} of the running words"
            if self.coverage.uncovered:
                yield f"  without             {', '.join(self.coverage.uncovered[:LISTED])}"
        if self.languages:
            stated = ", ".join(f"{language} {count:,}" for language, count in self.languages.items())
            yield f"  languages           {stated} captions"
        if self.without_spaces:
            advice = "Chinese and Japanese are learned letter by letter, others need spaces between words"
            yield f"  no spaces           captions in such scripts: {self.without_spaces:,}; {advice}"

    def _sections(self) -> Iterator[tuple[str, Sequence[Problem]]]:
        yield "left out of the data", self.problems
        yield "images that cannot be read", [Problem(image.name, why) for image, why in self.unreadable.items()]
        yield "images also in another split, so that scores will be too good", [_in_words(leak) for leak in self.leaks]
        yield f"captions of fewer than {SHORT} words", self.short
        yield "captions that an image has twice", self.repeated_for_image
        again = [Problem(f"{count:,} times", caption) for caption, count in self.most_repeated]
        if sum(count - 1 for _, count in self.most_repeated) > REPEATED_SHARE * sum(self.captions.values()):
            yield "captions that come back for several images", again


def inspect(
    dataset: Dataset,
    *,
    cache: Path | None = None,
    index: Mapping[Path, ImageFacts] | None = None,
    known_words: Set[str] | None = None,
    progress: bool = True,
) -> Report:
    """Open every image of `dataset` and count its words.

    `index` holds the facts about its images where they are known already; else `cache` is a folder that keeps them.
    `known_words` are those that have a word vector, if vectors are to be used.
    """
    captioned = [(split, *pair) for split, pictures in dataset.splits.items() for pair in pictures.items()]
    assert len({image for _, image, _ in captioned}) == len(captioned), "splits share an image"
    images = [image for _, image, _ in captioned]
    facts = {image: index[image] for image in images} if index else index_images(images, cache, progress)
    train: Counter[str] = Counter()
    lengths, short = array("I"), []
    for split, image, caption in ((split, image, caption) for split, image, some in captioned for caption in some):
        tokens = normalise(caption)  # none are kept: those of a large data set would take 500 MB
        train.update(tokens if split == "train" else ())
        lengths.append(len(tokens))
        if len(tokens) < SHORT:
            short.append(Problem(image.name, caption))
    counts = Counter(caption for _, _, some in captioned for caption in some)
    return Report(
        name=dataset.name,
        layout=dataset.layout,
        images={split: len(pictures) for split, pictures in dataset.splits.items()},
        captions={split: sum(map(len, pictures.values())) for split, pictures in dataset.splits.items()},
        captions_per_image=_spread([len(captions) for _, _, captions in captioned]),
        words_per_caption=_quantiles(lengths),
        vocabulary={least: sum(count >= least for count in train.values()) for least in MIN_COUNTS},
        coverage=None if known_words is None else _coverage(train, known_words),
        problems=dataset.problems,
        unreadable={image: fact.error for image, fact in facts.items() if fact.error},
        leaks=tuple(_leaks(dataset, facts)),
        short=tuple(short),
        repeated_for_image=tuple(_repeated(captioned)),
        most_repeated=tuple((caption, count) for caption, count in counts.most_common() if count > 1),
        without_spaces=sum(count for caption, count in counts.items() if NO_SPACES.search(caption)),
        languages=dataset.languages,
    )


def clean(dataset: Dataset, report: Report, most: float = 1.0) -> Dataset:
    """Return the dataset without the images that cannot be read, each of which becomes a Problem.

    Where they are all, or a larger share than `most`, the data is refused: something happened to it.
    """
    cleaned, lost, total = dataset.without(report.unreadable), len(report.unreadable), sum(report.images.values())
    image, why = next(iter(report.unreadable.items()), (None, ""))
    if not any(cleaned.splits.values()):
        raise DataError(f"none of the {lost:,} images can be read; first {image}: {why}")
    if lost > most * total:
        raise DataError(
            f"{lost:,} of the {total:,} images cannot be read, first {image}: {why} "
            "Copy or export them anew, or do without them: --max-unreadable 1."
        )
    return cleaned


def _spread(numbers: list[int]) -> tuple[int, float, int]:
    return min(numbers), sum(numbers) / len(numbers), max(numbers)


def _quantiles(numbers: Sequence[int]) -> tuple[int, int, int, int]:
    least, median, usual, most = np.quantile(numbers, (0, 0.5, 0.95, 1), method="higher")
    return int(least), int(median), int(usual), int(most)


def _coverage(train: Counter[str], known_words: Set[str]) -> Coverage:
    uncovered = tuple(word for word, _ in train.most_common() if word not in known_words)
    running = sum(train[word] for word in uncovered)
    return Coverage(1 - len(uncovered) / max(1, len(train)), 1 - running / max(1, train.total()), uncovered)


def _repeated(captioned: Iterable[tuple[str, Path, list[str]]]) -> Iterator[Problem]:
    for _, image, captions in captioned:
        for caption, count in Counter(captions).items():
            if count > 1:
                yield Problem(image.name, caption)


def _leaks(dataset: Dataset, facts: dict[Path, ImageFacts]) -> Iterator[Leak]:
    """Yield, for each image of dev and test, its closest twin in the splits before it."""
    earlier: dict[Path, str] = {}
    for split in SPLITS:
        images = dataset.splits.get(split, {})
        copies = DuplicateFinder({image: facts[image] for image in earlier})
        for image in images:
            if twin := copies.find(facts[image]):
                yield Leak(image, split, twin, earlier[twin], facts[image].sha256 == facts[twin].sha256)
        earlier |= dict.fromkeys(images, split)


def _in_words(leak: Leak) -> Problem:
    kind = "the same file" if leak.same_file else "the same picture"
    return Problem(f"{leak.image.name} in {leak.split}", f"{kind} as {leak.twin.name} in {leak.twin_split}")


def _printable(line: str) -> str:
    """The line with escapes for what is no character to read: a file's name may hold commands for the terminal."""
    return line if line.isprintable() else "".join(part if part.isprintable() else ascii(part)[1:-1] for part in line)


def _section(title: str, entries: Sequence[Problem]) -> list[str]:
    if not entries:
        return []
    lines = [f"  {entry.where}  {entry.what}" for entry in entries[:LISTED]]
    more = [f"  and {len(entries) - LISTED:,} more"] if len(entries) > LISTED else []
    return ["", f"{title}: {len(entries):,}", *lines, *more]
