"""Random augmentation of batches of images, for distillation."""

import numpy as np

BRIGHTER, TINTED, PALER = 0.2, 0.05, 0.3  # largest change of brightness, of a channel, of saturation, as a share
SHIFTED = 4  # pixels at most, a quarter of a region of the student's grid
STRONGEST = 0.5  # largest weight of the other image in a mixture
SMALLEST, LARGEST = 0.25, 0.75  # sides of the pasted part of the other image, as shares


def shift_randomly(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images (B, H, W, 3), each shifted by up to `SHIFTED` pixels; edge pixels fill the gap."""
    height, width = pixels.shape[1:3]
    wide = np.pad(pixels, ((0, 0), (SHIFTED, SHIFTED), (SHIFTED, SHIFTED), (0, 0)), mode="edge")
    corners = rng.integers(0, 2 * SHIFTED + 1, (len(pixels), 2))
    return np.stack([own[y : y + height, x : x + width] for own, (y, x) in zip(wide, corners, strict=True)])


def jitter_colours(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images (B, H, W, 3) with random brightness, channel factors and saturation."""
    pixels, count = pixels.astype("float32"), len(pixels)

    def factors(most: float, channels: int) -> np.ndarray:
        return rng.uniform(1 - most, 1 + most, (count, 1, 1, channels)).astype("float32")

    grey = pixels @ np.full((3, 1), 1 / 3, "float32")
    lit = (grey + factors(PALER, 1) * (pixels - grey)) * factors(BRIGHTER, 1) * factors(TINTED, 3)
    return np.clip(lit, 0, 255)


def crop_randomly(pictures: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of this side of each image (B, H, W, 3), mirrored with probability 1/2."""
    corners = rng.integers(0, pictures.shape[1] - side + 1, (len(pictures), 2))
    ways = rng.choice((1, -1), len(pictures))
    return np.stack(
        [own[y : y + side, x : x + side][:, ::way] for own, (y, x), way in zip(pictures, corners, ways, strict=True)]
    )


def mix_images(pictures: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images (B, S, S, 3), each mixed with another: a weighted mean, a pasted band, or a pasted rectangle."""
    pictures, side = pictures.astype("float32"), pictures.shape[1]
    for picture, other in zip(pictures, others, strict=True):
        way = rng.integers(3)
        if way == 0:
            picture += rng.uniform(0, STRONGEST) * (other - picture)
            continue
        extent = np.round(rng.uniform(SMALLEST, LARGEST, 2) * side).astype(int)
        if way == 1:
            extent[rng.integers(2)] = side
        top, left = rng.integers(0, side - extent + 1)
        covered = slice(top, top + extent[0]), slice(left, left + extent[1])
        picture[covered] = other[covered]
    return pictures


def downsample(pictures: np.ndarray) -> np.ndarray:
    """The images (B, 2H, 2W, 3), averaged over 2 x 2 pixels, (B, H, W, 3)."""
    count, height, width, channels = pictures.shape
    return pictures.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
