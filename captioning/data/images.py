"""The one picture loader: whatever a person sends -> RGB pixels, the same for training, app, server and command line.

Anything else is refused with an ImageError that carries a reason code. It knows nothing of networks or features.
"""

import io
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from captioning.errors import ImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # Pillow's JPEG opens MPO as well
MAX_PIXELS = 50_000_000
MIN_SIDE = 8
MAX_ASPECT_RATIO = 20
STRIP = 1_000_000  # pixels converted at a time, so that a huge picture is in the memory once

FORMAT_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")
FOREIGN_MAGIC = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"<svg": "SVG",
    b"<?xml": "SVG or XML",
    b"8BPS": "Photoshop",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\0\0\0\x0cJXL": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
}
BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}

TOO_MUCH = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
DAMAGE = (OSError, SyntaxError, ValueError)  # all that Pillow raised in a million pictures with altered bytes
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Source = str | os.PathLike[str] | BinaryIO | Image.Image | np.ndarray


def read_image(source: Source, *, size: int | None = None) -> np.ndarray:
    """Return the picture upright, on white, as RGB: uint8 (height, width, 3), squashed to (size, size, 3) on request.

    `source` is a path, an open binary file, a Pillow image, or an array, uint8 or float 0..1, of (H, W), (H, W, 3)
    or (H, W, 4). An animation gives its first frame. Raises ImageError with one of the reasons empty, not_an_image,
    unsupported_format, truncated, too_large, extreme_shape, missing, unreadable.
    """
    if isinstance(source, np.ndarray):
        return _pixels(_from_array(source), size, "the picture")
    if isinstance(source, Image.Image):
        return _pixels(source, size, "the picture")
    if isinstance(source, (str, os.PathLike)):
        with _open_file(Path(source)) as file:
            return _decode(file, size, Path(source).name)
    return _decode(source if source.seekable() else io.BytesIO(source.read()), size, "the picture")


def _open_file(path: Path) -> BinaryIO:
    if not os.path.exists(path):
        raise ImageError("missing", f"{path} does not exist; check the name and the folder.")
    if not os.path.isfile(path):
        raise ImageError("unreadable", f"{path} is not a file; give the picture itself.")
    try:
        return path.open("rb")
    except OSError as error:
        raise ImageError("unreadable", f"{path} cannot be opened ({error.strerror}); check its permissions.") from error


def _decode(file: BinaryIO, size: int | None, name: str) -> np.ndarray:
    _check_png_header(file, name)
    try:
        picture = Image.open(file, formats=FORMATS)
        _check_shape(picture, name)
        if size:
            picture.draft(
                None, (2 * size, 2 * size)
            )  # a big JPEG is decoded at 1/2, 1/4 or 1/8, never below twice `size`
    except TOO_MUCH as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        raise _unidentified(file, name) from error
    except DAMAGE as error:
        raise _damaged(name) from error
    return _pixels(picture, size, name)


def _check_png_header(file: BinaryIO, name: str) -> None:
    """Refuse a huge PNG before Pillow sees it: opening an animated one already takes all the memory it claims."""
    file.seek(0)
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return
    while len(head := file.read(16)) == 16 and head[4:8] not in (b"IDAT", b"IEND"):
        length, kind, width, height = struct.unpack(">I4sII", head)
        if kind == b"IHDR" and width * height > MAX_PIXELS:
            raise _too_large(name)
        file.seek(length - 4, os.SEEK_CUR)


def _pixels(picture: Image.Image, size: int | None, name: str) -> np.ndarray:
    _check_shape(picture, name)
    try:
        upright = _upright(picture)
        across, down = (max(1, side // (3 * size)) if size else 1 for side in upright.size)
        pixels = _reduced(upright, across, down)
        if not size:
            return pixels
        box = (0, 0, upright.width / across, upright.height / down)
        return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box))
    except TOO_MUCH as error:
        raise _too_large(name) from error
    except DAMAGE as error:
        raise _damaged(name) from error


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


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    try:
        orientation = picture.getexif().get(0x0112)
    except DAMAGE:  # a broken note about the picture is no reason to refuse it
        return picture
    return picture.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else picture


def _reduced(picture: Image.Image, across: int, down: int) -> np.ndarray:
    """The picture on white as RGB, of every `across` x `down` pixels the mean."""
    if picture.mode in ("I", "F"):
        picture = _scaled(np.asarray(picture))
    width, height = picture.size
    pixels = np.empty((-(-height // down), -(-width // across), 3), np.uint8)
    rows = max(1, STRIP // width // down) * down
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        pixels[top // down : (top + rows) // down] = np.asarray(_on_white(_eight_bit(strip)).reduce((across, down)))
    return pixels


def _eight_bit(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow's own conversion would turn nearly all of it white
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _scaled(values: np.ndarray) -> Image.Image:
    """Map 0..full scale to 0..255; full scale is the smallest customary one that holds the brightest pixel."""
    scales = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    full_scale = next((scale for scale in scales if values.max() <= scale), values.max())
    grey = np.rint(np.clip(values / full_scale, 0, 1) * 255)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture)
    return white


def _check_shape(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _too_large(name)
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageError(
            "extreme_shape",
            f"{name} is {width} x {height} pixels; expected at least {MIN_SIDE} on each side and"
            f" at most {MAX_ASPECT_RATIO} times as long as wide: crop or enlarge it.",
        )


def _unidentified(file: BinaryIO, name: str) -> ImageError:
    file.seek(0)
    head = file.read(32)
    if not head:
        return ImageError("empty", f"{name} is empty; copy or download it again.")
    if head.startswith(FORMAT_MAGIC):
        return _damaged(name)
    if kind := _foreign_kind(head):
        return ImageError("unsupported_format", f"{name} is {kind}, which is not read here; export it as JPEG or PNG.")
    return ImageError("not_an_image", f"{name} is not a picture; expected JPEG, PNG, GIF, BMP or WebP.")


def _foreign_kind(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "a video or an unknown camera format")
    return next((kind for magic, kind in FOREIGN_MAGIC.items() if head.lstrip().startswith(magic)), "")


def _damaged(name: str) -> ImageError:
    return ImageError("truncated", f"{name} is cut short or damaged; copy or download it again.")


def _too_large(name: str) -> ImageError:
    return ImageError("too_large", f"{name} has more than {MAX_PIXELS // 10**6} megapixels; make it smaller first.")
