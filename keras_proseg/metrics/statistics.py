"""Means that leave out what is nan, and their intervals by bootstrap over groups."""

from typing import Any

import numpy as np

PERCENTILES = (2.5, 97.5)


def nan_mean(values: Any, axis: int = 0) -> np.ndarray:
    """The mean of `values` along `axis`; nan, and no warning, where there is nothing."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=axis), known.sum(axis=axis))


def sums_by(owner: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums (P, ...) of the rows of `values` (N, ...) that `owner` (N,) gives to each group."""
    sums = np.zeros((owner.max() + 1, *values.shape[1:]))
    np.add.at(sums, owner, values)
    return sums


def means_by(owner: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means (P, ...) as `sums_by`, what is nan left out."""
    known = ~np.isnan(values)
    return _ratio(sums_by(owner, np.where(known, values, 0)), sums_by(owner, known))


def resamplings(num_groups: int, num_bootstrap: int, seed: int) -> np.ndarray:
    """How often each group is drawn, (B, P), when as many are drawn with replacement."""
    shares = np.full(num_groups, 1 / num_groups)
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_groups, shares, size=num_bootstrap).astype(float)


def resampled_means(by_group: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means (B, M) of `by_group` (P, M) when groups count as often as `weights` (B, P) says."""
    known = ~np.isnan(by_group)
    return _ratio(weights @ np.where(known, by_group, 0), weights @ known.astype(float))


def intervals(replicates: np.ndarray, num_groups: int) -> np.ndarray:
    """Low and high (2, M) of `replicates` (B, M), 95 %; nan with fewer than two groups."""
    limits = np.full((2, replicates.shape[1]), np.nan)
    if num_groups > 1:
        found = ~np.isnan(replicates).all(axis=0)
        limits[:, found] = np.nanpercentile(replicates[:, found], PERCENTILES, axis=0)
    return limits


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
