"""Convolutions of a coarse map, doubled in size and joined with a fine one, without that map."""

from typing import Any

from keras import ops


def double(x: Any) -> Any:
    """(B, h, w, F) to (B, 2 h, 2 w, F): every pixel four times."""
    return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)


def join(coarse: Any, fine: Any) -> Any:
    """`coarse` (B, h, w, F) doubled in size, then `fine` (B, 2 h, 2 w, G), by channels."""
    return ops.concatenate([double(coarse), fine], axis=-1)


def conv_of_joined(kernel: Any, coarse: Any, fine: Any) -> Any:
    """The convolution of `join(coarse, fine)` with `kernel` (3 or 1, 3 or 1, F + G, N), "same".

    Each coarse pixel appears four times in the doubled map, so the 3x3 taps of a pixel fall on only
    2x2 different coarse pixels: a transposed convolution with kernels of 4x4 needs 16 products
    where the doubled map takes 36.
    """
    filters = coarse.shape[-1]
    of_coarse, of_fine = kernel[:, :, :filters], kernel[:, :, filters:]
    rest = ops.conv(fine, of_fine, padding="same")
    if kernel.shape[0] == 1:
        return double(ops.conv(coarse, of_coarse)) + rest
    transposed = ops.transpose(ops.flip(_of_doubled(of_coarse), (0, 1)), (0, 1, 3, 2))
    return ops.conv_transpose(coarse, transposed, strides=2, padding="same") + rest


def _of_doubled(kernel: Any) -> Any:
    """The sum of `kernel` (3, 3, F, N) and its moves by a pixel along either axis, (4, 4, F, N)."""
    for axis in (0, 1):
        before, after = [[(0, 0)] * 4 for _ in range(2)]
        before[axis], after[axis] = (1, 0), (0, 1)
        kernel = ops.pad(kernel, before) + ops.pad(kernel, after)
    return kernel
