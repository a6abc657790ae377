"""The convolutional networks of our own, from images to grids: tiny, trained along, and pocket, taught beforehand.

Knows nothing of weights. A batch norm stands right behind its convolution, so that the two can be made one; side and
stride of a kernel are both even or both odd, or regions would see what lies half a region off.
"""

from typing import Any

POCKET = (48, 128, 192, 512)  # depths at a quarter, an eighth and a sixteenth of the image's side, and before the last
POCKET_DEPTH = 256
POCKET_BLOCKS = 6  # at a sixteenth, where a weight costs least


def tiny(images: Any) -> Any:
    """132 x 132 -> 11 x 11 regions of depth 128; each sees little beyond its part of the image."""
    grid = _seen(images, 24, 4, 2, "stage0")
    grid = _seen(grid, 48, 4, 2, "stage1")
    grid = _refined(_seen(grid, 128, 5, 3, "stage2"), "stage2_again")
    return _refined(grid, "stage2_once_more")


def pocket(images: Any) -> Any:
    """128 x 128 -> 8 x 8 regions of depth 256, positive and negative; each sees far beyond its part of the image."""
    from keras import layers

    near, middle, far, wide = POCKET
    grid = _seen(images, near, 8, 4, "stage1")
    grid = _residual(_seen(grid, middle, 2, 2, "stage2"), "stage2_block")
    grid = _seen(grid, far, 2, 2, "stage3")
    for number in range(POCKET_BLOCKS):
        grid = _residual(grid, f"stage3_block{number + 1}")
    grid = _seen(grid, wide, 1, 1, "stage3_wide")  # or the grid would have no more dimensions than the stage before
    return layers.Conv2D(POCKET_DEPTH, 1, name="grid")(grid)


def _convolved(grid: Any, depth: int, side: int, strides: int, name: str, *, scale: str = "ones") -> Any:
    from keras import layers

    grid = layers.Conv2D(depth, side, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(grid)
    return layers.BatchNormalization(momentum=0.9, gamma_initializer=scale, name=f"{name}_norm")(grid)


def _seen(grid: Any, depth: int, side: int, strides: int, name: str) -> Any:
    from keras import layers

    return layers.Activation("relu", name=name)(_convolved(grid, depth, side, strides, name))


def _refined(grid: Any, name: str) -> Any:
    from keras import layers

    return layers.Add(name=f"{name}_sum")([grid, _seen(grid, grid.shape[-1], 3, 1, name)])


def _residual(grid: Any, name: str) -> Any:
    """The grid and a change to it, which begins as none."""
    from keras import layers

    depth = grid.shape[-1]
    change = _convolved(_seen(grid, depth, 3, 1, f"{name}_first"), depth, 3, 1, f"{name}_second", scale="zeros")
    return layers.Activation("relu", name=name)(layers.Add(name=f"{name}_sum")([grid, change]))
