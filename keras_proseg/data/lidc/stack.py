"""The voxels of a simulated CT, and noise on them."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Stack:
    """Where the voxels are: `z` (Z,) px about the middle, `slab` px a slice is thick."""

    size: int
    z: np.ndarray
    slab: float
    spacing: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, H, W)."""
        return len(self.z), self.size, self.size

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Broadcastable coordinates z, row, column in px."""
        line = np.arange(self.size, dtype=np.float32)
        return self.z[:, None, None].astype(np.float32), line[:, None], line


def smooth_noise(rng: Generator, stack: Stack, scale: float, depth: float = 2.0) -> np.ndarray:
    """Gaussian noise (Z, H, W) of unit variance: cubic B-splines on knots `scale` px apart.

    Args:
        rng: source of the draws.
        stack: the voxels.
        scale: distance of the knots in a slice, px.
        depth: distance of the knots across slices, in slices.
    """
    scales = (depth, scale, scale)
    bases = [_splines(count, knots) for count, knots in zip(stack.shape, scales, strict=True)]
    noise = rng.standard_normal([basis.shape[1] for basis in bases], np.float32)
    for basis in bases:  # sparse, because threads of BLAS would fight those of the caller
        rest = noise.shape[1:]
        noise = (basis @ noise.reshape(len(noise), -1)).reshape(-1, *rest)
        noise = np.moveaxis(noise, 0, -1)
    return np.ascontiguousarray(noise)


@cache
def _splines(count: int, scale: float) -> csr_array:
    position = np.arange(count) / scale + 1
    gap = np.abs(position[:, None] - np.arange(int(position[-1]) + 3))
    basis = np.where(gap < 1, 2 / 3 - gap**2 + gap**3 / 2, np.clip(2 - gap, 0, None) ** 3 / 6)
    return csr_array((basis / np.linalg.norm(basis, axis=1, keepdims=True)).astype(np.float32))


def scanner_noise(rng: Generator, stack: Stack, deviation: float) -> np.ndarray:
    """Correlated noise (Z, H, W), HU, of standard deviation `deviation`; at times with streaks."""
    grain = rng.uniform(0.45, 0.95)
    noise = gaussian_filter(
        rng.standard_normal(stack.shape, np.float32), (0, grain, grain), truncate=3
    )
    noise /= noise.std()
    if rng.uniform() < 0.4:
        streaks = rng.standard_normal(stack.shape, np.float32)
        streaks = gaussian_filter(streaks, (0, 0.6, rng.uniform(3, 8)), truncate=2)
        noise += rng.uniform(0.3, 1.0) * streaks / streaks.std()
    return deviation * noise / noise.std()


def sigmoid(value: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-value) in float32, without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(value, np.float32))
