"""Draws things, from balls to houses, each in one colour."""

import math
from functools import cache

from captioning.data.scenes.figures import CREAM, GLASS, INK, WOOD, Colour, Figure, arc, shade


@cache
def ball(colour: Colour) -> Figure:
    figure = Figure()
    figure.ellipse((0, 50), (50, 50), colour)
    figure.polygon(arc((0, 50), (50, 50), 200, 340) + arc((-6, 60), (46, 44), 330, 205), shade(colour, -0.2))
    figure.polygon(
        arc((0, 50), (50, 10), 180, 360, tilt=-14) + arc((0, 50), (50, 22), 360, 180, tilt=-14), shade(colour, 0.75)
    )
    figure.ellipse((-18, 72), (11, 7), shade(colour, 0.55), tilt=35)
    return figure


@cache
def balloon(colour: Colour) -> Figure:
    figure = Figure()
    figure.limb([(0, 2), (3, 14), (-2, 24), (0, 34)], 2.4, (120, 116, 120))
    figure.polygon([(-7, 28), (7, 28), (0, 40)], shade(colour, -0.25))
    figure.blob([(0, 32), (-22, 48), (-35, 74), (-28, 102), (0, 116), (28, 102), (35, 74), (22, 48)], colour)
    figure.ellipse((-14, 92), (6, 12), shade(colour, 0.55), tilt=-25)
    return figure


@cache
def kite(colour: Colour) -> Figure:
    figure = Figure()
    figure.limb([(0, 40), (8, 28), (-2, 16), (6, 3)], 2.4, (110, 104, 110))
    for x, y in ((7, 28), (-1, 15), (5, 4)):
        for side in (-1, 1):
            figure.polygon([(x, y), (x + side * 10, y + 6), (x + side * 10, y - 5)], shade(colour, -0.2))
    figure.polygon([(0, 38), (-38, 84), (0, 120), (38, 84)], colour)
    figure.polygon([(0, 38), (38, 84), (0, 84)], shade(colour, -0.22))
    figure.polygon([(0, 120), (-38, 84), (0, 84)], shade(colour, 0.25))
    figure.limb([(0, 38), (0, 120)], 2.4, CREAM)
    figure.limb([(-38, 84), (38, 84)], 2.4, CREAM)
    return figure


@cache
def umbrella(colour: Colour) -> Figure:
    figure = Figure()
    figure.limb([(0, 4), (0, 118)], 4, WOOD)
    dome = arc((0, 78), (58, 42), 0, 180)
    scallops = [point for x in (-43.5, -14.5, 14.5, 43.5) for point in arc((x, 78), (14.5, 7), 180, 0)]
    figure.polygon(dome + scallops, colour)
    figure.polygon(
        [(0, 120), (-29, 78), *arc((-43.5, 78), (14.5, 7), 0, 180), *arc((0, 78), (58, 42), 180, 90)],
        shade(colour, -0.2),
    )
    figure.polygon([*arc((0, 78), (29, 42), 0, 90), *arc((14.5, 78), (14.5, 7), 180, 0)], shade(colour, 0.22))
    return figure


def draw_wheel(figure: Figure, x: float, radius: float) -> None:
    figure.ellipse((x, radius), (radius, radius), INK)
    figure.ellipse((x, radius), (radius * 0.5, radius * 0.5), (206, 208, 212))


@cache
def car(colour: Colour) -> Figure:
    figure = Figure()
    figure.blob([(-34, 34), (-24, 60), (-4, 64), (18, 60), (34, 36)], colour)
    figure.polygon([(-25, 38), (-18, 56), (-2, 58), (-2, 38)], GLASS)
    figure.polygon([(3, 38), (3, 58), (16, 55), (26, 38)], GLASS)
    figure.panel(-62, 10, 62, 40, colour, radius=11)
    figure.bar(-60, 14, 60, 19, shade(colour, -0.25))
    figure.ellipse((57, 30), (4.5, 5), (255, 240, 170))
    figure.ellipse((-59, 30), (3, 5), (200, 50, 50))
    for x in (-34, 34):
        draw_wheel(figure, x, 14)
    return figure


