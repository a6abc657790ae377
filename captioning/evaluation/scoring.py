"""Any captioner + a split -> a predictions file -> a score card.

The file is scored, not the captioner, so that what was scored can be read and scored again.
"""

import datetime
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captioning.data.dataset import Dataset
from captioning.errors import DataError, ImageError
from captioning.evaluation import metrics
from captioning.evaluation.predictions import Prediction, predictions_of, predictions_text, read_predictions, tokens
from captioning.evaluation.word_use import word_use
from captioning.inference import confidence
from captioning.inference.confidence import Calibration
from captioning.inference.folder import caption_images, told
from captioning.options import DecodeOptions
from captioning.runtime.files import atomic_write

TOKENISER = "lower case, no punctuation, 's apart"
GREEDY = DecodeOptions(strategy="greedy")
WATCHED = 8
CHUNK = 1024


class Validation(NamedTuple):
    """What validation found after an epoch: scores by name and the captions of the watched images."""

    scores: dict[str, float]
    samples: list[str]


def caption_split(captioner: Any, features: Any, images: Iterable[Path], options: Any = None) -> list[Any]:
    """The captioner's Captions for images whose features are cached; no cache holds their mirror images'."""
    images, options = list(images), options or captioner.options
    if options.mirrored:
        return captioner.caption(images, options)
    rows = np.array([features.rows[image] for image in images])
    parts = [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
    return [caption for part in parts for caption in captioner.caption_features(features.array[part], options)]


def calibrate(captions: Sequence[Any], split: Mapping[Path, Sequence[str]]) -> tuple[Calibration, float] | None:
    """The confidence curve of captions with all their rivals, and its error; None where it cannot be known.

    A caption is good if its CIDEr-D is above that of the weakest quarter of people's captions, each against the others.
    """
    references = [[tokens(text) for text in captions] for captions in split.values()]
    if min(map(len, references)) < 2:
        return None
    cider = metrics.CiderD(references)
    people = [
        cider.score([texts[one] for texts in references], [texts[:one] + texts[one + 1 :] for texts in references])
        for one in range(min(map(len, references)))
    ]
    good = cider.score([tokens(str(caption)) for caption in captions], references) > np.quantile(people, 0.25)
    found = [confidence.signals(caption, caption.alternatives) for caption in captions]
    curve = confidence.fit(found, good)
    if curve is None:
        return None
    return curve, confidence.calibration_error([curve.confidence(*signals) for signals in found], good)


def validator(captioner: Any, features: Any, split: Mapping[Path, Sequence[str]]) -> Callable[[], Validation]:
    """What training asks after each epoch: greedy scores on the split, and the captions of its first eight images."""
    references = [[tokens(text) for text in captions] for captions in split.values()]

    def validate() -> Validation:
        captions = [str(caption) for caption in caption_split(captioner, features, split, GREEDY)]
        scores = metrics.score([tokens(caption) for caption in captions], references, resamples=1)
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
    atomic_write(predictions, predictions_text(predictions_of(captions.values(), readable, root)))
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
    candidates = [tokens(prediction.caption) for prediction in predictions]
    references = [[tokens(text) for text in prediction.references] for prediction in predictions]
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
