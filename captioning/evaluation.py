"""Any captioner + a split -> a predictions file -> a score card.

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
from captioning.confidence import Calibration
from captioning.data import read_dataset
from captioning.errors import DataError
from captioning.options import DecodeOptions
from captioning.storage import write_whole
from captioning.tokenizer import normalise

TOKENISER = "lower case, no punctuation, 's apart"
GREEDY = DecodeOptions(strategy="greedy")
WATCHED = 8
CHUNK = 1024


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
        return Validation({name: scores[name].value for name in ("BLEU-4", "CIDEr-D")}, captions[:WATCHED])

    return validate


def evaluate(
    captioner: Any, data: Path, *, split: str, predictions: Path, options: DecodeOptions, java: bool = False
) -> dict[str, Any]:
    """Captions a split of any captioned data into a predictions file, and gives the score card of that file."""
    dataset = read_dataset(data)
    images = dataset.splits.get(split)
    if not images:
        found = ", ".join(f"{name} ({len(held)} images)" for name, held in dataset.splits.items())
        raise DataError(f"{data} has no {split} split; it has {found}.")
    root = data if data.is_dir() else data.parent
    captions = [caption for part in _chunks(list(images)) for caption in captioner.caption(part, options)]
    write_whole(predictions, predictions_text(predictions_of(captions, images, root.absolute())))
    about = {"data": dataset.name, "decoding": asdict(options)}
    return score_card(read_predictions(predictions), split=split, about=about, java=java)


def _chunks(images: list[Path]) -> list[list[Path]]:
    return [images[first : first + CHUNK] for first in range(0, len(images), CHUNK)]


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


def difference(card: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """How much better each score of `card` is; cards of other images, references or tokens are refused."""
    for name in ("split", "image_list_sha256", "references_per_image", "tokeniser"):
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
    return "\n".join(lines)
