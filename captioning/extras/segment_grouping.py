"""From a network's maps to segments: every cell of an object votes for the object's centre (as in Panoptic-DeepLab)."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from captioning.extras.segments import Segment

LOWEST = 0.1  # of the centre map, for a peak
REACH = 2  # cells around a peak without another peak
MOST = 100  # objects of a picture
SMALLEST = 4  # cells of an object


def group(
    categories: np.ndarray, centres: np.ndarray, offsets: np.ndarray, size: tuple[int, int], names: Sequence[str]
) -> list[Segment]:
    """The segments of a picture of `size` (height, width), the best first.

    `categories` (G, G, 1 + K) are probabilities, of the background first. `centres` (G, G) is from 0 to 1. `offsets`
    (G, G, 2) lead from a cell to its object's centre, down and right, as shares of the picture's side.
    """
    peaks = find_peaks(centres)
    foreground = 1 - categories[..., 0]
    if not len(peaks) or foreground.max() < 0.5:
        return []
    owners = owners_of(peaks, offsets)
    found = []
    for number, (row, column) in enumerate(peaks):
        share = np.where(owners == number, foreground, 0)
        inside = share > 0.5
        if inside.sum() < SMALLEST:
            continue
        mask = enlarge(share, size) > 0.5
        if not mask.any():
            continue
        means = categories[inside][:, 1:].mean(axis=0)
        label = int(means.argmax())
        score = float(np.sqrt(means[label] * np.clip(centres[row, column], 0, 1)))
        found.append(Segment(names[label], score, mask))
    return sorted(found, key=lambda segment: -segment.score)


def find_peaks(centres: np.ndarray) -> np.ndarray:
    """Rows and columns (N, 2) of the cells that no cell nearby exceeds, the highest first."""
    side = 2 * REACH + 1
    padded = np.pad(centres, REACH, constant_values=-np.inf)
    highest = np.lib.stride_tricks.sliding_window_view(padded, (side, side)).max(axis=(2, 3))
    rows, columns = np.nonzero((centres >= highest) & (centres > LOWEST))
    order = np.argsort(-centres[rows, columns], kind="stable")
    kept: list[tuple[int, int]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if all(max(abs(row - r), abs(column - c)) > REACH for r, c in kept):  # two equal cells are one peak
            kept.append((row, column))
    return np.array(kept[:MOST], int).reshape(-1, 2)


def owners_of(peaks: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The number (G, G) of the peak that is nearest to where each cell's offset leads."""
    grid = len(offsets)
    cells = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), axis=-1)
    aims = cells + offsets * grid
    return ((aims[:, :, None] - peaks) ** 2).sum(axis=-1).argmin(axis=-1)


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map resized to (height, width), values between cells interpolated."""
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
