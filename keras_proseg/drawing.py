"""Draws of tau, z and masks as tensors, for one graph each. A part of `ProSeg`."""

from typing import Any

import numpy as np
from keras import ops

from keras_proseg.distributions import standard_normal

FIXED_SEED = 752  # of the latents behind means and variances


class Drawing:
    """What `Sampling` compiles, over `encode` and `decode`; draws are shared by the batch."""

    standard_normal = staticmethod(standard_normal)

    def rater_moments(self: Any, image: Any) -> tuple[Any, Any]:
        """Mean and variance of each rater's probabilities, both (B, R, H, W, K) tensors."""
        draws = self.settings.mean_samples
        image, features, heads = self.encode_raw(image)
        tau = self.preference.q_tau().sample(draws, key_of(FIXED_SEED, 0))
        moments = []
        for rater in range(len(self.raters)):
            key, ids = key_of(FIXED_SEED, 1), np.full(draws, rater)
            z = self._draw_z(heads, ids, key, 1.0, in_pairs=True)
            probability = ops.sigmoid(self.decode(image, features, z, tau[None, :, rater]))
            moments.append((ops.mean(probability, axis=1), ops.var(probability, axis=1)))
        means, variances = zip(*moments, strict=True)
        return ops.stack(means, axis=1), ops.stack(variances, axis=1)

    def draw_encoded(
        self: Any,
        image: Any,
        features: Any,
        heads: Any,
        rater_ids: Any,
        tau: Any,
        key: Any,
        ambiguity_scale: Any,
        in_pairs: bool = False,
    ) -> Any:
        """Probabilities (B, S, H, W, K) of what `encode_raw` gave, for draws of raters (S,).

        Args:
            image: (B, H, W, C), for its size.
            features: of the padded image.
            heads: of q(z|x), of the padded image.
            rater_ids: (S,).
            tau: (1, S, T).
            key: seeds the noise of z.
            ambiguity_scale: factor on that noise.
            in_pairs: `paired` noise, to average over, instead of independent draws.
        """
        z = self._draw_z(heads, rater_ids, key, ambiguity_scale, in_pairs)
        return ops.sigmoid(self.decode(image, features, z, tau))

    def draw_pairs(self: Any, *encoded: Any) -> Any:
        """`draw_encoded` of `in_pairs`."""
        return self.draw_encoded(*encoded, in_pairs=True)

    def draw_tau(self: Any, rater_ids: Any, key: Any) -> Any:
        """tau (B or 1, S, T) ~ q(tau|r) for raters (B or 1, S); draw s is shared by the batch."""
        draws = self.preference.q_tau().sample(ops.shape(rater_ids)[1], key)
        chosen = ops.one_hot(rater_ids, len(self.raters))
        return ops.sum(draws[None] * chosen[..., None], axis=2)

    def encode_raw(self: Any, image: Any) -> tuple[Any, Any, Any]:
        """The raw image as a tensor, with its features and heads."""
        image = ops.cast(image, "float32")
        features, heads = self.encode(image)
        return image, features, heads

    def _draw_z(
        self: Any, heads: Any, rater_ids: Any, key: Any, scale: Any, in_pairs: bool = False
    ) -> Any:
        """z (B, S, h, w, D) for draws of raters `rater_ids` (S,)."""
        shape = (ops.shape(rater_ids)[0], *ops.shape(heads)[2:4], self.settings.ambiguity_size)
        noise = standard_normal(shape, key)
        noise = (paired(noise) if in_pairs else noise)[None] * scale
        if self.settings.ambiguity_per_rater:
            heads = ops.take(heads, rater_ids, axis=1)
        return self.ambiguity.answering_z(heads).sample(noise)


def paired(noise: Any) -> Any:
    """`noise` (M, ...) with its first half negated in place of its second.

    What noise changes in proportion cancels in a mean over such pairs (antithetic variates), so
    that a few draws do for many.
    """
    count = ops.shape(noise)[0]
    half = (count + 1) // 2
    return ops.concatenate([noise[:half], -noise[: count - half]], axis=0)


def key_of(seed: int, salt: int) -> Any:
    """The pair of integers that seeds one draw."""
    return ops.convert_to_tensor(np.array([seed % 2**31, salt], "int32"))
