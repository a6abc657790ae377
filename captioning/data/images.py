"""The one picture loader: whatever a person sends -> RGB pixels, the same for training, app, server and command line.

Anything else is refused with an ImageError that carries a reason code. No file takes more time or memory than its
pixels need: what Pillow is given of it, image_blocks and image_containers decide.
"""

import io
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from captioning.data.image_blocks import MAX_FILE, MAX_PIXELS, damaged, too_many_bytes, too_many_pixels, unsupported
from captioning.data.image_containers import LIMITS, open_blocks
from captioning.errors import ImageError

MIN_SIDE = 8
MAX_ASPECT_RATIO = 20
STRIP = 1_000_000  # pixels converted at a time, so that a huge picture is in the memory once
LARGEST_READ = 1 << 25  # bytes that Pillow hands to its decoder at a time; of less it copies a long file many times

TOO_MUCH = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
# all that Pillow raised for pictures with altered bytes
DAMAGE = (
    AssertionError,
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
)
TURNED, REVERSED = (5, 6, 7, 8), (3, 4, 7, 8)  # orientations whose rows were columns; whose first row was the last
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Between 90 and 179 megapixels Pillow prints this; here a picture of 50 is refused in a sentence
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Source = str | os.PathLike[str] | BinaryIO | Image.Image | np.ndarray


def read_image(source: Source, *, size: int | None = None, longest: int | None = None) -> np.ndarray:
    """Return the picture upright, on white, as RGB: uint8 (height, width, 3), squashed to (size, size, 3) on request.

    `source` is a path, an open binary file, a Pillow image, or an array, uint8 or float 0..1, of (H, W), (H, W, 3)
    or (H, W, 4). An animation gives its first frame. `longest` bounds the longer side instead and keeps the shape.
    Raises ImageError with one of the reasons empty, not_an_image, unsupported_format, truncated, too_large,
    extreme_shape, missing, unreadable.
    """
    if isinstance(source, np.ndarray):
        if size and source.shape == (size, size, 3) and source.dtype == np.uint8:
            return source  # read before
        return _pixels(_from_array(source), 1, size, longest, "the picture")
    if isinstance(source, Image.Image):
        return _pixels(source, None, size, longest, "the picture")
    if isinstance(source, (str, os.PathLike)):
        with open_image(Path(source)) as file:
            return _decode(file, size, longest, Path(source).name)
    stream = source if source.seekable() else io.BytesIO(source.read(MAX_FILE + 1))
    return _decode(stream, size, longest, "the picture")


