"""Muon for convolutions: steps that move all directions of a kernel equally far."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

NEWTON_SCHULZ_STEPS = 4


@keras.saving.register_keras_serializable("keras_proseg")
class KernelMuon(keras.optimizers.Muon):
    """Keras' Muon for variables that are all kernels of convolutions.

    A kernel (height, width, in, out) is the matrix (height * width * in, out) of the product that
    the convolution is. A step is the orthogonal matrix near its momentum (singular values of about
    0.7 to 1.2 instead of 1, but for the least of a square matrix), so that directions which few
    images ask for move as far as those that every batch asks for. Steps are scaled to the size of
    AdamW's (arXiv 2502.16982).

    Args:
        **kwargs: of `keras.optimizers.Muon`.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return False  # Keras' own takes nothing but matrices

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """The orthogonal matrix near kernel x, as a kernel.

        Every step multiplies the matrix by a polynomial of its Gram matrix. These small matrices
        are multiplied together first, so that the tall one is used in two products only.
        """
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        if matrix.shape[0] < matrix.shape[1]:
            return ops.reshape(ops.transpose(self._whitened(ops.transpose(matrix), steps)), x.shape)
        return ops.reshape(self._whitened(matrix, steps), x.shape)

    def _whitened(self, tall: Any, steps: int) -> Any:
        gram = ops.matmul(ops.transpose(tall), tall)
        norm = ops.sqrt(ops.sum(ops.square(tall))) + 1e-7
        gram, product = gram / ops.square(norm), None
        # As a constant: made anew for every kernel and step, a tenth of all operations.
        first = ops.convert_to_tensor(self.muon_a * np.eye(gram.shape[0], dtype="float32"))
        for _ in range(steps):
            factor = first + self.muon_b * gram + self.muon_c * ops.matmul(gram, gram)
            product = factor if product is None else ops.matmul(product, factor)
            gram = ops.matmul(ops.matmul(factor, gram), factor)
        return ops.matmul(tall, product / norm)

    def lr_adjust(self, x: Any) -> Any:
        """x at `rms_rate` root mean square, whatever the kernel's shape."""
        longer_side = max(math.prod(x.shape[:-1]), x.shape[-1])
        return x * math.sqrt(longer_side) * self.rms_rate
