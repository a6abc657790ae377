"""The predictions file: one image, its caption and its references a line; written first, scored afterwards."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captioning.data.tokenizer import normalise
from captioning.errors import DataError
from captioning.evaluation import metrics
from captioning.runtime import strict_json


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
    return "".join(strict_json.dumps(asdict(prediction), ensure_ascii=False) + "\n" for prediction in predictions)


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file that holds what `predictions_text` gives, or any with the same three fields."""
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        return [_prediction(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _prediction(line: str, place: str) -> Prediction:
    try:
        record = strict_json.loads(line)
        image, caption, references = record["image"], record["caption"], record["references"]
        if not isinstance(references, list) or not all(isinstance(text, str) for text in (image, caption, *references)):
            raise TypeError("two texts and a list of texts are needed")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place} is not a prediction ({error}): image, caption, references expected.") from None
    return Prediction(image, caption, tuple(references))


def predictions_of(captions: Iterable[Any], split: Mapping[Path, Sequence[str]], folder: Path) -> list[Prediction]:
    """Captions beside their references; images are named relative to the folder."""
    pairs = zip(split.items(), captions, strict=True)
    return [Prediction(_name(image, folder), str(text), tuple(references)) for (image, references), text in pairs]


def _name(image: Path, folder: Path) -> str:
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else image.name


def worst_first(predictions: Sequence[Prediction]) -> list[Ranked]:
    """The predictions by their CIDEr-D, which rises; those that are as bad as each other stay in their order."""
    said = [tokens(prediction.caption) for prediction in predictions]
    references = [[tokens(text) for text in prediction.references] for prediction in predictions]
    cider = metrics.CiderD(references)
    scores = cider.score(said, references)
    counts = [len(texts) for texts in references]
    singly = cider.score(np.repeat(said, counts).tolist(), [[text] for texts in references for text in texts])
    rows = zip(predictions, np.split(singly, np.cumsum(counts)[:-1]), scores, strict=True)
    ranked = [Ranked(each, each.references[likeness.argmax()], float(score)) for each, likeness, score in rows]
    return sorted(ranked, key=lambda each: each.score)


def tokens(text: str) -> str:
    """A caption as it is scored."""
    return " ".join(normalise(text))
