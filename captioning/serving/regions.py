"""The region of a picture that is captioned: a box, or what was painted with a round brush.

Places are shares of the picture, from its left and its top.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from captioning.errors import CaptioningError

Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
LEAST_SHARE = 0.02  # of a side: a smaller box was drawn by mistake
SIDE, BRUSH = 200, 30  # the shorter side of a picture, and the width of the brush: about one region
MOST_POINTS = 4000  # of all strokes together, which may cover a picture several times over


@dataclass(frozen=True)
class Strokes:
    """Lines that the brush was drawn along, each a list of points; one point alone is a dot."""

    lines: tuple[tuple[Point, ...], ...]


Region = Box | Strokes


def box_between(left: float, top: float, right: float, bottom: float) -> Box:
    """The box whose opposite corners these are, in whatever order and however far outside the picture."""
    (left, right), (top, bottom) = ((min(pair), max(pair)) for pair in ((left, right), (top, bottom)))
    box = max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0)
    if not min(box[2] - box[0], box[3] - box[1]) >= LEAST_SHARE:
        raise CaptioningError("The marked part is too small; mark a larger part of the picture.")
    return box


def strokes_along(lines: Any) -> Strokes:
    """The strokes along these lists of points, refused where they are anything else."""
    try:
        strokes = Strokes(tuple(tuple((float(x), float(y)) for x, y in line) for line in lines))
    except (TypeError, ValueError, OverflowError):
        raise CaptioningError("What was painted is not made of points; paint it again.") from None
    if not (strokes.lines and all(strokes.lines)):
        raise CaptioningError("Nothing was painted; paint over some part of the picture.")
    if sum(map(len, strokes.lines)) > MOST_POINTS:
        raise CaptioningError(f"More than {MOST_POINTS:,} points were painted; paint less, or mark a box.")
    if not all(0 <= share <= 1 for line in strokes.lines for point in line for share in point):
        raise CaptioningError("What was painted lies outside the picture; paint within it.")
    return strokes


def region_sent(value: dict[str, Any]) -> Region:
    """The region that a page sends: the corners of a box, or the lines of what was painted."""
    return strokes_along(value["lines"]) if "lines" in value else box_between(*value["box"])


def sides(image: np.ndarray) -> tuple[float, float]:
    """Width and height of a picture where its shorter side counts SIDE."""
    height, width = image.shape[:2]
    return SIDE * width / min(height, width), SIDE * height / min(height, width)


def looked_at(region: Region | None, image: np.ndarray) -> Box | np.ndarray | None:
    """The region as a captioner takes it: a box as it is, strokes as a mask over the picture."""
    return np.asarray(_painted(region, image)) if isinstance(region, Strokes) else region


def box_around(region: Region | None, image: np.ndarray) -> Box:
    """The smallest box that holds a region."""
    if not isinstance(region, Strokes):
        return region or WHOLE
    canvas = _painted(region, image)
    left, top, right, bottom = canvas.getbbox() or (0, 0, *canvas.size)
    return left / canvas.width, top / canvas.height, right / canvas.width, bottom / canvas.height


def _painted(strokes: Strokes, image: np.ndarray) -> Image.Image:
    across, down = sides(image)
    canvas = Image.new("L", (round(across), round(down)))
    draw = ImageDraw.Draw(canvas)
    for line in strokes.lines:
        points = [(x * across, y * down) for x, y in line]
        draw.line(points, fill=1, width=BRUSH)
        for point in points:
            draw.circle(point, BRUSH / 2, fill=1)
    return canvas
