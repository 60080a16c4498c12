"""Group normalisation in two passes over the features instead of eight."""

from typing import Any

import keras
from keras import ops


class GroupNorm(keras.layers.GroupNormalization):
    """Keras' own layer with its call as one scale and one shift per image and channel.

    The same weights and values (to float32 rounding, for features whose mean is not far above
    their deviation), two to three times faster on a CPU; channels last.
    """

    def call(self, x: Any) -> Any:
        """x (B, H, W, F) to the same shape."""
        wide = ops.cast(x, "float32")
        mean = ops.mean(self._grouped(ops.mean(wide, axis=(1, 2))), axis=-1, keepdims=True)
        square = ops.mean(ops.square(wide), axis=(1, 2))
        square = ops.mean(self._grouped(square), axis=-1, keepdims=True)
        variance = ops.relu(square - ops.square(mean))
        scale = self._grouped(self.gamma) * ops.rsqrt(variance + self.epsilon)
        shift = self._grouped(self.beta) - mean * scale
        shape = (-1, 1, 1, x.shape[-1])
        return ops.cast(wide * ops.reshape(scale, shape) + ops.reshape(shift, shape), x.dtype)

    def _grouped(self, values: Any) -> Any:
        """values (B, F) or (F,) as (B or 1, groups, F / groups)."""
        values = ops.cast(values, "float32")
        return ops.reshape(values, (-1, self.groups, values.shape[-1] // self.groups))
