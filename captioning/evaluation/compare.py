"""Score cards of several captioners -> which is better, how surely, and the captions of every image side by side.

Whatever wrote a predictions file can be compared.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captioning.data.dataset import Dataset
from captioning.errors import DataError
from captioning.evaluation import metrics
from captioning.evaluation.predictions import Prediction, read_predictions, tokens
from captioning.evaluation.scoring import evaluate, image_list_hash, score_card
from captioning.runtime import strict_json

ALIKE = ("split", "image_list_sha256", "references_per_image", "tokeniser")  # in cards that can be compared
GIVEN = "given"  # the split of a predictions file, which does not name it
EXPECTED = "give the folder of a bundle, a scores.json, or a predictions file (.jsonl)"


class Scored(NamedTuple):
    """A name, its score card, and the predictions by image that were scored, empty where they are not at hand."""

    name: str
    card: dict[str, Any]
    predictions: dict[str, Prediction]


def compare(paths: Sequence[Path], split: str = "", *, captions: bool = False) -> str:
    """The scores of bundles, their scores.json or predictions files, and how they differ from the first one's.

    By default on the test split, else dev; with `captions`, also every image's captions side by side.
    """
    found = [_read_cards(path) for path in paths]
    shared = [name for name in (GIVEN, "test", "dev", "train") if all(name in cards for cards in found)]
    if not shared or split not in ("", *shared):
        raise DataError(f"Not all of these have a card of the {split or 'same'} split; give bundles of the same data.")
    pairs = zip(paths, found, strict=True)
    return report([_scored(path, cards[split or shared[0]]) for path, cards in pairs], captions=captions)


def caption_and_score(
    paths: Sequence[Path], dataset: Dataset, root: Path, split: str = "", *, load: Callable[[Path], Any]
) -> tuple[list[Scored], list[str]]:
    """Captions a split with every bundle, and a sentence for each image left out; predictions files are read.

    By default on the test split, else dev. Images are named relative to `root`.
    """
    split = split or next((name for name in ("test", "dev") if dataset.splits.get(name)), "test")
    scored: list[Scored] = []
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            if path.suffix == ".jsonl":
                scored.append(_scored(path, _read_cards(path)[split]))
                continue
            captioner, file = load(path), Path(folder, "predictions.jsonl")
            card, problems = evaluate(
                captioner, dataset, root, split=split, predictions=file, options=captioner.options
            )
            scored.append(Scored(str(path), card, {each.image: each for each in read_predictions(file)}))
    return scored, problems


def report(scored: Sequence[Scored], *, captions: bool = False) -> str:
    """How the others differ from the first; their scores alone where the predictions of one are not at hand."""
    first, *others = scored
    for other in others:
        difference(other.card, first.card)  # refuses cards that are not alike
    if lacking := [each for each in scored if not each.predictions]:
        facts = f"{first.card['split']} split, {first.card['images']} images"
        return f"{facts}\n{_table(scored)}\n\n{_advice(lacking, scored)}"
    parts = [_comparison(other, first) for other in others]
    if len(others) > 1:
        parts.insert(0, _table(scored))
    return "\n\n".join([*parts, *(_captions(scored) if captions else ())])


def _advice(lacking: Sequence[Scored], scored: Sequence[Scored]) -> str:
    split = scored[0].card["split"]
    names = " and ".join(each.name for each in lacking)
    return (
        f"Whether these differ by chance is unknown without predictions-{split}.jsonl in {names}; caption the split "
        f"again: python -m captioning compare {' '.join(each.name for each in scored)} --data FOLDER --split {split}"
    )


def _read_cards(path: Path) -> dict[str, dict[str, Any]]:
    """The cards of a scores.json by split, the one card in it, or a predictions file's card under every split."""
    if path.suffix == ".jsonl":
        predictions = _read_predictions(path)
        card = score_card(predictions, split=GIVEN, about={})
        return {name: card | {"split": name} for name in (GIVEN, "test", "dev", "train")}
    file = path / "scores.json" if path.is_dir() else path
    try:
        cards = strict_json.loads(file.read_bytes())
        cards = {cards["split"]: cards} if "split" in cards else cards
        if all({*ALIKE, "scores", "variety", "images"} <= card.keys() for card in cards.values()):
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
        return Scored(str(path), card, {})
    predictions = {each.image: each for each in read_predictions(file)}
    if image_list_hash(list(predictions)) != card["image_list_sha256"]:
        raise DataError(f"{file} does not hold the captions that the card beside it scores; copy both again.")
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
    """The scores, a line for each captioner."""
    shared = [name for name in scored[0].card["scores"] if all(name in each.card["scores"] for each in scored)]
    width = max(len(each.name) for each in scored)
    lines = [" " * width + "  " + "  ".join(shared) + "  distinct"]
    for each in scored:
        values = [f"{each.card['scores'][name]['value']:>{len(name)}.3f}" for name in shared]
        distinct = f"{each.card['variety']['distinct_captions']:>8.0%}"
        lines.append("  ".join([f"{each.name:<{width}}", *values, distinct]))
    return "\n".join(lines)


def _captions(scored: Sequence[Scored]) -> Iterator[str]:
    """Image by image: the references, and below them the captions."""
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
