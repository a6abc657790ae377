"""Measures on captioned images how sure a captioner may be, and which images are familiar to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from captioning.errors import DataError, ImageError
from captioning.evaluation import metrics
from captioning.evaluation.predictions import tokens
from captioning.inference import bundle, confidence, familiarity
from captioning.inference.confidence import Calibration
from captioning.inference.familiarity import LEAST_IMAGES, Familiarity
from captioning.inference.folder import problem_text, read_ahead
from captioning.options import DecodeOptions, changed

if TYPE_CHECKING:
    from captioning.encoders.features import Features
    from captioning.inference.captioner import Caption, Captioner

CHUNK = 256  # images whose grids are held at a time


class Measured(NamedTuple):
    """A calibration and its error on the images it was fitted to, and which images are familiar; None: too few."""

    calibration: Calibration | None
    error: float | None
    familiarity: Familiarity | None

    def text(self) -> str:
        """What was found, as a sentence."""
        found = "no calibration"
        if self.error is not None:
            found = f"calibration error {self.error:.3f}"
        limit = "no familiar images" if self.familiarity is None else f"unfamiliar beyond {self.familiarity.limit:.3f}"
        return f"{found}, {limit}"


def with_all_beams(options: DecodeOptions) -> DecodeOptions:
    """A search that returns every beam, since calibration compares them."""
    return changed(options, num_captions=options.num_beams) if options.strategy == "beam" else options


def caption_cached(
    captioner: "Captioner", features: "Features", images: Sequence[Path], options: DecodeOptions
) -> tuple[list["Caption"], np.ndarray]:
    """The captions of images whose features or pixels are cached, and the mean (N, D) of each grid."""
    chunks = (images[first : first + CHUNK] for first in range(0, len(images), CHUNK))
    return _caption_grids(captioner, (_grids(captioner, features, chunk, options) for chunk in chunks), options)


def _grids(captioner: "Captioner", features: "Features", images: Sequence[Path], options: DecodeOptions) -> np.ndarray:
    array = features.array[np.array([features.rows[image] for image in images])]
    if array.ndim == 4:  # pixels
        return captioner.features(list(array), options, cached=False)  # the encoder learns between two epochs
    return captioner.features(images, options) if options.mirrored else array  # no cache holds mirror images


def _caption_grids(
    captioner: "Captioner", chunks: Iterable[np.ndarray], options: DecodeOptions
) -> tuple[list["Caption"], np.ndarray]:
    captions: list[Caption] = []
    means = []
    for grids in chunks:
        captions += captioner.caption_features(grids, options)
        means.append(np.asarray(grids, "float32").mean(axis=1))
    return captions, np.concatenate(means)


def measure(captions: Sequence["Caption"], means: np.ndarray, references: Sequence[Sequence[str]]) -> Measured:
    """Calibrate captions that hold all their beams; `means` (N, D) are the mean features of their images."""
    curve, error = _calibrate(captions, references) or (None, None)
    return Measured(curve, error, familiarity.fit(means))


def _calibrate(captions: Sequence["Caption"], references: Sequence[Sequence[str]]) -> tuple[Calibration, float] | None:
    good = are_good(captions, references)
    if good is None:
        return None
    found = [confidence.signals(caption, caption.alternatives) for caption in captions]
    curve = confidence.fit(found, good)
    if curve is None:
        return None
    return curve, confidence.calibration_error([curve.confidence(*signals) for signals in found], good)


def are_good(captions: Sequence[object], references: Sequence[Sequence[str]]) -> list[bool] | None:
    """Whether each caption's CIDEr-D is above the lowest quarter of people's captions, each scored against the others.

    None where an image has a single reference.
    """
    texts = [[tokens(text) for text in own] for own in references]
    if min(map(len, texts)) < 2:
        return None
    cider = metrics.CiderD(texts)
    people = [
        cider.score([own[one] for own in texts], [own[:one] + own[one + 1 :] for own in texts])
        for one in range(min(map(len, texts)))
    ]
    least = np.quantile(people, 0.25)
    return [bool(score > least) for score in cider.score([tokens(str(caption)) for caption in captions], texts)]


def calibrate_bundle(
    folder: Path, captioner: "Captioner", images: Mapping[Path, Sequence[str]], *, data: str
) -> tuple[Measured, list[str]]:
    """Measure a bundle's captioner on images with references, and write that into the bundle.

    Returns what was measured, and a sentence for each image left out.
    """
    options, readable, problems = with_all_beams(captioner.options), [], []
    with tqdm(desc="captions", total=len(images), unit="image", disable=None) as bar:

        def chunks() -> Iterator[np.ndarray]:
            held: list[np.ndarray] = []
            for image, read in read_ahead(images, captioner.image_size):
                bar.update()
                if isinstance(read, ImageError):
                    problems.append(problem_text(image, read))
                    continue
                readable.append(image)
                held.append(read)
                if len(held) == CHUNK:
                    yield captioner.features(held, options)
                    held = []
            if held:
                yield captioner.features(held, options)

        captions, means = _caption_grids(captioner, chunks(), options)
    measured = measure(captions, means, [images[image] for image in readable])
    if measured.calibration is None or measured.familiarity is None:
        raise DataError(
            f"{len(readable):,} images do not suffice: {LEAST_IMAGES} with two captions each were expected, some of "
            "which the captioner describes well and some badly; choose another --split or give more data."
        )
    bundle.calibrate(folder, measured.calibration, measured.familiarity, data=data)
    return measured, problems