@contextmanager
def open_image(path: Path) -> Iterator[io.BufferedReader]:
    """Open a picture's file for reading; what is no file, such as a pipe that nobody writes to, is refused at once."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise ImageError("missing", f"{path} does not exist; check the name and the folder.") from None
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("unreadable", f"{path} is not a file; give the picture itself.")
    if status.st_size > MAX_FILE:
        raise too_many_bytes(path.name, status.st_size)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageError("unreadable", f"{path} cannot be opened ({error.strerror}); check its permissions.") from error
    with file:
        yield file


def _decode(file: BinaryIO, size: int | None, longest: int | None, name: str) -> np.ndarray:
    try:
        kind, blocks = open_blocks(file, name)
        if kind == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener()
        picture = Image.open(blocks.kept, formats=(kind,))
        _check_shape(picture, name, *LIMITS.get(kind, ()))
        if kind == "JPEG":
            picture.decodermaxblock = LARGEST_READ
            if side := size or longest:
                picture.draft(None, (2 * side, 2 * side))  # decoded at 1/2, 1/4 or 1/8, never below twice the side
    except TOO_MUCH as error:
        raise too_many_pixels(name) from error
    except UnidentifiedImageError as error:
        raise (
            unsupported(name, "TIFF with a rare layout of its pixels") if kind == "TIFF" else damaged(name)
        ) from error
    except DAMAGE as error:
        raise damaged(name) from error
    orientation = blocks.exif_orientation or blocks.xmp_orientation
    return _pixels(picture, None if kind == "AVIF" else orientation, size, longest, name)


def _pixels(
    picture: Image.Image, orientation: int | None, size: int | None, longest: int | None, name: str
) -> np.ndarray:
    """The pixels; where no orientation is given it is Pillow's."""
    _check_shape(picture, name)
    try:
        picture.load()
        if orientation is None:
            orientation = _orientation(picture)
        width, height = picture.size[::-1] if orientation in TURNED else picture.size
        target = (size, size) if size else _fitting(width, height, longest)
        across, down = max(1, width // (3 * target[0])), max(1, height // (3 * target[1]))
        pixels = _reduced(picture, orientation, across, down)
        if target == (width, height) and not size:
            return pixels
        box = (0, 0, width / across, height / down)
        return np.array(Image.fromarray(pixels).resize(target, Image.Resampling.BICUBIC, box))
    except TOO_MUCH as error:
        raise too_many_pixels(name) from error
    except DAMAGE as error:
        raise damaged(name) from error


def _fitting(width: int, height: int, longest: int | None) -> tuple[int, int]:
    scale = min(1, (longest or max(width, height)) / max(width, height))
    return max(1, round(scale * width)), max(1, round(scale * height))


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            "not_an_image", f"an array of shape {array.shape} is no picture; expected (H, W), (H, W, 3) or (H, W, 4)."
        )
    if 0 in array.shape:
        raise ImageError("empty", "the picture has no pixels; give one with some.")
    if array.dtype.kind == "f" and np.all((array >= 0) & (array <= 1)):
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(
            "not_an_image", f"an array of {array.dtype} is no picture; expected uint8, or floats from 0 to 1."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(0x0112, 1)
    except DAMAGE:  # a broken note about the picture is no reason to refuse it
        return 1


def _reduced(picture: Image.Image, orientation: int, across: int, down: int) -> np.ndarray:
    """The upright picture on white as RGB, of every `across` x `down` pixels the mean."""
    width, height = picture.size[::-1] if orientation in TURNED else picture.size
    pixels = np.empty((-(-height // down), -(-width // across), 3), np.uint8)
    rows = max(1, STRIP // width // down) * down
    full_scale = _full_scale(picture) if picture.mode in ("I", "F") else 0
    for top in range(0, height, rows):
        strip = _strip(picture, orientation, top, min(top + rows, height))
        if full_scale:
            strip = _scaled(strip, full_scale)
        strip = _on_white(_eight_bit(strip))
        means = strip if across == down == 1 else strip.reduce((across, down))
        pixels[top // down : (top + rows) // down] = np.asarray(means)
    return pixels


def _strip(picture: Image.Image, orientation: int, top: int, bottom: int) -> Image.Image:
    """Rows of the upright picture, cut out of the picture as it is stored, so that no second one is made."""
    if orientation not in TRANSPOSE and bottom - top == picture.height:
        return picture
    if orientation in REVERSED:
        last = picture.width if orientation in TURNED else picture.height
        top, bottom = last - bottom, last - top
    is_turned = orientation in TURNED
    strip = picture.crop((top, 0, bottom, picture.height) if is_turned else (0, top, picture.width, bottom))
    return strip.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else strip


def _eight_bit(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow's own conversion would turn nearly all of it white
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _full_scale(picture: Image.Image) -> float:
    """The smallest customary full scale that holds the brightest pixel."""
    rows = max(1, STRIP // picture.width)
    strips = (
        picture.crop((0, top, picture.width, min(top + rows, picture.height))) for top in range(0, picture.height, rows)
    )
    brightest = max(float(_finite(strip).max()) for strip in strips)
    scales = (255, 65535) if picture.mode == "I" else (1, 255, 65535)
    return next((scale for scale in scales if brightest <= scale), brightest)


def _finite(strip: Image.Image) -> np.ndarray:
    values = np.asarray(strip).astype(np.float64)
    return np.nan_to_num(values, posinf=0, neginf=0) if strip.mode == "F" else values


def _scaled(strip: Image.Image, full_scale: float) -> Image.Image:
    """Map 0..full scale to 0..255."""
    grey = np.rint(np.clip(_finite(strip) / full_scale, 0, 1) * 255)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture)
    return white


def _check_shape(picture: Image.Image, name: str, limit: int = MAX_PIXELS, kind: str = "") -> None:
    width, height = picture.size
    if width * height > limit:
        raise too_many_pixels(name, limit, kind)
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageError(
            "extreme_shape",
            f"{name} is {width} x {height} pixels; expected at least {MIN_SIDE} on each side and"
            f" at most {MAX_ASPECT_RATIO} times as long as wide: crop or enlarge it.",
        )
