"""Paints the backdrop of a drawn scene.

Sizes are shares of the image's side. Backdrops are pale, so that the saturated objects stand out.
"""

from random import Random

import numpy as np
from PIL import Image, ImageDraw

from captioning.data.scenes.figures import Colour, arc, shade, smooth

PLACES = ("grass", "beach", "snow", "street", "water", "room")
HORIZONS = {
    "grass": (0.46, 0.6),
    "beach": (0.5, 0.62),
    "snow": (0.5, 0.62),
    "street": (0.62, 0.7),
    "water": (0.4, 0.52),
    "room": (0.62, 0.7),
}
SKIES = (
    ((150, 204, 240), (226, 242, 250)),
    ((176, 214, 236), (250, 236, 222)),
    ((134, 190, 232), (210, 234, 248)),
    ((190, 206, 236), (248, 226, 226)),
)
GROUNDS = {
    "grass": ((178, 216, 140), (138, 190, 106)),
    "beach": ((246, 226, 178), (232, 204, 148)),
    "snow": ((236, 242, 250), (206, 220, 238)),
    "street": ((168, 168, 178), (140, 140, 152)),
    "water": ((136, 206, 222), (70, 150, 192)),
    "room": ((212, 174, 132), (188, 146, 106)),
}
WALLS = ((236, 222, 204), (214, 226, 222), (232, 214, 214), (220, 218, 234))


