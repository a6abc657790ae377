"""Checks a captioner for the usual failures of captioners: a Finding each, with its cause and remedy.

The checks see images, features, captions, words and scores alone, so they suit any captioner.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.data.scenes.dataset import draw_scene
from captioning.data.tokenizer import UNKNOWN, Tokenizer, normalise
from captioning.errors import DataError
from captioning.evaluation.metrics import CiderD
from captioning.inference.folder import read_ahead
from captioning.plots.attention import MOVES, attention_variation

if TYPE_CHECKING:
    from captioning.inference.captioner import Captioner

DRAWN, MOST, LEAST = 32, 200, 8  # images: drawn ones, and the most and the least of a split
BLANK, SATURATED = 0.995, 0.5  # shares of the features that are 0, or the largest value
ALIKE = 0.05  # standard deviation of the features between images, of their mean size
SAME = 0.8  # share of images with one and the same caption
ENDLESS = 0.5  # share of captions that end only where they must, or before the first word
FLAT = 0.02  # attention: 0 is the same everywhere, 1 is all on one region
UNKNOWN_WORDS, UNKNOWN_VECTORS = 0.1, 0.3  # shares of running words, and of the vocabulary
BLIND = 0.7  # score with other images' references, of that with the right ones


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was measured, its cause where it is not healthy, and the remedy."""

    name: str
    healthy: bool
    what: str
    remedy: str

    def text(self) -> str:
        """For the terminal: one line, and one for the remedy where it is needed."""
        state = "healthy" if self.healthy else "FOUND"
        return f"{state:<9}{self.name}: {self.what}" + ("" if self.healthy else f"\n{'':<9}remedy: {self.remedy}")


def examine(
    captioner: "Captioner", about: Mapping[str, Any], split: Mapping[Path, Sequence[str]] | None = None
) -> list[Finding]:
    """All findings, on the images and references of a split, or on drawn images; `about` is the bundle's record."""
    pictures, references = _drawn() if split is None else _read(split, captioner.image_size)
    captions = captioner.caption(pictures)
    texts = [str(caption) for caption in captions]
    maps = [[word.attention for word in caption.words] for caption in captions]
    findings = [
        features_differ(captioner.features(pictures)),
        captions_differ(texts),
        captions_end([len(caption.words) for caption in captions], captioner.options.max_length),
        attention_points(maps),
        attention_moves(maps),
    ]
    if references:
        findings += [words_are_known(references, captioner.tokenizer), captions_fit_images(texts, references)]
    coverage = about.get("glove_coverage")
    if isinstance(coverage, int | float):
        findings.append(words_have_vectors(coverage))
    return findings


def _drawn() -> tuple[list[np.ndarray], list[Sequence[str]]]:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), "uint8")
    return [*(np.asarray(draw_scene(1, index).image) for index in range(DRAWN)), np.full_like(noise, 128), noise], []


def _read(split: Mapping[Path, Sequence[str]], size: int) -> tuple[list[np.ndarray], list[Sequence[str]]]:
    read = read_ahead(list(split)[:MOST], size)
    pixels = {image: pixels for image, pixels in read if isinstance(pixels, np.ndarray)}
    if len(pixels) < LEAST:
        raise DataError(f"{len(pixels)} images of this split can be read; give at least {LEAST}.")
    return list(pixels.values()), [split[image] for image in pixels]


def features_differ(grids: np.ndarray) -> Finding:
    """Whether the encoder's features (N, L, D) are finite, and differ between images."""
    flaw = _flaw(np.asarray(grids, "float32"))
    remedy = "give images as RGB from 0 to 255, the encoder does the rest; check --encoder-weights; train again."
    return Finding("features", not flaw, flaw or "finite, and different for different images", remedy)


def _flaw(grids: np.ndarray) -> str:
    if not np.isfinite(grids).all():
        return "some numbers are not finite: the weights are damaged"
    if (grids == 0).mean() > BLANK:
        return "all numbers are 0: the weights are not this encoder's, or the pixels' range is wrong"
    if (grids == grids.max()).mean() > SATURATED:
        return f"most numbers are saturated at {grids.max():.3g}: the pixels' range is wrong"
    share = grids.std(axis=0).mean() / np.abs(grids).mean()
    if share < ALIKE:
        return f"images differ by {share:.1%} only: the pixels' range is wrong, or the encoder is untrained"
    return ""


