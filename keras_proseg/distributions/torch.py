"""The distributions over torch.distributions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from keras.ops import convert_to_numpy, convert_to_tensor
from torch import distributions as dist

from keras_proseg.config import LEAST_CONCENTRATION


class Dirichlet:
    """Dirichlet over the last axis.

    Args:
        concentration: (..., T) above 0.
    """

    def __init__(self, concentration: Any) -> None:
        concentration = convert_to_tensor(concentration, "float32")
        self._dist = dist.Dirichlet(
            torch.clamp(concentration, min=LEAST_CONCENTRATION), validate_args=False
        )

    def sample(self, num: int, seed: Any) -> Any:
        """`num` reparameterised draws (num, ..., T) on the simplex."""
        with _seeded(seed):
            return self._dist.rsample((num,))

    def kl(self, other: "Dirichlet") -> Any:
        """KL(self || other), (...,) in nats."""
        return dist.kl_divergence(self._dist, other._dist)

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
        loc, scale = convert_to_tensor(loc, "float32"), convert_to_tensor(scale, "float32")
        self._dist = dist.Normal(loc, scale, validate_args=False)

    def sample(self, noise: Any) -> Any:
        """The reparameterised draw that standard normal `noise` (num, ...) stands for."""
        return self._dist.loc + self._dist.scale * convert_to_tensor(noise, "float32")

    def kl(self, other: "DiagonalNormal") -> Any:
        """KL(self || other) of every component, (...) in nats."""
        return dist.kl_divergence(self._dist, other._dist)

    def mean(self) -> Any:
        """(...)."""
        return self._dist.mean


_LENT = threading.RLock()  # by one thread at a time


def standard_normal(shape: Any, seed: Any) -> Any:
    """Draws N(0, 1) of `shape`; equal for equal seeds."""
    zero, one = convert_to_tensor(0.0), convert_to_tensor(1.0)
    with _seeded(seed):
        return dist.Normal(zero, one, validate_args=False).sample(tuple(shape))


@contextmanager
def _seeded(seed: Any) -> Iterator[None]:
    """torch's distributions draw from the global generator only: it is lent, and put back."""
    words = np.asarray(convert_to_numpy(seed)).astype(np.uint32)
    # torch's generator on the CPU reads 32 bits of its seed: both words must be mixed into them.
    state = np.random.SeedSequence(words.tolist()).generate_state(1)[0]
    with _LENT, torch.random.fork_rng():
        torch.manual_seed(int(state))
        yield
