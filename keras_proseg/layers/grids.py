"""Grids in height and width: padded, upsampled, picked, and unfolded from blocks."""

from typing import Any

import numpy as np
from keras import ops

SMOOTHING = (0.25, 0.5, 0.25)


def pad_to_multiple(image: Any, multiple: int) -> Any:
    """Repeats the last row and column until H and W are multiples of `multiple`."""
    for axis in (1, 2):
        size = ops.shape(image)[axis]
        extra = (multiple - size % multiple) % multiple
        index = ops.minimum(ops.arange(size + extra), size - 1)
        image = ops.take(image, index, axis=axis)
    return image


def cropped(grid: Any, image: Any) -> Any:
    """(..., H', W', D) at the size of `image` (B, H, W, C), before what padding added to it."""
    size = tuple(image.shape[1:3])
    if None not in size and tuple(grid.shape[-3:-1]) == size:
        return grid  # a slice of everything is still a copy, and its gradient another
    height, width = ops.shape(image)[1:3]
    return grid[..., :height, :width, :]


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


def upsample_onto(base: Any, scale: Any, grid: Any, factor: int) -> Any:
    """base * scale + upsample(grid), for many grids over one base.

    A row's columns of every grid, and `base` times `scale`, come out of one product of the row's
    (interpolation, base) with its (grid, diagonal of scale): written once instead of three times.
    For answers, not for training: see `upsample` on the gradients of batched products.

    Args:
        base: (B, H, W, D).
        scale: (B or 1, M, D).
        grid: (B, M, h, w, D), with H = h * factor.
        factor: of the upsampling.

    Returns:
        (B, M, H, W, D) float32.
    """
    base, scale, grid = (ops.cast(values, "float32") for values in (base, scale, grid))
    size, draws, height, width, depth = ops.shape(grid)
    rows, columns = _interpolation(height, factor), _interpolation(width, factor)
    lines = ops.matmul(rows, ops.reshape(grid, (size, draws, height, width * depth)))
    lines = ops.reshape(lines, (size, draws, height * factor, width, depth))
    diagonal = (scale[..., None] * ops.eye(depth))[:, :, None]
    diagonal = ops.broadcast_to(diagonal, (size, draws, height * factor, depth, depth))
    columns = ops.broadcast_to(columns, (*ops.shape(base)[:3], width))
    left = ops.concatenate([columns, base], axis=-1)
    return ops.matmul(left[:, None], ops.concatenate([lines, diagonal], axis=-2))


def _interpolation(size: Any, factor: int) -> Any:
    target = (ops.cast(ops.arange(size * factor), "float32") + 0.5) / factor - 0.5
    last = ops.cast(size, "float32") - 1.0
    target = ops.clip(target, 0.0, last)
    source = ops.cast(ops.arange(size), "float32")
    return ops.relu(1.0 - ops.abs(target[:, None] - source[None, :]))


def pick(values: Any, chosen: Any) -> Any:
    """values (B, R, ...) at `chosen` (B, M): (B, M, ...)."""
    batch, raters = ops.shape(values)[:2]
    # Of whole maps: picked value by value, the gradient would cost more than the convolutions.
    rows = ops.reshape(values, (batch * raters, *ops.shape(values)[2:]))
    first = raters * ops.arange(batch, dtype=chosen.dtype)
    return ops.take(rows, first[:, None] + chosen, axis=0)


def unfold_blocks(blocks: Any, factor: int) -> Any:
    """(N, h, w, factor * factor * K) to (N, h * factor, w * factor, K), block by block."""
    if factor == 1:
        return blocks
    count, height, width, channels = ops.shape(blocks)
    depth = channels // (factor * factor)
    blocks = ops.reshape(blocks, (count, height, width, factor, factor, depth))
    blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return ops.reshape(blocks, (count, height * factor, width * factor, depth))


def smooth_blocks(blocks: Any, factor: int) -> Any:
    """Smooths with (1, 2, 1) / 4 along both axes what `blocks` unfold to; zeros beyond the edges.

    The pixels of one block come from different channels and so differ at first, which shows as a
    pattern of dots. Among the blocks the filter is one small convolution.

    Args: blocks (N, h, w, factor * factor * K). Returns: the same shape.
    """
    kernel = _smoothing_kernel(factor, blocks.shape[-1] // (factor * factor))
    return ops.conv(blocks, ops.convert_to_tensor(kernel, blocks.dtype), padding="same")


def _smoothing_kernel(factor: int, depth: int) -> np.ndarray:
    """(3, 3, factor * factor * depth, factor * factor * depth): the filter between neighbours."""
    line = np.zeros((3, factor, factor))  # which block, place in it, place that comes out
    for out in range(factor):
        for move, weight in zip((-1, 0, 1), SMOOTHING, strict=True):
            block, place = divmod(out + move, factor)
            line[block + 1, place, out] = weight
    kernel = np.einsum("apq,brs,kl->abprkqsl", line, line, np.eye(depth))
    return kernel.reshape(3, 3, factor * factor * depth, factor * factor * depth)
