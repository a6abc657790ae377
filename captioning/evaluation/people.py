"""Feedback on several captioners -> which one people prefer, and how surely.

The unit is the person, since one person's ratings are alike. The interval of ratings inverts a permutation test (of
Welch's t), that of shares is Newcombe's from two Wilson intervals. Both hold for few people, and are wide then.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from captioning.data.feedback import MAX_ENTRIES, Feedback, FeedbackStore
from captioning.errors import DataError

PERMUTATIONS = 1999
LEVEL = 0.05  # of all claims of a report together
GOOD = 4  # a mean rating from here on is that of somebody pleased
QUESTIONS = ("rating, 1 to 5", "left uncorrected")  # the first that both arms have answers to decides
LOWEST, HIGHEST = 1.0, 5.0  # ratings
STEPS = 401  # differences of ratings that are tried; an odd number, so that zero is one of them
TINY = 1e-12  # for a variance of nothing


@dataclass(frozen=True)
class Opinion:
    """What one person said of one captioner's captions: means over what they sent, None where they said nothing."""

    rating: float | None
    uncorrected: float | None

    @property
    def answers(self) -> tuple[float | None, float | None]:
        """In the order of QUESTIONS."""
        return self.rating, self.uncorrected


@dataclass(frozen=True)
class Arm:
    """One captioner, how many entries there are on it, and the opinion of each person."""

    name: str
    entries: int
    opinions: Sequence[Opinion]

    def values(self, question: int) -> np.ndarray:
        """The answers of those who gave one."""
        found = [opinion.answers[question] for opinion in self.opinions]
        return np.array([value for value in found if value is not None])


@dataclass(frozen=True)
class Difference:
    """How much higher a mean is than another, and its interval."""

    value: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def compare_feedback(paths: Sequence[Path]) -> str:
    """Which captioner people prefer, by the feedback in one or several databases."""
    for path in paths:
        if not path.is_file():
            raise DataError(f"There is no {path}; give the database that captioning serve keeps feedback in.")
    return report([entry for path in paths for entry in FeedbackStore(path).list(limit=MAX_ENTRIES)])


def report(entries: Sequence[Feedback]) -> str:
    """The arms of a split, or else the captioners that people chose themselves, each against the first."""
    of_split = [entry for entry in entries if "arm" in entry.options]
    arms = arms_of(of_split or entries)
    if len(arms) < 2:
        found = f"only on {arms[0].name}" if arms else "empty"
        raise DataError(f"The feedback is {found}; two captioners can be compared, as with captioning serve --split.")
    lines = [_about(entries, of_split), "", *_table(arms)]
    for other in arms[1:]:
        lines += ["", *_comparison(other, arms[0], LEVEL / (len(arms) - 1))]
    return "\n".join(lines)


def arms_of(entries: Iterable[Feedback]) -> list[Arm]:
    """The captioners with what people said of them, the one with most people first."""
    found: dict[str, dict[str, list[Feedback]]] = {}
    for number, entry in enumerate(entries):
        arm, person = entry.options.get("arm", entry.bundle), entry.options.get("person", f"entry {number}")
        found.setdefault(str(arm), {}).setdefault(str(person), []).append(entry)
    arms = [
        Arm(name, sum(map(len, people.values())), [_opinion(said) for said in people.values()])
        for name, people in found.items()
    ]
    return sorted(arms, key=lambda arm: (-len(arm.opinions), arm.name))


def _opinion(entries: Sequence[Feedback]) -> Opinion:
    ratings = [entry.rating for entry in entries if entry.rating is not None]
    judged = [not entry.correction for entry in entries if entry.correction or entry.rating is not None]
    return Opinion(float(np.mean(ratings)) if ratings else None, float(np.mean(judged)) if judged else None)


def difference(ours: np.ndarray, theirs: np.ndarray, level: float = LEVEL) -> Difference:
    """How much higher our mean rating is. Where a whole arm agrees, the interval is that of people who nearly agree."""
    value = float(ours.mean() - theirs.mean())
    bounds = [value, *_not_rejected(ours, theirs, level), *_not_rejected(_spread(ours), _spread(theirs), level)]
    return Difference(value, min(bounds), max(bounds))


def _spread(ratings: np.ndarray) -> np.ndarray:
    """Ratings that vary; to equal ones the next lower and higher one are added."""
    near = np.clip([ratings[0] - 1, ratings[0] + 1], LOWEST, HIGHEST)
    return ratings if np.ptp(ratings) else np.concatenate([ratings, near])


