"""A captioner + a split -> predictions -> a score card.

What is scored is what the predictions file holds, so that it can be read and scored again.
"""

import datetime
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from captioning.data.dataset import Dataset, require_one_language
from captioning.errors import DataError, ImageError
from captioning.evaluation import metrics
from captioning.evaluation.base_comparison import base_text
from captioning.evaluation.calibration import caption_cached, measure, with_all_beams
from captioning.evaluation.predictions import Prediction, predictions_of, predictions_text, read_predictions, tokens
from captioning.evaluation.scene_scores import score_scenes
from captioning.evaluation.word_use import word_use
from captioning.inference.confidence import Calibration
from captioning.inference.familiarity import Familiarity
from captioning.inference.folder import caption_images, problem_text
from captioning.options import DecodeOptions
from captioning.runtime.files import atomic_write

if TYPE_CHECKING:
    from captioning.encoders.features import Features
    from captioning.inference.captioner import Caption, Captioner
    from captioning.inference.protocol import AnyCaptioner

TOKENISER = "lower case, no punctuation, 's apart"
GREEDY = DecodeOptions(strategy="greedy")
WATCHED = 8


@dataclass(frozen=True)
class Validation:
    """What validation found after an epoch: scores by name and the captions of the watched images."""

    scores: dict[str, float]
    samples: list[str]


@dataclass(frozen=True)
class ScoredSplit:
    """The captions of a split's images, the same beside their references, the score card, and mean features (N, D)."""

    captions: list["Caption"]
    predictions: list[Prediction]
    card: dict[str, Any]
    means: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), "float32"))


@dataclass(frozen=True)
class Scores:
    """The scored splits of one captioner by name, its calibration and familiarity; None where it cannot be computed."""

    splits: dict[str, ScoredSplit]
    calibration: Calibration | None
    familiarity: Familiarity | None = None

    @property
    def cards(self) -> dict[str, dict[str, Any]]:
        """The score cards by split."""
        return {name: split.card for name, split in self.splits.items()}


def score_splits(
    captioner: "Captioner",
    features: "Features",
    splits: Mapping[str, Mapping[Path, Sequence[str]]],
    *,
    source: Path,
    about: Mapping[str, Any],
) -> Scores:
    """Score the captioner on every split, and calibrate its confidence on dev."""
    scored = {
        name: score_split(captioner, features, split, name=name, source=source, about=about)
        for name, split in splits.items()
    }
    if "dev" not in scored:
        return Scores(scored, None)
    dev = scored["dev"]
    measured = measure(dev.captions, dev.means, list(splits["dev"].values()))
    if measured.error is not None:
        dev.card["calibration_error"] = round(measured.error, 4)
    return Scores(scored, measured.calibration, measured.familiarity)


def score_split(
    captioner: "Captioner",
    features: "Features",
    split: Mapping[Path, Sequence[str]],
    *,
    name: str,
    source: Path,
    about: Mapping[str, Any],
) -> ScoredSplit:
    """Caption the images of a split from their features, and score the captions; images are named within `source`."""
    captions, means = caption_cached(captioner, features, list(split), with_all_beams(captioner.options))
    predictions = predictions_of(captions, split, source)
    card = score_card(predictions, split=name, about=about)
    if scenes := score_scenes(captions, split, source):
        card["scenes"] = scenes
    return ScoredSplit(captions, predictions, card, means)


def caption_split(
    captioner: "Captioner", features: "Features", images: Iterable[Path], options: DecodeOptions | None = None
) -> list["Caption"]:
    """Caption images whose features are cached."""
    return caption_cached(captioner, features, list(images), options or captioner.options)[0]


def validator(
    captioner: "Captioner", features: "Features", split: Mapping[Path, Sequence[str]]
) -> Callable[[], Validation]:
    """Return what is called after each epoch: greedy scores on the split, captions of its first eight images."""
    references = [[tokens(text) for text in captions] for captions in split.values()]

    def validate() -> Validation:
        captions = [str(caption) for caption in caption_split(captioner, features, split, GREEDY)]
        scores = metrics.score([tokens(caption) for caption in captions], references, resamples=1)
        found = {name: scores[name].value for name in ("BLEU-4", "CIDEr-D")}
        return Validation(found | {"distinct": len(set(captions)) / len(captions)}, captions[:WATCHED])

    return validate