class Brush:
    """Draws shapes whose coordinates are shares of the image's side."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.side = image, image.width
        self.draw = ImageDraw.Draw(image, "RGBA")

    def gradient(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        start, stop = round(top * self.side), round(bottom * self.side)
        column = np.linspace(first, last, stop - start).round().astype(np.uint8)[:, None]
        self.image.paste(Image.fromarray(column).resize((self.side, stop - start)), (0, start))

    def polygon(self, points: list[tuple[float, float]], colour: Colour, alpha: int = 255) -> None:
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=(*colour, alpha))

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], colour: Colour, alpha: int = 255
    ) -> None:
        (x, y), (across, down) = centre, radii
        box = [(x - across) * self.side, (y - down) * self.side, (x + across) * self.side, (y + down) * self.side]
        self.draw.ellipse(box, fill=(*colour, alpha))

    def bar(self, left: float, top: float, right: float, bottom: float, colour: Colour, alpha: int = 255) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, alpha)


def paint_backdrop(image: Image.Image, place: str, random: Random) -> None:
    """Paints one of `PLACES` over the whole image, varied by `random`."""
    brush, horizon = Brush(image), random.uniform(*HORIZONS[place])
    tint = random.uniform(-0.05, 0.08)
    if place != "room":
        paint_sky(brush, horizon, random)
    first, last = GROUNDS[place]
    brush.gradient(horizon, 1, shade(first, tint), shade(last, tint))
    {
        "grass": paint_grass,
        "beach": paint_beach,
        "snow": paint_snow,
        "street": paint_street,
        "water": paint_water,
        "room": paint_room,
    }[place](brush, horizon, random)


def paint_sky(brush: Brush, horizon: float, random: Random) -> None:
    brush.gradient(0, horizon, *random.choice(SKIES))
    if random.random() < 0.5:
        centre = (random.uniform(0.08, 0.92), random.uniform(0.08, 0.2))
        brush.ellipse(centre, (0.1, 0.1), (255, 246, 214), 110)
        brush.ellipse(centre, (0.065, 0.065), (255, 240, 190))
    for _ in range(random.randint(0, 3)):
        x, y, size = random.uniform(0, 1), random.uniform(0.05, horizon * 0.6), random.uniform(0.04, 0.07)
        for dx, dy, grow in ((-1.2, 0.2, 0.7), (0, 0, 1), (1.2, 0.25, 0.65), (0.4, 0.4, 0.8), (-0.6, 0.4, 0.8)):
            brush.ellipse((x + dx * size, y + dy * size), (size * grow * 1.2, size * grow * 0.72), (255, 255, 255), 150)


def paint_hills(brush: Brush, horizon: float, random: Random, colours: tuple[Colour, ...]) -> None:
    for number, colour in enumerate(colours):
        tall = 0.13 - 0.05 * number
        ridge = [(-0.2 + 0.28 * step, horizon - random.uniform(0.15, 1) * tall) for step in range(6)]
        brush.polygon(smooth([(-0.3, horizon + 0.04), *ridge, (1.3, horizon + 0.04)]), colour)


def paint_grass(brush: Brush, horizon: float, random: Random) -> None:
    paint_hills(brush, horizon, random, ((184, 214, 186), (166, 206, 146)))
    for _ in range(26):
        x, y = random.uniform(0, 1), random.uniform(horizon + 0.05, 1)
        size = 0.012 + 0.02 * (y - horizon)
        for lean in (-0.6, 0, 0.6):
            brush.polygon(
                [(x - size / 4, y), (x + size / 4, y), (x + lean * size, y - size * 1.4)], (112, 168, 92), 150
            )
    for _ in range(random.randint(0, 9)):
        x, y = random.uniform(0, 1), random.uniform(horizon + 0.06, 1)
        brush.ellipse((x, y), (0.007, 0.006), random.choice(((255, 250, 240), (250, 232, 160), (246, 206, 216))))


def paint_beach(brush: Brush, horizon: float, random: Random) -> None:
    sea = horizon - random.uniform(0.1, 0.17)
    brush.gradient(sea, horizon, (112, 186, 210), (164, 222, 224))
    wave = [(step / 8, horizon + random.uniform(-0.012, 0.016)) for step in range(-1, 10)]
    brush.polygon([*wave, (1.2, sea + 0.05), (-0.2, sea + 0.05)], (164, 222, 224), 160)
    for low, tone in ((0.016, (255, 255, 255)), (0.0, (164, 222, 224))):
        brush.polygon(
            smooth([*((x, y + low) for x, y in wave), (1.3, horizon - 0.03), (-0.3, horizon - 0.03)]), tone, 230
        )
    for _ in range(26):
        brush.ellipse((random.uniform(0, 1), random.uniform(horizon + 0.05, 1)), (0.006, 0.004), (206, 174, 122), 170)


def paint_snow(brush: Brush, horizon: float, random: Random) -> None:
    brush.bar(0, 0, 1, horizon, (206, 214, 232), 150)
    paint_hills(brush, horizon, random, ((214, 222, 236), (228, 236, 246)))
    for _ in range(random.randint(2, 6)):
        x, size = random.uniform(0, 1), random.uniform(0.06, 0.11)
        for tier in range(3):
            y = horizon + 0.02 - tier * size * 0.5
            wide = size * (0.55 - 0.13 * tier)
            brush.polygon([(x - wide, y), (x + wide, y), (x, y - size)], (150, 178, 184))
    for _ in range(60):
        size = random.uniform(0.004, 0.009)
        brush.ellipse((random.uniform(0, 1), random.uniform(0, 1)), (size, size), (255, 255, 255), 235)


def paint_street(brush: Brush, horizon: float, random: Random) -> None:
    left = -random.uniform(0, 0.15)
    while left < 1:
        right, top = left + random.uniform(0.16, 0.28), horizon - random.uniform(0.26, 0.44)
        wall = random.choice(((224, 212, 204), (206, 214, 222), (226, 220, 196), (216, 204, 216)))
        brush.bar(left, top, right, horizon - 0.02, wall)
        brush.bar(left, top, right, top + 0.018, shade(wall, -0.14))
        for column in range(2):
            for row in range(4):
                x, y = left + (right - left) * (0.2 + 0.4 * column), top + 0.05 + 0.095 * row
                if y < horizon - 0.1:
                    brush.bar(x, y, x + (right - left) * 0.2, y + 0.055, shade(wall, -0.17))
        left = right
    brush.bar(0, horizon - 0.02, 1, horizon + 0.045, (206, 204, 204))
    brush.bar(0, horizon + 0.04, 1, horizon + 0.052, (182, 180, 182))
    middle, start = random.uniform(0.83, 0.9), random.uniform(-0.25, 0)
    for number in range(5):
        x = start + 0.3 * number
        brush.polygon(
            [(x + 0.012, middle), (x + 0.172, middle), (x + 0.16, middle + 0.022), (x, middle + 0.022)], (236, 232, 220)
        )


def paint_water(brush: Brush, horizon: float, random: Random) -> None:
    paint_hills(brush, horizon - 0.03, random, ((178, 206, 206),))
    brush.gradient(horizon, 1, *GROUNDS["water"])
    for _ in range(22):
        y = random.uniform(horizon + 0.02, 0.99)
        x, wide = random.uniform(-0.05, 1), 0.03 + 0.1 * (y - horizon)
        crest = arc((x, y), (wide, wide * 0.28), 200, 340) + arc((x, y), (wide, wide * 0.12), 340, 200)
        brush.polygon(crest, (236, 250, 252), 120)


def paint_room(brush: Brush, horizon: float, random: Random) -> None:
    wall = random.choice(WALLS)
    brush.gradient(0, horizon, wall, shade(wall, -0.06))
    if random.random() < 0.5:
        for number in range(7):
            brush.bar(number / 7 + 0.03, 0, number / 7 + 0.09, horizon, shade(wall, 0.28), 120)
    left = random.random() < 0.5
    paint_window(brush, random.uniform(0.05, 0.14) if left else random.uniform(0.56, 0.65))
    paint_picture(brush, random.uniform(0.62, 0.76) if left else random.uniform(0.1, 0.22), random)
    brush.bar(0, horizon - 0.03, 1, horizon, (250, 246, 238))
    for row in range(1, 5):
        y = horizon + (1 - horizon) * (row / 5) ** 1.2
        brush.bar(0, y, 1, y + 0.004, (166, 126, 90), 130)
    rug = random.choice(((222, 206, 196), (196, 206, 212), (214, 198, 210)))
    brush.ellipse((random.uniform(0.35, 0.65), 0.89), (0.42, 0.1), rug)
    brush.ellipse((random.uniform(0.45, 0.55), 0.89), (0.3, 0.065), shade(rug, 0.3))


def paint_window(brush: Brush, x: float) -> None:
    brush.bar(x - 0.015, 0.085, x + 0.295, 0.415, (252, 248, 240))
    brush.bar(x, 0.1, x + 0.28, 0.4, (198, 226, 240))
    for dx, dy, size in ((0.08, 0.2, 0.03), (0.11, 0.21, 0.035), (0.2, 0.3, 0.03), (0.23, 0.305, 0.025)):
        brush.ellipse((x + dx, dy), (size, size * 0.6), (255, 255, 255), 190)
    brush.bar(x + 0.133, 0.1, x + 0.147, 0.4, (252, 248, 240))
    brush.bar(x, 0.243, x + 0.28, 0.257, (252, 248, 240))
    brush.bar(x - 0.03, 0.405, x + 0.31, 0.425, (244, 238, 228))


def paint_picture(brush: Brush, x: float, random: Random) -> None:
    y, tone = random.uniform(0.13, 0.2), random.choice(((222, 206, 178), (190, 206, 210), (214, 190, 190)))
    brush.bar(x, y, x + 0.17, y + 0.14, (190, 164, 140))
    brush.bar(x + 0.012, y + 0.012, x + 0.158, y + 0.128, (248, 244, 236))
    brush.polygon(
        [
            (x + 0.012, y + 0.128),
            (x + 0.06, y + 0.05),
            (x + 0.1, y + 0.1),
            (x + 0.125, y + 0.07),
            (x + 0.158, y + 0.128),
        ],
        tone,
    )