def _not_rejected(ours: np.ndarray, theirs: np.ndarray, level: float) -> list[float]:
    """The differences that the permutation test does not reject; with one person in an arm all that there can be."""
    shifts = np.linspace(LOWEST - HIGHEST, HIGHEST - LOWEST, STEPS)
    if min(len(ours), len(theirs)) < 2:
        return shifts.tolist()
    values, is_ours = np.concatenate([ours, theirs]), np.arange(len(ours) + len(theirs)) < len(ours)
    rng = np.random.default_rng(0)
    chosen = (is_ours, *(rng.permutation(is_ours) for _ in range(PERMUTATIONS)))
    sums = np.array([_sums(values, is_ours, each) for each in chosen])
    every = _sums(values, is_ours, np.ones_like(is_ours))
    sizes = len(ours), len(theirs)
    return [float(shift) for shift in shifts if _share_as_far(sums, every, shift, *sizes) > level]


def _sums(values: np.ndarray, is_ours: np.ndarray, chosen: np.ndarray) -> tuple[float, ...]:
    """What the mean and the variance of the chosen need, whatever is taken off ours."""
    mine, own = values[chosen], is_ours[chosen]
    return float(mine.sum()), float((mine**2).sum()), float(own.sum()), float(mine[own].sum())


def _share_as_far(sums: np.ndarray, every: tuple[float, ...], shift: float, ours: int, theirs: int) -> float:
    """Of all divisions of the people in two, the share whose means differ as much as ours do; ours is the first."""

    def moments(parts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        total, squares, own, shared = parts.T
        total, squares = total - shift * own, squares - 2 * shift * shared + shift**2 * own
        return total / count, (squares - total**2 / count) / (count - 1)

    (mean, variance), (other, spread) = moments(sums, ours), moments(np.array(every) - sums, theirs)
    far = np.abs(mean - other) / np.sqrt(np.maximum(variance / ours + spread / theirs, TINY))
    return float((far >= far[0] * (1 - 1e-9)).mean())


def difference_of_shares(ours: np.ndarray, theirs: np.ndarray, level: float = LEVEL) -> Difference:
    """How much higher our share is, with Newcombe's interval."""
    mine, other = float(ours.mean()), float(theirs.mean())
    (low, high), (least, most) = wilson(mine, len(ours), level), wilson(other, len(theirs), level)
    value = mine - other
    return Difference(
        value, value - math.hypot(mine - low, most - other), value + math.hypot(high - mine, other - least)
    )


def wilson(share: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share, by Wilson's score."""
    z = NormalDist().inv_cdf(1 - level / 2)
    middle, room = share + z**2 / (2 * count), z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, (middle - room) / (1 + z**2 / count)), min(1.0, (middle + room) / (1 + z**2 / count))


def _about(entries: Sequence[Feedback], of_split: Sequence[Feedback]) -> str:
    if of_split:
        return f"{len(of_split):,} of {len(entries):,} entries are on captions of the split."
    return "There was no split: people chose the captioner, which alone can make a difference. Each entry is a person."


def _table(arms: Sequence[Arm]) -> list[str]:
    width = max(len(arm.name) for arm in arms)
    lines = [f"{'':<{width}}  people  entries  rating  of people pleased (mean 4 or 5)"]
    for arm in arms:
        ratings = arm.values(0)
        told = f"{'-':>6}  -"
        if len(ratings):
            pleased = float((ratings >= GOOD).mean())
            low, high = wilson(pleased, len(ratings))
            told = f"{ratings.mean():6.2f}  {pleased:.0%} of {len(ratings)} (95 % between {low:.0%} and {high:.0%})"
        lines.append(f"{arm.name:<{width}}  {len(arm.opinions):>6}  {arm.entries:>7}  {told}")
    return lines


def _comparison(arm: Arm, other: Arm, level: float) -> list[str]:
    """The differences of two arms; the first question that both have answers to decides."""
    lines, verdict = [f"{arm.name} against {other.name}"], ""
    for number, (question, compare) in enumerate(zip(QUESTIONS, (difference, difference_of_shares), strict=True)):
        ours, theirs = arm.values(number), other.values(number)
        if len(ours) and len(theirs):
            found = compare(ours, theirs, level)
            interval = f"({100 * (1 - level):.3g} % between {found.low:+.2f} and {found.high:+.2f})"
            lines.append(f"  {question:<18}{found.value:+.2f}  {interval}")
            verdict = verdict or _verdict(arm.name, other.name, question, found)
    return [*lines, f"  {verdict or 'No verdict: one of them was neither rated nor corrected.'}"]


def _verdict(name: str, other: str, question: str, found: Difference) -> str:
    if not found.is_certain:
        return f"No winner: by {question.partition(',')[0]}, the difference may be chance. Gather more feedback."
    return f"{name if found.value > 0 else other} is better by {question.partition(',')[0]}."
