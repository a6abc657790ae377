"""Any captioner + a split -> a predictions file -> a score card; two cards -> which captioner is better.

The file is scored, not the captioner, so that what was scored can be read and scored again.
"""

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captioning import confidence, metrics
from captioning.album import caption_images, told
from captioning.categories import word_use
from captioning.confidence import Calibration
from captioning.data import Dataset
from captioning.errors import DataError, ImageError
from captioning.options import DecodeOptions
from captioning.storage import write_whole
from captioning.tokenizer import normalise

TOKENISER = "lower case, no punctuation, 's apart"
GREEDY = DecodeOptions(strategy="greedy")
WATCHED = 8
CHUNK = 1024
ALIKE = ("split", "image_list_sha256", "references_per_image", "tokeniser")  # in cards that can be compared


class Validation(NamedTuple):
    """What validation found after an epoch: scores by name and the captions of the watched images."""

    scores: dict[str, float]
    samples: list[str]


@dataclass(frozen=True)
class Prediction:
    """One image's caption and its references; `image` is its name within the data set."""

    image: str
    caption: str
    references: tuple[str, ...]


class Ranked(NamedTuple):
    """A prediction, which of its references it is closest to, and its CIDEr-D among all of its split."""

    prediction: Prediction
    closest: str
    score: float


