"""Draws of tau and of the noise of z, and the keys that seed them; `model` is a `ProSeg`."""

from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_proseg.distributions import standard_normal

if TYPE_CHECKING:
    from keras_proseg.model import ProSeg

FIXED_SEED = 752  # of the latents behind means and variances
MOST_SAMPLE_SEED = 2**42 - 1  # that `key_of` tells apart from others
# Second half of a key: what its random numbers are for. Passes of draws count on from Z.
TAU, Z = 0, 1


def draw_tau(model: "ProSeg", rater_ids: Any, key: Any) -> Any:
    """tau (B or 1, S, T) ~ q(tau|r) for raters (B or 1, S); draw s is shared by the batch."""
    draws = model.preference.q_tau().sample(ops.shape(rater_ids)[1], key)
    chosen = ops.one_hot(rater_ids, len(model.raters))
    return ops.sum(draws[None] * chosen[..., None], axis=2)


def fixed_tau(model: "ProSeg") -> Any:
    """tau (M, R, T) of the M = `mean_samples` draws behind means and variances."""
    return model.preference.q_tau().sample(model.settings.mean_samples, key_of(FIXED_SEED, TAU))


def fixed_noise(model: "ProSeg", grid: Any) -> Any:
    """Their noise of z (M, h, w, D) on its `grid` (h, w), `paired`."""
    draws = model.settings.mean_samples
    return paired(noise_of_z(model, draws, grid, key_of(FIXED_SEED, Z)))


def noise_of_z(model: "ProSeg", draws: Any, grid: Any, key: Any) -> Any:
    """Standard normal noise (`draws`, h, w, D) on the `grid` (h, w) of z."""
    return standard_normal((draws, *grid, model.settings.ambiguity_size), key)


def grid_of(encoded: Any) -> Any:
    """Height and width of z of what `encode_views` gave."""
    return ops.shape(encoded[0][1])[2:4]


def paired(noise: Any) -> Any:
    """`noise` (M, ...) with its first half negated in place of its second, of mean square 1.

    What noise changes in proportion cancels in a mean over such pairs (antithetic variates), and
    in a variance over them it has its part to expect: so a few draws do for many. Of every image
    alike, they would err alike, too.
    """
    count = ops.shape(noise)[0]
    half = (count + 1) // 2
    pairs = ops.concatenate([noise[:half], -noise[: count - half]], axis=0)
    return pairs / ops.sqrt(ops.mean(ops.square(pairs), axis=0, keepdims=True))


def key_of(seed: int, use: int) -> Any:
    """The pair of integers that seeds one draw; seeds may have 42 bits, no more."""
    high = seed // 2**31 % 2**11
    return ops.convert_to_tensor(np.array([seed % 2**31, high * 2**20 + use], "int32"))
