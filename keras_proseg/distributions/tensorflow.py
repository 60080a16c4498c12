"""The distributions over TensorFlow Probability."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_proseg.config import LEAST_CONCENTRATION

tfd = tfp.distributions


class Dirichlet:
    """Dirichlet over the last axis.

    Args:
        concentration: (..., T) above 0.
    """

    def __init__(self, concentration: Any) -> None:
        concentration = tf.cast(concentration, tf.float32)
        self._tfd = tfd.Dirichlet(tf.maximum(concentration, LEAST_CONCENTRATION))

    def sample(self, num: int, seed: Any) -> Any:
        """`num` reparameterised draws (num, ..., T) on the simplex."""
        # The gradient of TFP's own draws is not finite below 0.1: Gamma(a) ~ Gamma(a + 1) U^(1/a).
        gamma_seed, uniform_seed = tfp.random.split_seed(_seed(seed), n=2)
        concentration = self._tfd.concentration
        log_gamma = tfd.ExpGamma(concentration + 1.0, 1.0).sample(num, seed=gamma_seed)
        log_uniform = -tfd.Exponential(1.0).sample(tf.shape(log_gamma), seed=uniform_seed)
        return tf.nn.softmax(log_gamma + log_uniform / concentration)

    def kl(self, other: "Dirichlet") -> Any:
        """KL(self || other), (...,) in nats."""
        return tfd.kl_divergence(self._tfd, other._tfd)

    def mean(self) -> Any:
        """(..., T)."""
        return self._tfd.mean()


class DiagonalNormal:
    """Independent normals.

    Args:
        loc: (...) means.
        scale: (...) standard deviations, above 0.
    """

    def __init__(self, loc: Any, scale: Any) -> None:
        self._tfd = tfd.Normal(tf.cast(loc, tf.float32), tf.cast(scale, tf.float32))

    def sample(self, noise: Any) -> Any:
        """The reparameterised draw that standard normal `noise` (num, ...) stands for."""
        return self._tfd.loc + self._tfd.scale * noise

    def kl(self, other: "DiagonalNormal") -> Any:
        """KL(self || other) of every component, (...) in nats."""
        return tfd.kl_divergence(self._tfd, other._tfd)

    def mean(self) -> Any:
        """(...)."""
        return self._tfd.mean()


def standard_normal(shape: Any, seed: Any) -> Any:
    """Draws N(0, 1) of `shape`; equal for equal seeds."""
    return tfd.Normal(0.0, 1.0).sample(shape, seed=_seed(seed))


def _seed(seed: Any) -> tf.Tensor:
    return tf.cast(seed, tf.int32)
