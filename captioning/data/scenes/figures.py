"""The flat coloured shapes that figures are made of.

Every figure has its own units: y points up, the ground is at 0, it faces right.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

INK, WOOD, GLASS, CREAM = (45, 42, 50), (134, 94, 62), (196, 224, 238), (250, 243, 228)


def shade(colour: Colour, amount: float) -> Colour:
    """The colour darkened (amount < 0) or lightened (amount > 0)."""
    target = 255 if amount > 0 else 0
    red, green, blue = (round(channel + (target - channel) * abs(amount)) for channel in colour)
    return red, green, blue


def arc(centre: Point, radii: Point, start: float, stop: float, *, tilt: float = 0) -> list[Point]:
    """Points along an ellipse from one angle to another, in degrees, anticlockwise from the right."""
    steps = max(4, round(abs(stop - start) / 12))
    cosine, sine = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    points = []
    for step in range(steps + 1):
        angle = math.radians(start + (stop - start) * step / steps)
        x, y = radii[0] * math.cos(angle), radii[1] * math.sin(angle)
        points.append((centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine))
    return points


def smooth(points: Sequence[Point]) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    corners = np.array(points, dtype=float)
    before, after, beyond = np.roll(corners, 1, 0), np.roll(corners, -1, 0), np.roll(corners, -2, 0)
    t = np.arange(6).reshape(1, 6, 1) / 6
    a, b, c, d = (part[:, None] for part in (before, corners, after, beyond))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return [(float(x), float(y)) for x, y in curve.reshape(-1, 2)]


class Figure:
    """Filled polygons, painted in order; `hand` is the point at which it holds something."""

    def __init__(self) -> None:
        self.shapes: list[tuple[list[Point], Colour]] = []
        self.hand: Point = (0, 0)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.shapes.append((list(points), colour))

    def blob(self, points: Sequence[Point], colour: Colour) -> None:
        self.polygon(smooth(points), colour)

    def ellipse(self, centre: Point, radii: Point, colour: Colour, *, tilt: float = 0) -> None:
        self.polygon(arc(centre, radii, 0, 348, tilt=tilt), colour)

    def ring(self, centre: Point, radius: float, width: float, colour: Colour) -> None:
        inner = radius - width
        self.polygon(arc(centre, (radius, radius), 0, 360) + arc(centre, (inner, inner), 360, 0), colour)

    def limb(self, joints: Sequence[Point], width: float, colour: Colour) -> None:
        for (x, y), (end_x, end_y) in pairwise(joints):
            angle = math.degrees(math.atan2(end_y - y, end_x - x))
            radii = (width / 2, width / 2)
            near, far = arc((x, y), radii, angle + 90, angle + 270), arc((end_x, end_y), radii, angle - 90, angle + 90)
            self.polygon(near + far, colour)

    def bar(self, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], colour)

    def panel(self, left: float, bottom: float, right: float, top: float, colour: Colour, *, radius: float) -> None:
        corners = ((right, top, 0), (left, top, 90), (left, bottom, 180), (right, bottom, 270))
        points: list[Point] = []
        for x, y, start in corners:
            centre = (x - math.copysign(radius, x - left - radius), y - math.copysign(radius, y - bottom - radius))
            points += arc(centre, (radius, radius), start, start + 90)
        self.polygon(points, colour)

    def move(self, dx: float, dy: float, *, tilt: float = 0) -> None:
        """Rotates the figure about its origin by `tilt` degrees, then translates it."""
        cosine, sine = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        turned = [
            ([(x * cosine - y * sine + dx, x * sine + y * cosine + dy) for x, y in points], colour)
            for points, colour in self.shapes
        ]
        self.shapes = turned

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top, in the figure's own units."""
        xs, ys = zip(*(point for points, _ in self.shapes for point in points), strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def span(self, depth: float) -> tuple[float, float]:
        """Left and right of the part above `depth`, a share of its height, in the figure's own units."""
        _, bottom, _, top = self.bounds
        surface = bottom + depth * (top - bottom)
        xs = [x for points, _ in self.shapes for x, y in points if y >= surface]
        return min(xs), max(xs)

    def paint(self, draw: ImageDraw.ImageDraw, origin: Point, scale: float, *, flip: bool) -> None:
        """Paints the figure with its (0, 0) at `origin`; `scale` is pixels per unit."""
        across = -scale if flip else scale
        for points, colour in self.shapes:
            draw.polygon([(origin[0] + x * across, origin[1] - y * scale) for x, y in points], fill=colour)