def predictions_text(predictions: Sequence[Prediction]) -> str:
    """The contents of a predictions file: one JSON record a line."""
    return "".join(json.dumps(asdict(prediction), ensure_ascii=False) + "\n" for prediction in predictions)


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file that holds what `predictions_text` gives, or any with the same three fields."""
    with open(path, encoding="utf-8") as lines:
        return [_prediction(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _prediction(line: str, place: str) -> Prediction:
    try:
        record = json.loads(line)
        image, caption, references = record["image"], record["caption"], record["references"]
        if not isinstance(references, list) or not all(isinstance(text, str) for text in (image, caption, *references)):
            raise TypeError("two texts and a list of texts are needed")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place} is not a prediction ({error}): image, caption, references expected.") from None
    return Prediction(image, caption, tuple(references))


def caption_split(captioner: Any, features: Any, images: Iterable[Path], options: Any = None) -> list[Any]:
    """The captioner's Captions for images whose features are cached."""
    rows = np.array([features.rows[image] for image in images])
    parts = [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
    return [caption for part in parts for caption in captioner.caption_features(features.array[part], options)]


def predictions_of(captions: Iterable[Any], split: Mapping[Path, Sequence[str]], folder: Path) -> list[Prediction]:
    """Captions beside their references; images are named relative to the folder."""
    pairs = zip(split.items(), captions, strict=True)
    return [Prediction(_name(image, folder), str(text), tuple(references)) for (image, references), text in pairs]


def _name(image: Path, folder: Path) -> str:
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else image.name


def worst_first(predictions: Sequence[Prediction]) -> list[Ranked]:
    """The predictions by their CIDEr-D, which rises; those that are as bad as each other stay in their order."""
    said = [_tokens(prediction.caption) for prediction in predictions]
    references = [[_tokens(text) for text in prediction.references] for prediction in predictions]
    cider = metrics.CiderD(references)
    scores = cider.score(said, references)
    counts = [len(texts) for texts in references]
    singly = cider.score(np.repeat(said, counts).tolist(), [[text] for texts in references for text in texts])
    rows = zip(predictions, np.split(singly, np.cumsum(counts)[:-1]), scores, strict=True)
    ranked = [Ranked(each, each.references[likeness.argmax()], float(score)) for each, likeness, score in rows]
    return sorted(ranked, key=lambda each: each.score)


def calibrate(captions: Sequence[Any], split: Mapping[Path, Sequence[str]]) -> tuple[Calibration, float] | None:
    """The confidence curve of captions with all their rivals, and its error; None where it cannot be known.

    A caption is good if its CIDEr-D is above that of the weakest quarter of people's captions, each against the others.
    """
    references = [[_tokens(text) for text in captions] for captions in split.values()]
    if min(map(len, references)) < 2:
        return None
    cider = metrics.CiderD(references)
    people = [
        cider.score([texts[one] for texts in references], [texts[:one] + texts[one + 1 :] for texts in references])
        for one in range(min(map(len, references)))
    ]
    good = cider.score([_tokens(str(caption)) for caption in captions], references) > np.quantile(people, 0.25)
    found = [confidence.signals(caption, caption.alternatives) for caption in captions]
    curve = confidence.fit(found, good)
    if curve is None:
        return None
    return curve, confidence.calibration_error([curve.confidence(*signals) for signals in found], good)


def validator(captioner: Any, features: Any, split: Mapping[Path, Sequence[str]]) -> Callable[[], Validation]:
    """What training asks after each epoch: greedy scores on the split, and the captions of its first eight images."""
    references = [[_tokens(text) for text in captions] for captions in split.values()]

    def validate() -> Validation:
        captions = [str(caption) for caption in caption_split(captioner, features, split, GREEDY)]
        scores = metrics.score([_tokens(caption) for caption in captions], references, resamples=1)
        found = {name: scores[name].value for name in ("BLEU-4", "CIDEr-D")}
        return Validation(found | {"distinct": len(set(captions)) / len(captions)}, captions[:WATCHED])

    return validate


def evaluate(
    captioner: Any,
    dataset: Dataset,
    root: Path,
    *,
    split: str,
    predictions: Path,
    options: DecodeOptions,
    java: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """Captions a split into a predictions file; gives its score card, and a sentence for each image left out.

    Images are named relative to `root`.
    """
    references, found = images_of(dataset, split), {}
    for batch in caption_images(captioner, references, options):
        found.update(batch)
    problems = [told(image, seen) for image, seen in found.items() if isinstance(seen, ImageError)]
    captions = {image: seen for image, seen in found.items() if not isinstance(seen, ImageError)}
    if not captions:
        raise DataError(f"None of the {len(found):,} images of the {split} split can be read; first: {problems[0]}")
    readable = {image: references[image] for image in captions}
    write_whole(predictions, predictions_text(predictions_of(captions.values(), readable, root)))
    about = {"data": dataset.name, "images_left_out": len(problems), "decoding": asdict(options)}
    return score_card(read_predictions(predictions), split=split, about=about, java=java), problems


def images_of(dataset: Dataset, split: str) -> dict[Path, list[str]]:
    """The images of a split with their captions, refused where there are none."""
    images = dataset.splits.get(split)
    if not images:
        found = ", ".join(f"{name} ({len(held)} images)" for name, held in dataset.splits.items())
        raise DataError(f"{dataset.name} has no {split} split; it has {found}.")
    return images


def score_card(
    predictions: Sequence[Prediction], *, split: str, about: dict[str, Any], java: bool = False
) -> dict[str, Any]:
    """Everything a reader needs to trust and repeat the scores; `about` adds what the caller knows (options, seed)."""
    candidates = [_tokens(prediction.caption) for prediction in predictions]
    references = [[_tokens(text) for text in prediction.references] for prediction in predictions]
    scores = metrics.score(candidates, references, java=java)
    shuffled = metrics.CiderD(references).score(candidates, references[1:] + references[:1]).mean()
    counts = [len(prediction.references) for prediction in predictions]
    return {
        "split": split,
        "images": len(predictions),
        "image_list_sha256": image_list_hash([prediction.image for prediction in predictions]),
        "references_per_image": {"least": min(counts), "mean": round(float(np.mean(counts)), 2), "most": max(counts)},
        "tokeniser": TOKENISER,
        "scores": {
            name: {key: round(value, 4) for key, value in asdict(score).items()} for name, score in scores.items()
        },
        "shuffled_images": {"CIDEr-D": round(float(shuffled), 4)},
        "variety": variety(candidates),
        "word_use": word_use(candidates, references),
        **about,
        "versions": metrics.versions(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def _tokens(text: str) -> str:
    return " ".join(normalise(text))


def image_list_hash(images: Sequence[str]) -> str:
    """A hash of which images were scored, whatever their order."""
    return hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest()


def variety(captions: Sequence[str]) -> dict[str, float]:
    """How different the captions are from one another: one caption for everything shows here."""
    return {
        "distinct_captions": round(len(set(captions)) / len(captions), 4),
        "words_used": len({word for caption in captions for word in caption.split()}),
        "mean_length": round(float(np.mean([len(caption.split()) for caption in captions])), 2),
    }


class Scored(NamedTuple):
    """A card, the predictions that it is of by image, and what it is called."""

    name: str
    card: dict[str, Any]
    predictions: dict[str, Prediction]


def compare(paths: Sequence[Path], split: str = "") -> str:
    """How the cards of bundles, or of their scores.json, differ from the first one's; by default on test, else dev."""
    found = [_read_cards(path) for path in paths]
    shared = [name for name in ("test", "dev", "train") if all(name in cards for cards in found)]
    if not shared or split not in ("", *shared):
        raise DataError(f"Not all of these have a card of the {split or 'same'} split; give bundles of the same data.")
    pairs = zip(paths, found, strict=True)
    first, *others = [_scored(path, cards[split or shared[0]]) for path, cards in pairs]
    return "\n\n".join(_comparison(other, first) for other in others)


def _read_cards(path: Path) -> dict[str, dict[str, Any]]:
    """The cards of a scores.json by split, or the one card in it."""
    file = path / "scores.json" if path.is_dir() else path
    try:
        cards = json.loads(file.read_text("utf-8"))
        cards = {cards["split"]: cards} if "split" in cards else cards
        if all({*ALIKE, "scores"} <= card.keys() for card in cards.values()):
            return cards
    except OSError:
        raise DataError(f"There is no {file}; give the folder of a bundle, or a scores.json.") from None
    except (ValueError, AttributeError, TypeError):
        pass
    raise DataError(f"{file} holds no score cards; give the folder of a bundle, or a scores.json.")


def _scored(path: Path, card: dict[str, Any]) -> Scored:
    folder = path if path.is_dir() else path.parent
    file = folder / f"predictions-{card['split']}.jsonl"
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
    ours, theirs = ([_tokens(each.caption) for each in side] for side in zip(*pairs, strict=True))
    references = [[_tokens(text) for text in mine.references] for mine, _ in pairs]
    intervals = metrics.difference(ours, theirs, references, java="METEOR" in gains)
    lines = [f"{one.name} against {other.name}: {one.card['split']} split, {one.card['images']} images"]
    lines.append(f"  {'':<26}{'its':>5}  other  difference")
    for name in [name for name in intervals if name in gains]:
        values = [side.card["scores"][name]["value"] for side in (one, other)]
        lines.append(f"  {name:<26}{values[0]:.3f}  {values[1]:.3f}  {_gain_text(intervals[name])}")
    return "\n".join(lines)


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


def card_text(card: dict[str, Any]) -> str:
    """A score card for the terminal."""
    lines = [
        f"{card['split']} split, {card['images']} images, {card['references_per_image']['mean']:g} references each"
    ]
    for name, score in card["scores"].items():
        lines.append(f"  {name:<26}{score['value']:.3f}   (95 % between {score['low']:.3f} and {score['high']:.3f})")
    lines.append(f"  {'CIDEr-D, images shuffled':<26}{card['shuffled_images']['CIDEr-D']:.3f}")
    lines.append(f"  {'distinct captions':<26}{card['variety']['distinct_captions']:.0%}")
    lines += [f"  {name.replace('_', ' '):<26}{share:.0%}" for name, share in card.get("scenes", {}).items()]
    return "\n".join(lines)
