"""Boundary ambiguity: q(z|x) (or q(z|x,r)), p(z), and what answers draw z from."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_proseg.config import LOG_SCALE_BOUND
from keras_proseg.distributions import DiagonalNormal
from keras_proseg.layers.grids import pick


class BoundaryAmbiguity(keras.layers.Layer):
    """A diagonal Gaussian map from the backbone's context.

    Args:
        num_maps: 1 for q(z|x), R for q(z|x,r).
        size: D, channels of z.
        hidden: width of a 3x3 convolution before the heads.
        start_scale: standard deviation at the start, in exp(-5) to exp(5).
        temperature: factor on the standard deviations that answers draw with.
    """

    def __init__(
        self,
        num_maps: int,
        size: int,
        hidden: int,
        start_scale: float,
        temperature: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_maps, self.size, self.temperature = num_maps, size, temperature
        # A list, as saved files know it.
        self.hidden = [keras.layers.Conv2D(hidden, 3, padding="same", activation="silu")]
        bias = np.zeros((num_maps, 2, size), "float32")
        # What `_mean_and_scale` makes of it is the scale asked for.
        bias[:, 1] = LOG_SCALE_BOUND * np.arctanh(np.log(start_scale) / LOG_SCALE_BOUND)
        self.head = keras.layers.Conv2D(
            num_maps * 2 * size, 3, padding="same", name="head",
            kernel_initializer=keras.initializers.VarianceScaling(0.1),
            bias_initializer=lambda shape, dtype=None: ops.convert_to_tensor(bias.ravel(), dtype),
        )  # fmt: skip

    def build(self, shape: Any) -> None:
        for layer in [*self.hidden, self.head]:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, context: Any, chosen: Any = None) -> Any:
        """context (B, h, w, F) to mean and log-scale, (B, num_maps, h, w, 2 D).

        With `chosen` (B, M) of those maps only, (B, M, h, w, 2 D).
        """
        for layer in self.hidden:
            context = layer(context)
        if chosen is None:
            return self._as_maps(self.head(context), self.num_maps)
        if context.shape[0] is None:
            return pick(self._as_maps(self.head(context), self.num_maps), chosen)
        return self._maps_of(context, chosen)

    def _maps_of(self, context: Any, chosen: Any) -> Any:
        # Image by image with the kernels of its own raters: all maps would cost R times as much.
        count, shape = chosen.shape[1], self.head.kernel.shape
        kernels = ops.reshape(self.head.kernel, (*shape[:3], self.num_maps, 2 * self.size))
        biases = ops.reshape(self.head.bias, (self.num_maps, 2 * self.size))
        answers = []
        for k, own in enumerate(ops.split(context, context.shape[0])):
            kernel = ops.reshape(ops.take(kernels, chosen[k], axis=3), (*shape[:3], -1))
            bias = ops.reshape(ops.take(biases, chosen[k], axis=0), (-1,))
            answers.append(ops.conv(own, kernel, padding="same") + bias)
        return self._as_maps(ops.concatenate(answers), count)

    def _as_maps(self, heads: Any, count: int) -> Any:
        heads = ops.reshape(heads, (*ops.shape(heads)[:3], count, 2 * self.size))
        return ops.transpose(heads, (0, 3, 1, 2, 4))

    def q_z(self, heads: Any) -> DiagonalNormal:
        """The Gaussian (..., h, w, D) of `heads` (..., h, w, 2 D)."""
        return DiagonalNormal(*self._mean_and_scale(heads))

    def answering_z(self, heads: Any) -> DiagonalNormal:
        """`q_z` at `temperature`: what samples, means and uncertainty draw z from."""
        mean, scale = self._mean_and_scale(heads)
        return DiagonalNormal(mean, self.temperature * scale)

    def p_z(self) -> DiagonalNormal:
        """N(0, 1)."""
        return DiagonalNormal(0.0, 1.0)

    def _mean_and_scale(self, heads: Any) -> tuple[Any, Any]:
        mean, log_scale = ops.split(heads, 2, axis=-1)
        bounded = LOG_SCALE_BOUND * ops.tanh(ops.cast(log_scale, "float32") / LOG_SCALE_BOUND)
        return mean, ops.exp(bounded)
