"""Places the actors of a story in the image and computes their boxes.

Positions and sizes are shares of the image's side, y downwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image, ImageDraw

from captioning.data.scenes import creatures, things
from captioning.data.scenes.figures import Colour, Figure
from captioning.data.scenes.stories import PEOPLE, SHELTERS, Actor, Story

COLOURS: dict[str, Colour] = {
    "red": (217, 45, 45),
    "blue": (43, 104, 214),
    "green": (38, 150, 78),
    "yellow": (250, 208, 48),
    "orange": (244, 130, 30),
    "purple": (146, 76, 190),
    "black": (48, 46, 54),
    "white": (248, 248, 246),
    "brown": (140, 88, 50),
}
# Heights of the upright figures of medium size.
HEIGHTS = {
    **{"man": 0.68, "woman": 0.68, "boy": 0.46, "girl": 0.46, "dog": 0.34, "horse": 0.54, "bird": 0.36},
    **{"ball": 0.3, "balloon": 0.44, "kite": 0.42, "umbrella": 0.48, "car": 0.31, "boat": 0.48, "bicycle": 0.35},
    **{"house": 0.48, "tree": 0.6, "flower": 0.42},
}
LEAST = 0.22  # shortest side of a box, before a row is shrunk to fit
STRETCH = {"": 1.0, "small": 0.85, "big": 1.2}
DEPTHS = {"boat": 0.06, "ball": 0.25, "dog": 0.36, "standing": 0.34, "waving": 0.3, "swimming": 0.32}
ANIMALS = {
    "dog": creatures.dog,
    "horse": creatures.horse,
    "bird": creatures.bird,
}
THINGS = {
    "ball": things.ball,
    "balloon": things.balloon,
    "kite": things.kite,
    "umbrella": things.umbrella,
    "car": things.car,
    "boat": things.boat,
    "bicycle": things.bicycle,
    "house": things.house,
    "tree": things.tree,
    "flower": things.flower,
}
Box = tuple[float, float, float, float]


def figure_of(noun: str, colour: str, action: str, variant: int = 0) -> Figure:
    if noun in PEOPLE:
        return creatures.person(noun, COLOURS[colour], action, variant)
    return ANIMALS[noun](COLOURS[colour], action) if noun in ANIMALS else THINGS[noun](COLOURS[colour])


@cache
def unit_of(noun: str) -> float:
    """The length of one unit of this figure, as a share of the image's side."""
    _, bottom, _, top = figure_of(noun, "red", "standing").bounds
    return HEIGHTS[noun] / (top - bottom)


