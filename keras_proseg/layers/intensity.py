"""Raw pixels to network input, and any height and width to multiples of the backbone's stride."""

from typing import Any

import keras
from keras import ops

from keras_proseg.config import IntensityConfig


@keras.saving.register_keras_serializable("keras_proseg")
class IntensityScaling(keras.layers.Layer):
    """Scales raw intensities (B, H, W, C) as `IntensityConfig` says; float32 out."""

    def __init__(self, intensity: IntensityConfig, **kwargs: Any) -> None:
        # Raw pixels do not survive bfloat16, to which a mixed policy would cast them.
        super().__init__(**(kwargs | {"dtype": "float32"}))
        self.intensity = intensity
        self.built = True

    def call(self, image: Any) -> Any:
        settings = self.intensity
        image = ops.cast(image, "float32")
        if settings.mode == "divide":
            return image / settings.scale
        if settings.mode == "window":
            return ops.clip((image - settings.center) / (settings.width / 2), -1.0, 1.0)
        return (image - settings.mean) / settings.std

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def pad_to_multiple(image: Any, multiple: int) -> Any:
    """Repeats the last row and column until H and W are multiples of `multiple`."""
    for axis in (1, 2):
        size = ops.shape(image)[axis]
        extra = (multiple - size % multiple) % multiple
        index = ops.minimum(ops.arange(size + extra), size - 1)
        image = ops.take(image, index, axis=axis)
    return image


def upsample(grid: Any, factor: int) -> Any:
    """Bilinear upsampling of (..., h, w, D) by `factor`, edges held; half-pixel centres.

    Two products with interpolation matrices: dynamic in h and w on every backend and in exports.
    As `tensordot`, plain matrix products: the gradient of the batched product that an einsum makes
    of them crashes in oneDNN on AMD processors with AVX-512.
    """
    if factor == 1:
        return grid
    rank = len(grid.shape)
    rows = _interpolation(ops.shape(grid)[-3], factor)
    columns = _interpolation(ops.shape(grid)[-2], factor)
    grid = ops.tensordot(grid, rows, axes=[[rank - 3], [1]])  # (..., w, D, H)
    grid = ops.tensordot(grid, columns, axes=[[rank - 3], [1]])  # (..., D, H, W)
    return ops.transpose(grid, (*range(rank - 3), rank - 2, rank - 1, rank - 3))


def _interpolation(size: Any, factor: int) -> Any:
    target = (ops.cast(ops.arange(size * factor), "float32") + 0.5) / factor - 0.5
    last = ops.cast(size, "float32") - 1.0
    target = ops.clip(target, 0.0, last)
    source = ops.cast(ops.arange(size), "float32")
    return ops.relu(1.0 - ops.abs(target[:, None] - source[None, :]))


def unfold_blocks(blocks: Any, factor: int) -> Any:
    """(N, h, w, factor * factor * K) to (N, h * factor, w * factor, K), block by block."""
    if factor == 1:
        return blocks
    count, height, width, channels = ops.shape(blocks)
    depth = channels // (factor * factor)
    blocks = ops.reshape(blocks, (count, height, width, factor, factor, depth))
    blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return ops.reshape(blocks, (count, height * factor, width * factor, depth))
