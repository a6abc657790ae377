"""Draws people and animals, each in several poses."""

from collections.abc import Iterable, Sequence
from functools import cache

from captioning.data.scenes.figures import CREAM, INK, WOOD, Colour, Figure, Point, arc, shade

SKINS = ((255, 219, 186), (238, 187, 143), (190, 130, 90), (130, 86, 60))
HAIRS = ((64, 42, 34), (38, 33, 38), (150, 94, 50), (222, 178, 96))
STRAW, PINK, SADDLE = (226, 196, 130), (240, 120, 170), (196, 96, 84)
TROUSERS = ((84, 98, 128), (120, 112, 104), (92, 88, 96), (158, 142, 116))

# Offsets of each knee and foot from the hip in leg lengths; of each elbow and hand from the shoulder in arm lengths.
LEGS: dict[str, tuple[Point, ...]] = {
    "standing": ((-0.16, -0.5), (-0.2, -0.95), (0.16, -0.5), (0.2, -0.95)),
    "running": ((-0.22, -0.5), (-0.75, -0.66), (0.5, -0.38), (0.5, -0.95)),
    "carrying": ((-0.22, -0.5), (-0.75, -0.66), (0.5, -0.38), (0.5, -0.95)),
    "jumping": ((-0.5, -0.3), (-0.62, -0.8), (0.5, -0.25), (0.3, -0.72)),
    "sitting": ((0.55, 0.22), (1.0, -0.14), (0.5, 0.1), (1.06, -0.14)),
    "swimming": ((-0.1, -0.5), (-0.2, -0.95), (0.1, -0.5), (0.2, -0.95)),
}
ARMS: dict[str, tuple[Point, ...]] = {
    "standing": ((-0.4, -0.42), (-0.52, -0.95), (0.4, -0.42), (0.52, -0.95)),
    "running": ((-0.55, -0.3), (-0.85, -0.75), (0.4, -0.5), (0.9, -0.3)),
    "jumping": ((-0.6, 0.2), (-0.8, 0.85), (0.6, 0.2), (0.8, 0.85)),
    "sitting": ((-0.4, -0.42), (-0.5, -0.95), (0.4, -0.5), (0.9, -0.7)),
    "waving": ((-0.4, -0.42), (-0.52, -0.95), (0.65, 0.1), (0.8, 0.8)),
    "holding": ((-0.4, -0.42), (-0.52, -0.95), (0.65, -0.2), (1.0, 0.2)),
    "carrying": ((-0.55, -0.3), (-0.85, -0.75), (0.65, -0.2), (1.0, 0.2)),
    "swimming": ((-0.5, -0.2), (-0.7, 0.4), (0.4, 0.5), (0.5, 1.05)),
}


def limbs(hip: Point, length: float, offsets: Iterable[Point]) -> list[Point]:
    return [(hip[0] + x * length, hip[1] + y * length) for x, y in offsets]


