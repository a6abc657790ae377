"""Score cards of several captioners -> which is better, how surely, and what each said of every image.

Knows nothing of captioners: whatever wrote a predictions file can be compared.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captioning.errors import DataError
from captioning.evaluation import metrics
from captioning.evaluation.predictions import Prediction, read_predictions, tokens
from captioning.evaluation.scoring import image_list_hash, score_card

ALIKE = ("split", "image_list_sha256", "references_per_image", "tokeniser")  # in cards that can be compared
GIVEN = "given"  # the split of a predictions file, which does not say of which it is
EXPECTED = "give the folder of a bundle, a scores.json, or a predictions file (.jsonl)"


class Scored(NamedTuple):
    """A card, the predictions that it is of by image, and what it is called."""

    name: str
    card: dict[str, Any]
    predictions: dict[str, Prediction]


def compare(paths: Sequence[Path], split: str = "", *, captions: bool = False) -> str:
    """The scores of bundles, their scores.json or predictions files, and how they differ from the first one's.

    By default on the test split, else dev; with `captions`, also what each said of every image.
    """
    found = [_read_cards(path) for path in paths]
    shared = [name for name in (GIVEN, "test", "dev", "train") if all(name in cards for cards in found)]
    if not shared or split not in ("", *shared):
        raise DataError(f"Not all of these have a card of the {split or 'same'} split; give bundles of the same data.")
    pairs = zip(paths, found, strict=True)
    scored = [_scored(path, cards[split or shared[0]]) for path, cards in pairs]
    first, *others = scored
    parts = [_comparison(other, first) for other in others]
    if len(others) > 1:
        parts.insert(0, _table(scored))
    return "\n\n".join([*parts, *(_captions(scored) if captions else ())])


def _read_cards(path: Path) -> dict[str, dict[str, Any]]:
    """The cards of a scores.json by split, the one card in it, or a predictions file's own for whatever split."""
    if path.suffix == ".jsonl":
        predictions = _read_predictions(path)
        card = score_card(predictions, split=GIVEN, about={})
        return {name: card | {"split": name} for name in (GIVEN, "test", "dev", "train")}
    file = path / "scores.json" if path.is_dir() else path
    try:
        cards = json.loads(file.read_text("utf-8"))
        cards = {cards["split"]: cards} if "split" in cards else cards
        if all({*ALIKE, "scores"} <= card.keys() for card in cards.values()):
            return cards
    except OSError:
        raise DataError(f"There is no {file}; {EXPECTED}.") from None
    except (ValueError, AttributeError, TypeError):
        pass
    raise DataError(f"{file} holds no score cards; {EXPECTED}.")


def _read_predictions(path: Path) -> list[Prediction]:
    if not path.is_file():
        raise DataError(f"There is no {path}; {EXPECTED}.")
    predictions = read_predictions(path)
    if not predictions:
        raise DataError(f"{path} holds no predictions; {EXPECTED}.")
    return predictions


def _scored(path: Path, card: dict[str, Any]) -> Scored:
    folder = path if path.is_dir() else path.parent
    file = path if path.suffix == ".jsonl" else folder / f"predictions-{card['split']}.jsonl"
    if not file.is_file():
        raise DataError(f"{folder} lacks {file.name}, without which its card cannot be compared; copy it beside.")
    predictions = {each.image: each for each in read_predictions(file)}
    if image_list_hash(list(predictions)) != card["image_list_sha256"]:
        raise DataError(f"{file} does not hold the captions that the card beside it is of; copy both again.")
    return Scored(str(path), card, predictions)


def _comparison(one: Scored, other: Scored) -> str:
    gains = difference(one.card, other.card)
    pairs = [(one.predictions[image], other.predictions[image]) for image in one.predictions]
    if any(mine.references != theirs.references for mine, theirs in pairs):
        raise DataError("These cards cannot be compared: the references of their images differ.")
    ours, theirs = ([tokens(each.caption) for each in side] for side in zip(*pairs, strict=True))
    references = [[tokens(text) for text in mine.references] for mine, _ in pairs]
    intervals = metrics.difference(ours, theirs, references, java="METEOR" in gains)
    split = "" if one.card["split"] == GIVEN else f"{one.card['split']} split, "
    lines = [f"{one.name} against {other.name}: {split}{one.card['images']} images"]
    lines.append(f"  {'':<26}{'its':>5}  other  difference")
    for name in [name for name in intervals if name in gains]:
        values = [side.card["scores"][name]["value"] for side in (one, other)]
        lines.append(f"  {name:<26}{values[0]:.3f}  {values[1]:.3f}  {_gain_text(intervals[name])}")
    return "\n".join(lines)


def _table(scored: Sequence[Scored]) -> str:
    """Everybody's scores, a line each."""
    shared = [name for name in scored[0].card["scores"] if all(name in each.card["scores"] for each in scored)]
    width = max(len(each.name) for each in scored)
    lines = [" " * width + "  " + "  ".join(shared) + "  distinct"]
    for each in scored:
        values = [f"{each.card['scores'][name]['value']:>{len(name)}.3f}" for name in shared]
        distinct = f"{each.card['variety']['distinct_captions']:>8.0%}"
        lines.append("  ".join([f"{each.name:<{width}}", *values, distinct]))
    return "\n".join(lines)


def _captions(scored: Sequence[Scored]) -> Iterator[str]:
    """What each said of an image, below what people said of it; image by image."""
    width = max(len(each.name) for each in scored)
    for image, prediction in scored[0].predictions.items():
        lines = [f"{image}"] + [f"  {'people':<{width}}  {text}" for text in prediction.references]
        lines += [f"  {each.name:<{width}}  {each.predictions[image].caption}" for each in scored]
        yield "\n".join(lines)


def _gain_text(gain: metrics.Score) -> str:
    verdict = "  better" if gain.low > 0 else "  worse" if gain.high < 0 else ""
    return f"{gain.value:+.3f}  (95 % between {gain.low:+.3f} and {gain.high:+.3f}){verdict}"


def difference(card: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """How much better each score of `card` is; cards of other images, references or tokens are refused."""
    for name in ALIKE:
        if card[name] != other[name]:
            raise DataError(
                f"These cards cannot be compared: {name} is {card[name]} in one, {other[name]} in the other."
            )
    shared = card["scores"].keys() & other["scores"].keys()
    return {name: card["scores"][name]["value"] - other["scores"][name]["value"] for name in sorted(shared)}
