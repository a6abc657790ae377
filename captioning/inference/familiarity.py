"""Familiarity: whether an image is like those that a captioner's confidence was measured on, by its features alone.

An image is the direction of its mean feature vector. Its distance is the cosine distance to the nearest of the
directions around which the validation images lie. Shapes: N images, L regions, D depth, K directions.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioning.options import is_of_type

DIRECTIONS, ROUNDS, FOLDS = 16, 30, 5
USUAL = 0.99  # share of validation images that count as familiar
LEAST_IMAGES = 100  # below, that share is a matter of one image
LENGTH_TOLERANCE = 0.01  # of a direction in half precision
SHORTEST = 1e-9  # length of a mean that still has a direction


@dataclass(frozen=True, eq=False)
class Familiarity:
    """The directions (K, D) of familiar images, and the distance beyond which an image is unfamiliar."""

    directions: np.ndarray
    limit: float

    def distances(self, grids: np.ndarray) -> np.ndarray:
        """The distance of each grid (N, L, D) or mean (N, D): 0 in a known direction, 1 at a right angle to all."""
        means = grids.mean(axis=1) if grids.ndim == 3 else grids
        return 1 - (_normalised(means) @ self.directions.T).max(axis=1)

    def is_familiar(self, grids: np.ndarray) -> list[bool]:
        """Whether each of these images is familiar."""
        return [bool(distance <= self.limit) for distance in self.distances(grids)]

    def record(self) -> dict[str, Any]:
        """The numbers for config.json; directions in half precision, as text."""
        text = base64.b64encode(self.directions.astype("<f2").tobytes()).decode()
        return {"limit": self.limit, "depth": self.directions.shape[1], "directions": text}


def read(record: dict[str, Any]) -> Familiarity:
    """The familiarity of a `record`. Raises ValueError or KeyError where it is none."""
    limit, depth, text = record["limit"], record["depth"], record["directions"]
    is_typed = is_of_type(float, limit) and is_of_type(int, depth) and isinstance(text, str)
    if not is_typed or not 0 <= limit <= 2 or depth < 1:
        raise ValueError("its familiarity needs a limit of 0 to 2, a depth and directions")
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype("float32")
        directions = numbers.reshape(-1, depth)
    except (binascii.Error, ValueError):
        raise ValueError("the directions of its familiarity are not whole") from None
    lengths = np.linalg.norm(directions, axis=1)
    if not len(directions) or not (abs(lengths - 1) <= LENGTH_TOLERANCE).all():  # NaN is refused too
        raise ValueError("a direction of its familiarity is not of length 1")
    return Familiarity(directions, float(limit))


def fit(means: np.ndarray) -> Familiarity | None:
    """The familiarity of images with these mean features (N, D); None for fewer than 100.

    The limit comes from distances of images that took no part in finding the directions.
    """
    if len(means) < LEAST_IMAGES:
        return None
    fold = np.random.default_rng(0).permutation(len(means)) % FOLDS
    distances = np.zeros(len(means))
    for number in range(FOLDS):
        others = Familiarity(_directions(means[fold != number]), 0.0)
        distances[fold == number] = others.distances(means[fold == number])
    return Familiarity(_directions(means), float(np.quantile(distances, USUAL)))


def _directions(means: np.ndarray) -> np.ndarray:
    """Spherical k-means."""
    points = _normalised(means)
    directions = points[np.random.default_rng(0).choice(len(points), DIRECTIONS, replace=False)]
    for _ in range(ROUNDS):
        nearest = (points @ directions.T).argmax(axis=1)
        groups = [points[nearest == own] for own in range(DIRECTIONS)]
        centres = [own.mean(axis=0) if len(own) else old for own, old in zip(groups, directions, strict=True)]
        directions = _normalised(np.stack(centres))
    return directions.astype("float16").astype("float32")  # as a bundle holds them


def _normalised(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, "float32")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)