def captions_differ(captions: Sequence[str]) -> Finding:
    """Whether different images get different captions."""
    [(caption, count)] = Counter(captions).most_common(1)
    healthy = count < SAME * len(captions)
    what = f"{len(set(captions))} different ones for {len(captions)} images"
    if not healthy:
        what += f", “{caption}” for {count}: the captions do not depend on the images"
    remedy = "check the features first; then train longer, at a lower --learning-rate, or with more images."
    return Finding("captions", healthy, what, remedy)


def captions_end(lengths: list[int], max_length: int) -> Finding:
    """Whether captions end with <end>, after some words; lengths are in words."""
    endless, empty = (lengths.count(limit) / len(lengths) for limit in (max_length, 0))
    what = f"{1 - endless:.0%} end with <end>, after {np.mean(lengths):.0f} words on average"
    if endless > ENDLESS:
        what = f"{endless:.0%} run to {max_length} words without <end>: it was not trained, or the limit is too low"
    elif empty > ENDLESS:
        what = f"{empty:.0%} end before the first word: the model predicts <end> for everything"
    remedy = "train longer; give a higher --max-length, or --caption-length if the captions of the training were cut."
    return Finding("<end>", max(endless, empty) <= ENDLESS, what, remedy)


def attention_points(captions: Sequence[Sequence[np.ndarray]]) -> Finding:
    """Whether attention, a map per word of each caption, prefers some regions."""
    maps = np.array([weights.reshape(-1) for words in captions for weights in words])
    sharpness = _sharpness(maps) if len(maps) else 0.0
    healthy = bool(sharpness > FLAT)
    what = f"its sharpness is {sharpness:.2f}, where 0 is flat and 1 is all on one region"
    cause = "" if healthy else ": all regions weigh the same, so the captions cannot follow the image"
    remedy = "check the features first; train longer, at a lower --learning-rate, with --attention-penalty 0."
    return Finding("attention points", healthy, what + cause, remedy)


def _sharpness(maps: np.ndarray) -> float:
    entropy = -(maps * np.log(np.maximum(maps, 1e-12))).sum(axis=1).mean()
    return float(1 - entropy / np.log(maps.shape[1]))


def attention_moves(captions: Sequence[Sequence[np.ndarray]]) -> Finding:
    """Whether attention, a map per word of each caption, differs between the words."""
    share = float(np.mean([attention_variation(maps) for maps in captions if len(maps) > 1] or [1.0]))
    healthy = share >= MOVES
    what = f"{share:.0%} of it moves between a word and the whole caption's mean"
    cause = "" if healthy else ": the maps of all words are nearly the same"
    remedy = "train longer; a higher --attention-penalty spreads it over every region."
    return Finding("attention moves", healthy, what + cause, remedy)


def words_are_known(references: Sequence[Sequence[str]], tokenizer: Tokenizer) -> Finding:
    """Whether the vocabulary has the words of the references."""
    words = Counter(word for texts in references for text in texts for word in normalise(text))
    unknown = {word: count for word, count in words.most_common() if tokenizer.id(word) == UNKNOWN}
    share, coverage = sum(unknown.values()) / words.total(), 1 - len(unknown) / len(words)
    healthy = share <= UNKNOWN_WORDS
    what = f"{share:.1%} of the references' words are <unk>, {coverage:.0%} of their different words are in it"
    if not healthy:
        what += f", not {', '.join(list(unknown)[:5])}: the training captions were about other things"
    remedy = "train on captions like these, or with a lower --min-count."
    return Finding("vocabulary", healthy, what, remedy)


def words_have_vectors(coverage: float) -> Finding:
    """Whether the GloVe file of the training had vectors for most of the vocabulary; `coverage` is that share."""
    healthy = coverage >= 1 - UNKNOWN_VECTORS
    cause = "" if healthy else ": the file is for another language or another spelling"
    remedy = "give another file with --glove, or --glove fit, which fits vectors on the captions themselves."
    return Finding("word vectors", healthy, f"GloVe had {coverage:.0%} of the vocabulary{cause}", remedy)


def captions_fit_images(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Finding:
    """Whether captions score better with the references of their own images than with those of the next ones."""
    said = [" ".join(normalise(caption)) for caption in captions]
    wanted = [[" ".join(normalise(text)) for text in texts] for texts in references]
    cider = CiderD(wanted)
    right, wrong = (float(cider.score(said, texts).mean()) for texts in (wanted, wanted[1:] + wanted[:1]))
    healthy = wrong < BLIND * right
    cause = "" if healthy else ": the captions would suit any image"
    remedy = "check the features and the attention first; check that the training's captions belong to their images."
    what = f"CIDEr-D is {right:.2f} with an image's own references, {wrong:.2f} with another's{cause}"
    return Finding("captions and images", healthy, what, remedy)
