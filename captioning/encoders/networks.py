"""The project's own convolutional encoder, tiny, which is trained with the decoder.

Each batch norm follows its convolution directly, so that the two can be merged. Side and stride of a kernel are both
even or both odd. Otherwise the receptive field would be half a region off centre.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras import KerasTensor


def tiny(images: "KerasTensor") -> "KerasTensor":
    """132 x 132 -> 11 x 11 regions of depth 128; the receptive field is little larger than a region."""
    grid = _activated(images, 24, 4, 2, "stage0")
    grid = _activated(grid, 48, 4, 2, "stage1")
    grid = _refined(_activated(grid, 128, 5, 3, "stage2"), "stage2_again")
    return _refined(grid, "stage2_once_more")


def _activated(grid: "KerasTensor", depth: int, side: int, strides: int, name: str) -> "KerasTensor":
    from keras import layers

    grid = layers.Conv2D(depth, side, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(grid)
    grid = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(grid)
    return layers.Activation("relu", name=name)(grid)


def _refined(grid: "KerasTensor", name: str) -> "KerasTensor":
    from keras import layers

    return layers.Add(name=f"{name}_sum")([grid, _activated(grid, grid.shape[-1], 3, 1, name)])