@cache
def boat(colour: Colour) -> Figure:
    figure = Figure()
    figure.limb([(0, 20), (0, 114)], 4, WOOD)
    figure.polygon([(4, 110), (4, 38), (46, 38), (34, 66)], CREAM)
    figure.polygon([(-4, 100), (-4, 38), (-34, 38)], shade(CREAM, -0.1))
    figure.polygon([(4, 82), (4, 66), (34, 66), (23, 82)], colour)
    figure.polygon([(0, 116), (-18, 111), (0, 105)], colour)
    figure.polygon([(-58, 34), (60, 34), (42, 0), (-40, 0)], colour)
    figure.polygon([(-58, 34), (60, 34), (57, 28), (-55, 28)], shade(colour, 0.6))
    figure.polygon([(-45, 10), (47, 10), (42, 0), (-40, 0)], shade(colour, -0.25))
    return figure


@cache
def bicycle(colour: Colour) -> Figure:
    figure, seat, crank, head = Figure(), (-14.0, 62.0), (-4.0, 26.0), (30.0, 60.0)
    for x in (-40, 42):
        figure.ring((x, 27), 27, 5, INK)
        figure.ellipse((x, 27), (4, 4), (150, 150, 156))
    figure.limb([(-40, 27), crank, head, seat, crank], 7, colour)
    figure.limb([seat, (-40, 27)], 6, colour)
    figure.limb([(42, 27), head, (27, 72)], 7, colour)
    figure.limb([(18, 78), (27, 74), (36, 78)], 5, INK)
    figure.limb([(-24, 66), (-6, 67)], 8, INK)
    figure.ellipse(crank, (7, 7), (120, 120, 126))
    figure.limb([crank, (2, 14), (8, 14)], 4, INK)
    return figure


@cache
def house(colour: Colour) -> Figure:
    figure, roof = Figure(), (118, 84, 76) if sum(colour) > 200 else (170, 150, 140)
    figure.bar(24, 70, 38, 112, (160, 116, 100))
    figure.bar(-46, 0, 46, 64, colour)
    figure.bar(-46, 0, 46, 6, shade(colour, -0.25))
    figure.polygon([(-58, 60), (0, 108), (58, 60)], roof)
    figure.ellipse((0, 78), (8, 8), GLASS)
    figure.panel(-10, 0, 12, 40, WOOD, radius=4)
    figure.ellipse((7, 19), (1.8, 1.8), (240, 210, 110))
    for x in (-38, 20):
        figure.bar(x, 24, x + 19, 46, CREAM)
        figure.bar(x + 2.5, 26.5, x + 16.5, 43.5, GLASS)
        figure.bar(x + 8.5, 24, x + 10.5, 46, CREAM)
    return figure


@cache
def tree(colour: Colour) -> Figure:
    figure = Figure()
    figure.polygon([(-9, 0), (9, 0), (5, 60), (-5, 60)], WOOD)
    figure.limb([(0, 34), (16, 56)], 5, WOOD)
    for tone, shift in ((shade(colour, -0.22), -3.0), (colour, 0.0)):
        for x, y, radius in ((-24, 64, 21), (24, 64, 21), (-14, 90, 23), (16, 88, 23), (0, 106, 19), (0, 72, 25)):
            figure.ellipse((x + shift, y + shift * 1.4), (radius, radius), tone)
    for x, y in ((-20, 82), (10, 104), (22, 72), (-4, 66)):
        figure.ellipse((x, y), (6, 5), shade(colour, 0.25))
    return figure


@cache
def flower(colour: Colour) -> Figure:
    figure, leaf = Figure(), (96, 152, 84)
    figure.limb([(0, 2), (2, 30), (0, 66)], 6, leaf)
    figure.blob([(0, 10), (-28, 24), (-34, 42), (-12, 36)], leaf)
    figure.blob([(2, 10), (28, 20), (34, 38), (12, 32)], shade(leaf, -0.15))
    for number in range(7):
        angle = 360 * number / 7 + 12
        x, y = 24 * math.cos(math.radians(angle)), 86 + 24 * math.sin(math.radians(angle))
        figure.ellipse((x, y), (18, 12), colour if number % 2 else shade(colour, -0.12), tilt=angle)
    figure.ellipse((0, 86), (13, 13), (250, 220, 120) if colour[2] > 60 or colour[1] < 150 else (150, 92, 50))
    return figure
