"""The project's own convolutional encoders: tiny is trained with the decoder, pocket is distilled beforehand.

Each batch norm follows its convolution directly, so that the two can be merged. Side and stride of a kernel are both
even or both odd. Otherwise the receptive field would be half a region off centre.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras import KerasTensor

POCKET = (48, 128, 192, 512)  # channels at 1/4, 1/8 and 1/16 of the image's side, and before the last layer
POCKET_DEPTH = 256
POCKET_BLOCKS = 6  # at 1/16, where weights cost the least time


def tiny(images: "KerasTensor") -> "KerasTensor":
    """132 x 132 -> 11 x 11 regions of depth 128; the receptive field is little larger than a region."""
    grid = _activated(images, 24, 4, 2, "stage0")
    grid = _activated(grid, 48, 4, 2, "stage1")
    grid = _refined(_activated(grid, 128, 5, 3, "stage2"), "stage2_again")
    return _refined(grid, "stage2_once_more")


def pocket(images: "KerasTensor") -> "KerasTensor":
    """128 x 128 -> 8 x 8 regions of depth 256, of both signs; the receptive field is much larger than a region."""
    from keras import layers

    near, middle, far, wide = POCKET
    grid = _activated(images, near, 8, 4, "stage1")
    grid = _residual(_activated(grid, middle, 2, 2, "stage2"), "stage2_block")
    grid = _activated(grid, far, 2, 2, "stage3")
    for number in range(POCKET_BLOCKS):
        grid = _residual(grid, f"stage3_block{number + 1}")
    grid = _activated(grid, wide, 1, 1, "stage3_wide")  # else the 256 channels of the grid would have rank 192
    return layers.Conv2D(POCKET_DEPTH, 1, name="grid")(grid)


def _convolved(
    grid: "KerasTensor", depth: int, side: int, strides: int, name: str, *, scale: str = "ones"
) -> "KerasTensor":
    from keras import layers

    grid = layers.Conv2D(depth, side, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(grid)
    return layers.BatchNormalization(momentum=0.9, gamma_initializer=scale, name=f"{name}_norm")(grid)


def _activated(grid: "KerasTensor", depth: int, side: int, strides: int, name: str) -> "KerasTensor":
    from keras import layers

    return layers.Activation("relu", name=name)(_convolved(grid, depth, side, strides, name))


def _refined(grid: "KerasTensor", name: str) -> "KerasTensor":
    from keras import layers

    return layers.Add(name=f"{name}_sum")([grid, _activated(grid, grid.shape[-1], 3, 1, name)])


def _residual(grid: "KerasTensor", name: str) -> "KerasTensor":
    """A residual block whose second batch norm starts at zero, so that the block starts as the identity."""
    from keras import layers

    depth = grid.shape[-1]
    change = _convolved(_activated(grid, depth, 3, 1, f"{name}_first"), depth, 3, 1, f"{name}_second", scale="zeros")
    return layers.Activation("relu", name=name)(layers.Add(name=f"{name}_sum")([grid, change]))