def score_images(captioner: "Captioner", features: "Features", split: Mapping[Path, Sequence[str]]) -> np.ndarray:
    """Return the CIDEr-D of each image's greedy caption, (N,)."""
    references = [[tokens(text) for text in captions] for captions in split.values()]
    captions = [tokens(str(caption)) for caption in caption_split(captioner, features, split, GREEDY)]
    return metrics.CiderD(references).score(captions, references)


def evaluate(
    captioner: "AnyCaptioner",
    dataset: Dataset,
    root: Path,
    *,
    split: str,
    predictions: Path,
    options: DecodeOptions,
    java: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """Caption a split into a predictions file; return its score card, and a sentence for each image left out.

    Images are named relative to `root`.
    """
    references, found = images_of(dataset, split), {}
    with tqdm(desc=f"captions, {split} split", total=len(references), unit="image", disable=None) as bar:
        for batch in caption_images(captioner, references, options):
            found.update(batch)
            bar.update(len(batch))
    problems = [problem_text(image, seen) for image, seen in found.items() if isinstance(seen, ImageError)]
    captions = {image: seen for image, seen in found.items() if not isinstance(seen, ImageError)}
    if not captions:
        raise DataError(f"None of the {len(found):,} images of the {split} split can be read; first: {problems[0]}")
    readable = {image: references[image] for image in captions}
    atomic_write(predictions, predictions_text(predictions_of(captions.values(), readable, root)))
    about = {"data": dataset.name, "images_left_out": len(problems), "decoding": asdict(options)}
    if options.language:
        about["language"] = options.language
    return score_card(read_predictions(predictions), split=split, about=about, java=java), problems


def score_files(images: Mapping[Path, Sequence[str]], captioner: "Captioner") -> dict[str, float]:
    """Caption image files, and return BLEU-4 and CIDEr-D; images that cannot be read are left out."""
    found = {
        image: each for batch in caption_images(captioner, images, captioner.options) for image, each in batch.items()
    }
    captions = {image: each for image, each in found.items() if not isinstance(each, ImageError)}
    references = [[tokens(text) for text in images[image]] for image in captions]
    scores = metrics.score([tokens(str(each)) for each in captions.values()], references, resamples=1)
    return {name: round(float(scores[name].value), 4) for name in ("BLEU-4", "CIDEr-D")}


def images_of(dataset: Dataset, split: str) -> dict[Path, list[str]]:
    """Return the images of a split with their captions; refuse a split without any."""
    require_one_language(dataset)
    images = dataset.splits.get(split)
    if not images:
        found = ", ".join(f"{name} ({len(held)} images)" for name, held in dataset.splits.items())
        raise DataError(f"{dataset.name} has no {split} split; it has {found}.")
    return images


def score_card(
    predictions: Sequence[Prediction], *, split: str, about: Mapping[str, Any], java: bool = False
) -> dict[str, Any]:
    """Return all that is needed to trust and repeat the scores; `about` adds facts of the caller (options, seed)."""
    candidates = [tokens(prediction.caption) for prediction in predictions]
    references = [[tokens(text) for text in prediction.references] for prediction in predictions]
    is_english = about.get("language", "") in ("", "en")  # the stemmer of METEOR is one for English
    scores = metrics.score(candidates, references, java=java, meteor=is_english)
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
    """Return a hash of which images were scored, in any order."""
    return hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest()


def variety(captions: Sequence[str]) -> dict[str, float]:
    """Return how different the captions are from one another: one caption for everything shows here."""
    return {
        "distinct_captions": round(len(set(captions)) / len(captions), 4),
        "words_used": len({word for caption in captions for word in caption.split()}),
        "mean_length": round(float(np.mean([len(caption.split()) for caption in captions])), 2),
    }


def card_text(card: dict[str, Any]) -> str:
    """Return a score card as text for the terminal."""
    lines = [
        f"{card['split']} split, {card['images']} images, {card['references_per_image']['mean']:g} references each"
    ]
    for name, score in card["scores"].items():
        lines.append(f"  {name:<26}{score['value']:.3f}   (95 % between {score['low']:.3f} and {score['high']:.3f})")
    lines.append(f"  {'CIDEr-D, images shuffled':<26}{card['shuffled_images']['CIDEr-D']:.3f}")
    lines.append(f"  {'distinct captions':<26}{card['variety']['distinct_captions']:.0%}")
    lines += [f"  {name.replace('_', ' '):<26}{share:.0%}" for name, share in card.get("scenes", {}).items()]
    return "\n".join([*lines, *base_text(card)])
