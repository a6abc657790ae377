"""Captions as records of the REST interface, and the box that a word attends to."""

import numpy as np

from captioning.errors import ImageError
from captioning.inference.caption import Caption
from captioning.inference.caption import Word as SpokenWord
from captioning.serving.problems import worded
from captioning.serving.schemas import Alternative, PictureCaption, PictureProblem, Word


def caption_record(name: str, found: Caption | ImageError, *, boxes: bool = False) -> PictureCaption:
    """The record of a picture's caption, or of the problem with it."""
    if isinstance(found, ImageError):
        return PictureCaption(image=name, problem=PictureProblem(code=f"image_{found.reason}", detail=worded(found)))
    return PictureCaption(
        image=name,
        caption=str(found),
        confidence=_rounded(found.confidence),
        sure=found.sure,
        verdict=found.verdict,
        score=_rounded(found.score),
        language=found.written_language or None,
        original=found.text if found.translation else None,
        translated_by=found.translation.model if found.translation else None,
        words=[_word(word, boxes) for word in found.words],
        alternatives=[Alternative(caption=str(other), score=_rounded(other.score)) for other in found.alternatives],
    )


def attention_box(attention: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the cells with at least half of the greatest weight, as shares of the picture."""
    rows, columns = np.nonzero(attention >= attention.max() / 2)
    height, width = attention.shape
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


def _word(word: SpokenWord, boxes: bool) -> Word:
    maps = [] if word.attention is None or not boxes else [word.attention]
    box = next(([round(float(side), 4) for side in attention_box(each)] for each in maps), None)
    return Word(text=word.text, probability=round(word.probability, 4), box=box)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
