"""The distributions over NumPyro."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions.kl import kl_divergence

from keras_proseg.config import LEAST_CONCENTRATION


class Dirichlet:
    """Dirichlet over the last axis.

    Args:
        concentration: (..., T) above 0.
    """

    def __init__(self, concentration: Any) -> None:
        concentration = jnp.asarray(concentration, jnp.float32)
        concentration = jnp.maximum(concentration, LEAST_CONCENTRATION)
        self._dist = dist.Dirichlet(concentration, validate_args=False)

    def sample(self, num: int, seed: Any) -> Any:
        """`num` reparameterised draws (num, ..., T) on the simplex."""
        shape = (num, *self._dist.batch_shape)
        # Not NumPyro's own, which draws others where JAX is set to 64 bits.
        return jax.random.dirichlet(_key(seed), self._dist.concentration, shape, jnp.float32)

    def kl(self, other: "Dirichlet") -> Any:
        """KL(self || other), (...,) in nats."""
        return kl_divergence(self._dist, other._dist)

    def mean(self) -> Any:
        """(..., T)."""
        return self._dist.mean


class DiagonalNormal:
    """Independent normals.

    Args:
        loc: (...) means.
        scale: (...) standard deviations, above 0.
    """

    def __init__(self, loc: Any, scale: Any) -> None:
        loc, scale = jnp.asarray(loc, jnp.float32), jnp.asarray(scale, jnp.float32)
        # A step that is not finite is counted and skipped, not an error of its own.
        self._dist = dist.Normal(loc, scale, validate_args=False)

    def sample(self, noise: Any) -> Any:
        """The reparameterised draw that standard normal `noise` (num, ...) stands for."""
        return self._dist.loc + self._dist.scale * noise

    def kl(self, other: "DiagonalNormal") -> Any:
        """KL(self || other) of every component, (...) in nats."""
        return kl_divergence(self._dist, other._dist)

    def mean(self) -> Any:
        """(...)."""
        return self._dist.mean


def standard_normal(shape: Any, seed: Any) -> Any:
    """Draws N(0, 1) of `shape`; equal for equal seeds."""
    return jax.random.normal(_key(seed), tuple(shape), jnp.float32)


def _key(seed: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(seed).astype(jnp.uint32))