@cache
def person(noun: str, colour: Colour, pose: str, variant: int = 0) -> Figure:
    """A man, woman, boy or girl in a shirt or dress of this colour; `variant` picks skin, hair and trousers."""
    figure, grown, dressed = Figure(), noun in ("man", "woman"), noun in ("woman", "girl")
    hairs = HAIRS if variant % 4 < 2 else HAIRS[:2]  # fair hair only with the lighter skins
    skin, hair, cloth = SKINS[variant % 4], hairs[variant // 4 % len(hairs)], TROUSERS[variant // 16 % 4]
    leg, torso, head, arm = (44.0, 32.0, 14.0, 30.0) if grown else (22.0, 25.0, 19.0, 23.0)
    wide = 13.0 if noun == "man" else 11.0
    hip = (0.0, 9.0 if pose == "sitting" else leg)
    neck = (5.0 if pose in ("running", "carrying") else 0.0, hip[1] + torso)
    legs = limbs(hip, leg, LEGS.get(pose, LEGS["standing"]))
    arms = [
        limbs((neck[0] + side * (wide - 3), neck[1] - 5), arm, ARMS[pose])[start : start + 2]
        for side, start in ((-1, 0), (1, 2))
    ]
    figure.hand = arms[1][1]
    draw_legs_of_person(figure, hip, legs, wide, noun, skin, cloth)
    if dressed:
        draw_long_hair(figure, neck, head, hair, noun)
    draw_arm(figure, (neck[0] - wide + 3, neck[1] - 5), arms[0], colour, skin)
    draw_garment(figure, hip, neck, wide, colour, legs if dressed else None, pose)
    draw_head(figure, (neck[0], neck[1] + head * 0.85), head, skin, hair, noun)
    draw_arm(figure, (neck[0] + wide - 3, neck[1] - 5), arms[1], colour, skin)
    if pose == "jumping":
        figure.move(0, 16)
    if pose == "swimming":
        figure.move(-30, 12, tilt=-62)
    return figure


def draw_legs_of_person(
    figure: Figure, hip: Point, legs: Sequence[Point], wide: float, noun: str, skin: Colour, cloth: Colour
) -> None:
    for knee, foot, side in ((legs[0], legs[1], -1), (legs[2], legs[3], 1)):
        start, trousers = (hip[0] + side * wide * 0.45, hip[1]), shade(cloth, -0.12 if side < 0 else 0)
        figure.limb([start, knee, foot], 8.5, trousers if noun == "man" else skin)
        if noun == "boy":
            figure.limb([start, knee], 10.5, trousers)
        figure.limb([foot, (foot[0] + 5, foot[1] - 0.5)], 7, INK)


def draw_long_hair(figure: Figure, neck: Point, head: float, hair: Colour, noun: str) -> None:
    x, y = neck
    figure.ellipse((x, y + head * 0.62), (head * 1.12, head * 1.25), hair)
    if noun == "girl":
        for side in (-1, 1):
            bunch = (x + side * head * 1.28, y + head * 0.55)
            figure.ellipse(bunch, (head * 0.46, head * 0.75), hair, tilt=side * 20)
        return
    corners = ((-1.1, 1), (1.1, 1), (1.15, -0.55), (-1.15, -0.55))
    figure.blob([(x + dx * head, y + dy * head) for dx, dy in corners], hair)


def draw_arm(figure: Figure, shoulder: Point, arm: Sequence[Point], sleeve: Colour, skin: Colour) -> None:
    figure.limb([shoulder, *arm], 7, skin)
    figure.limb([shoulder, arm[0]], 9.5, shade(sleeve, -0.1))


def draw_garment(
    figure: Figure, hip: Point, neck: Point, wide: float, colour: Colour, legs: Sequence[Point] | None, pose: str
) -> None:
    top, bottom = neck[1] + 1, hip[1] - 3
    outline = [
        (neck[0] - wide, top - 4),
        (neck[0] - wide * 0.6, top),
        (neck[0] + wide * 0.6, top),
        (neck[0] + wide, top - 4),
    ]
    if legs is None:
        outline += [(hip[0] + wide * 0.95, bottom), (hip[0] - wide * 0.95, bottom)]
    elif pose == "sitting":
        outline += [
            (hip[0] + wide, hip[1] + 9),
            legs[0],
            (legs[0][0] + 4, hip[1] - 6),
            (hip[0] - wide * 1.1, hip[1] - 7),
        ]
    else:
        hem = hip[1] * 0.5
        outline += [(wide * 0.8, hip[1] + 6), (wide * 1.75, hem), (-wide * 1.75, hem), (-wide * 0.8, hip[1] + 6)]
    figure.polygon(outline, colour)
    if legs is not None and pose != "sitting":
        figure.polygon(
            [(-wide * 1.75, hem), (wide * 1.75, hem), (wide * 1.65, hem + 4), (-wide * 1.65, hem + 4)],
            shade(colour, -0.14),
        )


def draw_head(figure: Figure, centre: Point, radius: float, skin: Colour, hair: Colour, noun: str) -> None:
    x, y = centre
    figure.ellipse(centre, (radius * 0.95, radius), skin)
    if noun == "man":
        figure.polygon(
            [
                *arc(centre, (radius * 0.96, radius * 1.02), 190, 350),
                (x + radius * 0.4, y - radius * 0.15),
                (x - radius * 0.4, y - radius * 0.15),
            ],
            hair,
        )
    fringe = [(x - radius * 0.5, y + radius * 0.32), (x + radius * 0.2, y + radius * 0.6)]
    figure.polygon([*arc(centre, (radius * 1.04, radius * 1.1), 8, 172), *fringe], hair)
    for side in (-0.3, 0.42):
        figure.ellipse((x + side * radius, y + radius * 0.05), (radius * 0.11, radius * 0.15), INK)
    mouth = (x + radius * 0.06, y - radius * 0.36)
    figure.polygon(arc(mouth, (radius * 0.3, radius * 0.26), 180, 360), (196, 70, 70))
    if noun == "boy":
        figure.polygon([(x - radius * 0.3, y + radius), (x, y + radius * 1.35), (x + radius * 0.35, y + radius)], hair)
    if noun == "girl":
        for side in (-1, 1):
            draw_bow(figure, (x + side * radius * 1.02, y + radius * 0.42), radius * 0.34)
    if noun == "man":
        draw_hat(figure, (x, y + radius * 0.5), radius)


def draw_hat(figure: Figure, middle: Point, radius: float) -> None:
    x, y = middle
    figure.panel(x - radius * 0.8, y - radius * 0.2, x + radius * 0.8, y + radius * 0.95, STRAW, radius=radius * 0.3)
    figure.bar(x - radius * 0.84, y + radius * 0.05, x + radius * 0.84, y + radius * 0.32, WOOD)
    figure.ellipse((x, y), (radius * 1.6, radius * 0.22), STRAW)


def draw_bow(figure: Figure, knot: Point, size: float) -> None:
    x, y = knot
    for side in (-1, 1):
        figure.polygon([(x, y), (x + side * size, y + size * 0.8), (x + side * size, y - size * 0.8)], PINK)
    figure.ellipse(knot, (size * 0.35, size * 0.35), shade(PINK, -0.2))


def draw_legs(figure: Figure, hips: Sequence[float], top: float, width: float, colour: Colour, pose: str) -> None:
    for number, x in enumerate(hips):
        tone = shade(colour, -0.22 if number % 2 == 0 else -0.06)
        way = (-1 if number < 2 else 1) * (1 if number % 2 == 0 else 0.8)
        if pose in ("running", "jumping"):
            figure.limb([(x, top), (x + way * top * 0.45, top * 0.5), (x + way * top * 0.9, top * 0.2)], width, tone)
        else:
            figure.limb([(x, top), (x, width / 2)], width, tone)


def draw_eye(figure: Figure, centre: Point, radius: float = 2.4, *, light: bool = False) -> None:
    figure.ellipse(centre, (radius * 1.5, radius * 1.5), CREAM if light else shade(CREAM, -0.02))
    figure.ellipse((centre[0] + radius * 0.3, centre[1]), (radius, radius), INK)


@cache
def dog(colour: Colour, pose: str) -> Figure:
    figure, dark = Figure(), shade(colour, -0.3)
    if pose == "sitting":
        figure.limb([(-26, 8), (-44, 10), (-52, 22)], 7, dark)
        figure.limb([(8, 44), (12, 4)], 9, dark)
        figure.blob([(-34, 6), (-34, 26), (-14, 48), (6, 66), (22, 58), (20, 30), (10, 6), (-10, 0)], colour)
        figure.ellipse((-16, 14), (19, 14), shade(colour, -0.1))
        figure.limb([(16, 44), (19, 4)], 9, colour)
        figure.limb([(-16, 4), (0, 4)], 8, shade(colour, -0.1))
        x, y = 20.0, 74.0
    else:
        figure.limb([(-36, 42), (-50, 54), (-54, 68)], 7, dark)
        draw_legs(figure, (-32, -24, 18, 26), 34, 9.5, colour, pose)
        figure.blob([(-42, 40), (-30, 53), (0, 51), (24, 56), (34, 44), (24, 28), (0, 28), (-30, 26)], colour)
        figure.blob([(18, 52), (30, 68), (46, 60), (34, 38)], colour)
        x, y = 40.0, 68.0
    figure.limb([(x - 6, y - 13), (x + 4, y - 15)], 6, (214, 60, 60))
    figure.ellipse((x, y), (16, 14), colour)
    figure.limb([(x + 8, y - 4), (x + 22, y - 6)], 13, shade(colour, 0.22))
    figure.ellipse((x + 28, y - 2), (4, 3.4), INK)
    figure.blob([(x - 10, y + 12), (x - 2, y + 8), (x - 4, y - 14), (x - 14, y - 16), (x - 18, y - 2)], dark)
    draw_eye(figure, (x + 7, y + 4))
    figure.ellipse((x + 19, y - 14), (3, 5), (236, 112, 122))
    if pose == "jumping":
        figure.move(0, 24, tilt=16)
    return figure


@cache
def horse(colour: Colour, pose: str) -> Figure:
    figure, mane = Figure(), shade(colour, -0.45) if sum(colour) > 200 else (110, 104, 110)
    figure.blob([(-42, 70), (-56, 62), (-60, 34), (-52, 28), (-48, 46), (-38, 60)], mane)
    draw_legs(figure, (-36, -28, 20, 28), 48, 9.5, colour, pose)
    figure.blob([(-46, 60), (-36, 74), (0, 68), (26, 76), (38, 62), (28, 44), (0, 42), (-36, 42)], colour)
    figure.polygon([(-20, 72), (-2, 69), (14, 72), (12, 52), (-18, 52)], SADDLE)
    figure.limb([(-22, 75), (-12, 71), (4, 71), (12, 77)], 6, WOOD)
    figure.limb([(-3, 54), (-3, 42)], 3, WOOD)
    figure.blob([(14, 68), (32, 98), (44, 108), (52, 96), (42, 62), (32, 50)], colour)
    figure.blob([(36, 108), (48, 112), (76, 90), (76, 80), (66, 78), (48, 90), (40, 94)], colour)
    figure.ellipse((72, 84), (7, 6.5), shade(colour, 0.3))
    figure.polygon([(40, 108), (41, 121), (49, 110)], colour)
    figure.blob([(14, 72), (24, 98), (38, 114), (46, 112), (36, 94), (28, 74)], mane)
    draw_eye(figure, (53, 100))
    figure.ellipse((75, 86), (1.8, 1.8), INK)
    return figure


@cache
def bird(colour: Colour, pose: str) -> Figure:
    figure, wing = Figure(), shade(colour, -0.24)
    if pose == "flying":
        figure.blob([(6, 30), (20, 62), (36, 74), (34, 50), (24, 28)], shade(colour, -0.36))
        figure.polygon([(-26, 24), (-58, 32), (-50, 20), (-58, 10)], wing)
        figure.blob([(-34, 22), (-6, 34), (24, 34), (32, 22), (16, 10), (-12, 10)], colour)
        figure.blob([(-16, 28), (-30, 58), (-28, 80), (-4, 64), (14, 30)], wing)
        x, y = 30.0, 32.0
    else:
        for foot in (-4, 6):
            figure.limb([(foot, 24), (foot + 2, 3), (foot + 9, 3)], 3, (226, 142, 50))
        figure.polygon([(-22, 36), (-50, 30), (-48, 16), (-18, 22)], wing)
        figure.blob([(-30, 32), (-10, 50), (16, 58), (30, 44), (22, 24), (0, 16)], colour)
        figure.blob([(-34, 28), (-12, 44), (8, 42), (2, 26), (-16, 22)], wing)
        x, y = 20.0, 58.0
    figure.polygon([(x + 10, y + 6), (x + 28, y - 1), (x + 10, y - 6)], (244, 168, 50))
    figure.ellipse((x, y), (15, 14), colour)
    draw_eye(figure, (x + 5, y + 3), 2.8)
    return figure