@dataclass
class Placed:
    """A placed figure; (x, y) is the position of the middle of its ground line."""

    actor: Actor
    figure: Figure
    scale: float
    flip: bool
    depth: float = 0.0  # share of its height under water
    x: float = 0.5
    y: float = 0.9
    hand: tuple[float, float] | None = None  # position of the hand that holds it

    @property
    def width(self) -> float:
        left, _, right, _ = self.figure.bounds
        return (right - left) * self.scale

    @property
    def top(self) -> float:
        """The height of the figure above its ground line."""
        return self.figure.bounds[3] * self.scale

    @property
    def origin(self) -> tuple[float, float]:
        left, _, right, _ = self.figure.bounds
        middle = (left + right) / 2 * self.scale
        return self.x + (middle if self.flip else -middle), self.y

    def spot(self, point: tuple[float, float]) -> tuple[float, float]:
        """The position in the image of a point in the figure's units."""
        across = -self.scale if self.flip else self.scale
        return self.origin[0] + point[0] * across, self.y - point[1] * self.scale

    def limit(self, width: float, height: float) -> None:
        self.scale *= min(1, width / self.width, height / self.top)

    def hang(self, x: float, top: float) -> None:
        self.x, self.y = x, top + self.top

    @property
    def visible_height(self) -> float:
        _, bottom, _, top = self.figure.bounds
        return (top - bottom) * (1 - self.depth) * self.scale

    @property
    def box(self) -> Box:
        """Left, top, right, bottom of the visible part, within the image."""
        top = self.y - self.top
        edges = [self.spot((x, 0))[0] for x in self.figure.span(self.depth)]
        left, top, right, bottom = (
            round(min(1.0, max(0.0, edge)), 4) for edge in (min(edges), top, max(edges), top + self.visible_height)
        )
        return left, top, right, bottom

    def paint(self, canvas: Image.Image) -> None:
        side, draw = canvas.width, ImageDraw.Draw(canvas, "RGBA")
        before = canvas.copy() if self.depth else canvas
        left, _, right, bottom = (edge * side for edge in self.box)
        if not self.depth and not self.airborne:
            x, y, wide = self.x * side, self.y * side, self.width * side * 0.46
            draw.ellipse([x - wide, y - 0.018 * side, x + wide, y + 0.018 * side], fill=(40, 50, 70, 60))
        if self.hand:
            string = [self.hand, self.spot((0, 4))]
            draw.line([(x * side, y * side) for x, y in string], fill=(120, 116, 120), width=max(1, side // 150))
        self.figure.paint(draw, (self.origin[0] * side, self.origin[1] * side), self.scale * side, flip=self.flip)
        if self.depth:
            under = (0, round(bottom), side, side)
            canvas.paste(before.crop(under), under)
            draw.ellipse([left - 9, bottom - 5, right + 9, bottom + 7], fill=(240, 250, 252, 120))

    @property
    def airborne(self) -> bool:
        return self.actor.action == "flying" or self.hand is not None


def arrange(story: Story, random: Random) -> list[Placed]:
    """All figures of the story, from back to front."""
    main = [cast(story.main, story.place, random) for _ in range(story.main.count)]
    ground = random.uniform(0.86, 0.95)
    if story.other is None:
        for placed in main:
            placed.scale *= 1.2
        return line_up(main, random.uniform(0.3, 0.85) if main[0].airborne else ground, random)
    other = cast(story.other, story.place, random)
    if story.relation == "beside":
        return line_up(random.choice(([*main, other], [other, *main])), ground, random)
    if story.relation == "in front of":
        return stand_before(main[0], other, random)
    if story.relation == "under":
        return (
            shelter(main[0], other, random) if story.other.noun in SHELTERS else stack(other, main[0], ground, random)
        )
    if story.relation == "above":
        return stack(main[0], other, ground, random)
    return hold(main[0], other, ground, random)


def cast(actor: Actor, place: str, random: Random) -> Placed:
    figure = figure_of(actor.noun, actor.colour, actor.action, random.randrange(64))
    scale = unit_of(actor.noun) * STRETCH[actor.size] * random.uniform(0.93, 1.07)
    placed = Placed(actor, figure, scale, random.random() < 0.5)
    if place == "water" and not placed.airborne:
        placed.depth = DEPTHS[actor.action if actor.noun in PEOPLE else actor.noun]
    placed.scale *= max(1, LEAST / min(placed.width, placed.visible_height))
    return placed


def line_up(row: Sequence[Placed], ground: float, random: Random) -> list[Placed]:
    """Side by side. Of three, the middle one stands further back, partly behind its neighbours."""
    crowded = len(row) > 2
    shrink = min(1, (1.16 if crowded else 0.95) / sum(placed.width for placed in row))
    for placed in row:
        placed.scale *= shrink
        placed.limit(0.94, 0.84)
    free = 0.98 - sum(placed.width for placed in row)
    gaps = [random.uniform(0.5, 1) if free > 0 else float(0 < number < len(row)) for number in range(len(row) + 1)]
    left = 0.01
    for number, (placed, gap) in enumerate(zip(row, gaps, strict=False)):
        left += free * gap / sum(gaps)
        placed.x = left + placed.width / 2
        left += placed.width
        behind = 0.09 if crowded and number == 1 else 0
        placed.y = max(ground - behind + random.uniform(-0.02, 0.02), 0.03 + placed.top)
    return sorted(row, key=lambda placed: placed.y)


def stack(upper: Placed, lower: Placed, ground: float, random: Random) -> list[Placed]:
    """One figure in the air above the other."""
    upper.limit(0.6, 0.42)
    lower.limit(0.7, 0.5)
    lower.x, lower.y = random.uniform(0.36, 0.64), ground + 0.02
    upper.hang(lower.x + random.uniform(-0.07, 0.07), random.uniform(0.02, 0.05))
    return [lower, upper]


def shelter(guest: Placed, roof: Placed, random: Random) -> list[Placed]:
    """A figure under a tree or an umbrella, beside its trunk or pole."""
    roof.scale = random.uniform(0.86, 0.92) / roof.figure.bounds[3]
    guest.limit(0.5, 0.42)
    side = random.choice((-1, 1))
    roof.x, roof.y = 0.5 - side * random.uniform(0, 0.06), 0.91
    guest.x, guest.y = roof.x + side * (0.05 + guest.width * 0.4), 0.95
    return [roof, guest]


def stand_before(main: Placed, landmark: Placed, random: Random) -> list[Placed]:
    """The landmark stands further back and higher up, visible beside and above the main figure."""
    landmark.scale *= 1.3
    landmark.limit(0.8, 0.72)
    main.limit(0.5, 0.5)
    side = random.choice((-1, 1))
    landmark.x, landmark.y = 0.5 - side * random.uniform(0.06, 0.1), random.uniform(0.76, 0.8)
    main.x, main.y = landmark.x + side * max(0.2, landmark.width / 2 - main.width * 0.2), random.uniform(0.93, 0.96)
    main.x = min(max(main.x, main.width / 2 + 0.01), 0.99 - main.width / 2)
    return [landmark, main]


def hold(main: Placed, thing: Placed, ground: float, random: Random) -> list[Placed]:
    """The main figure holds the handle of an umbrella, or the string of a balloon or kite."""
    pose = {"standing": "holding", "running": "carrying"}[main.actor.action]
    main.figure = figure_of(main.actor.noun, main.actor.colour, pose, random.randrange(64))
    main.limit(0.6, 0.47)
    thing.limit(0.5, 0.38)
    side = -1 if main.flip else 1
    main.x, main.y = 0.5 - side * random.uniform(0.08, 0.16), ground
    thing.hand = main.spot(main.figure.hand)
    away, up = {"umbrella": (-0.02, -0.03), "balloon": (0.01, 0.09), "kite": (0.08, 0.08)}[thing.actor.noun]
    thing.x, thing.y = thing.hand[0] + side * away, thing.hand[1] - up
    return [main, thing]
