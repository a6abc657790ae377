"""Lays out images and text as blocks on a white page.

ASCII text is set in Pillow's own font, other text in an installed font that has its characters.
"""

import functools
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

WHITE, INK, GREY, PALE, TRACK, ACCENT = "#ffffff", "#1c1c22", "#6e6e76", "#9c9ca4", "#e6e6ea", "#9c179e"
LEADING = 1.35  # distance of lines, in font sizes
SMALLEST = 13  # pixels of the smallest legible font
MARGIN = 20  # pixels around a page
STEPS = 63  # levels of a channel of a PNG, less one
DOTS = 10  # amplitude of the dither in a GIF, of 255

Block = Image.Image
Font = ImageFont.FreeTypeFont
Coloured = tuple[str, str]  # a word and its colour; a word in ACCENT is underlined too


def font_for(text: str, size: float) -> Font:
    """A font of this size in pixels that has the characters of the text."""
    if text.isascii():
        plain = ImageFont.load_default(size)
        assert isinstance(plain, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return plain
    return ImageFont.truetype(_installed(frozenset(text)), size)


@functools.lru_cache(maxsize=256)
def _installed(letters: frozenset[str]) -> str:
    from matplotlib.font_manager import fontManager

    def rank(entry: "FontEntry") -> tuple[bool, bool, bool, str]:
        return entry.name != "DejaVu Sans", "Sans" not in entry.name, entry.weight != 400, entry.fname

    upright = [entry for entry in fontManager.ttflist if entry.style == "normal" and "Last Resort" not in entry.name]
    files = [entry.fname for entry in sorted(upright, key=rank) if os.path.exists(entry.fname)]
    complete = next((file for file in files if not _lacking(file, letters)), None)
    best = complete or min(files, key=lambda file: _lacking(file, letters))
    return best if 2 * _lacking(best, letters) < len(letters) else files[0]


def _lacking(file: str, letters: frozenset[str]) -> int:
    from matplotlib.ft2font import FT2Font

    font = FT2Font(file)
    return sum(not font.get_char_index(ord(letter)) for letter in letters if letter.isprintable())


def words_of(text: str, colour: str = INK) -> list[Coloured]:
    """The words of a text, all in one colour."""
    return [(word, colour) for word in text.split()]


def paragraph(words: Sequence[Coloured], font: Font, *, width: int, lines: int = 1000) -> Block:
    """Words wrapped to this width in pixels. Text beyond `lines` lines is cut with an ellipsis."""
    placed = _placed(words, font, width)
    shown = [place for place in placed if place[1] < lines]
    rows = 1 + max((line for _, line, *_ in shown), default=0)
    block = Image.new("RGB", (width, round(LEADING * font.size * rows)), WHITE)
    draw = ImageDraw.Draw(block)
    for number, (left, line, text, colour) in enumerate(shown, start=1):
        base = round(LEADING * font.size * line + font.size)
        cut = "…" if number == len(shown) < len(placed) else ""
        draw.text((left, base), shortened(text + cut, font, width - left), colour, font, anchor="ls")
        if colour == ACCENT:
            under = base + round(font.size / 5)
            draw.line((left, under, left + font.getlength(text), under), colour, 2)
    return block


def _placed(words: Sequence[Coloured], font: Font, width: int) -> list[tuple[float, int, str, str]]:
    placed, left, line = [], 0.0, 0
    for word, colour in words:
        for piece in _pieces(word, font, width):
            length = font.getlength(piece)
            if left and left + length > width:
                left, line = 0.0, line + 1
            placed.append((left, line, piece, colour))
            left += length + font.getlength(" ")
    return placed


def _pieces(word: str, font: Font, width: int) -> list[str]:
    """The word, cut into pieces if it is wider than a line."""
    if font.getlength(word) <= width:
        return [word]
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def shortened(text: str, font: Font, width: float) -> str:
    """The text, cut to this width with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def grid(blocks: Sequence[Block], columns: int, *, gap: tuple[int, int] = (0, 0)) -> Block:
    """Blocks in rows, aligned at the top left; `gap` is the pixels between columns and between rows."""
    widths = [max(block.width for block in blocks[column::columns]) for column in range(min(columns, len(blocks)))]
    rows = [blocks[first : first + columns] for first in range(0, len(blocks), columns)]
    heights = [max(block.height for block in row) for row in rows]
    size = (_length(widths, gap[0]), _length(heights, gap[1]))
    page = Image.new("RGB", size, WHITE)
    for number, block in enumerate(blocks):
        row, column = divmod(number, columns)
        page.paste(block, (sum(widths[:column]) + gap[0] * column, sum(heights[:row]) + gap[1] * row))
    return page


def _length(parts: Sequence[int], gap: int) -> int:
    return sum(parts) + gap * max(0, len(parts) - 1)


def bar(share: float, font: Font, *, width: int) -> Block:
    """A bar as high as a line of text, filled to this share, 0 to 1."""
    block = paragraph([], font, width=width)
    top, bottom = round(0.52 * font.size), round(0.76 * font.size)
    block.paste(TRACK, (0, top, width, bottom))
    block.paste(ACCENT, (0, top, round(width * min(max(share, 0), 1)), bottom))
    return block


def scaled(image: np.ndarray, width: float, height: float) -> Block:
    """An image, uint8 (H, W, 3), scaled to fit into this width and height."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = [max(1, round(scale * side)) for side in (image.shape[1], image.shape[0])]
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)


def framed(block: Block) -> Block:
    """A block with a white margin."""
    page = Image.new("RGB", (block.width + 2 * MARGIN, block.height + 2 * MARGIN), WHITE)
    page.paste(block, (MARGIN, MARGIN))
    return page


def png(page: Block) -> bytes:
    """A page as PNG bytes with 64 levels per channel, which halves the file without a visible difference."""
    steps = np.rint(np.asarray(page) / 255 * STEPS)
    written = io.BytesIO()
    Image.fromarray(np.rint(steps / STEPS * 255).astype("uint8")).save(written, "png")
    return written.getvalue()


def gif(frames: Sequence[Block], durations: Sequence[int]) -> bytes:
    """Frames as the bytes of an endless GIF; durations in milliseconds.

    All frames share one palette, a quarter of it for the first frame, and one dither pattern. So nothing flickers.
    """
    first, rest = frames[0], grid(frames[1:] or frames[:1], 1)
    parts = [first.quantize(64, Image.Quantize.FASTOCTREE), rest.quantize(190, Image.Quantize.FASTOCTREE)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 255, 255, *(value for part in parts for value in part.getpalette() or ())])
    down, across = np.indices((first.height, first.width))
    noise = 52.9829189 * ((0.06711056 * across + 0.00583715 * down) % 1)  # interleaved gradient noise
    drawn = [_in_colours(frame, palette, DOTS * (noise % 1 - 0.5)[..., None]) for frame in frames]
    written = io.BytesIO()
    drawn[0].save(written, "gif", save_all=True, append_images=drawn[1:], duration=list(durations), loop=0)
    return written.getvalue()


def _in_colours(frame: Block, palette: Block, dither: np.ndarray) -> Block:
    pixels = np.asarray(frame)
    dithered = Image.fromarray(np.clip(np.rint(pixels + dither), 0, 255).astype("uint8"))
    drawn = dithered.quantize(palette=palette, dither=Image.Dither.NONE)
    drawn.paste(0, mask=Image.fromarray((pixels == 255).all(axis=-1)))  # white, the first colour, stays white
    return drawn
