"""Draws of tau, z and masks as tensors, for one graph each. A part of `ProSeg`."""

from typing import Any

import numpy as np
from keras import ops

from keras_proseg.distributions import standard_normal
from keras_proseg.trainers import reused
from keras_proseg.views import among_views, mirrored

FIXED_SEED = 752  # of the latents behind means and variances


class Drawing:
    """What `Sampling` compiles, over `encode` and `decode`; draws are shared by the batch."""

    standard_normal = staticmethod(standard_normal)

    def rater_moments(self: Any, image: Any) -> tuple[Any, Any]:
        """Mean and variance of each rater's probabilities, both (B, R, H, W, K) tensors."""
        draws = self.settings.mean_samples
        encoded = self.encode_views(image, self.settings.views_of(draws))
        tau = self.preference.q_tau().sample(draws, key_of(FIXED_SEED, 0))
        moments = []
        for rater in range(len(self.raters)):
            ids, own = ops.full((draws,), rater, dtype="int32"), tau[None, :, rater]
            key = key_of(FIXED_SEED, 1)
            draw = self.draw_encoded(image, encoded, ids, own, key, 1.0, in_pairs=True)
            moments.append((ops.mean(draw, axis=1), ops.var(draw, axis=1)))
        means, variances = zip(*moments, strict=True)
        return ops.stack(means, axis=1), ops.stack(variances, axis=1)

    def draw(
        self: Any, image: Any, rater_ids: Any, tau_key: Any, *draws: Any, views: int, in_pairs: bool
    ) -> Any:
        """`draw_encoded` of the raw image and tau of the raters (S,).

        One graph, which works on the views and the draws of tau and z beside each other.
        """
        tau = self.draw_tau(rater_ids[None], tau_key)
        encoded = self.encode_views(image, views)
        return self.draw_encoded(image, encoded, rater_ids, tau, *draws, in_pairs=in_pairs)

    def draw_encoded(
        self: Any,
        image: Any,
        encoded: Any,
        rater_ids: Any,
        tau: Any,
        key: Any,
        ambiguity_scale: Any,
        in_pairs: bool = False,
    ) -> Any:
        """Probabilities (B, S, H, W, K) of what `encode_views` gave, for draws of raters (S,).

        Args:
            image: (B, H, W, C), for its size.
            encoded: features and heads of each view, of the padded image; S views at most.
            rater_ids: (S,).
            tau: (1, S, T).
            key: seeds the noise of z.
            ambiguity_scale: factor on that noise.
            in_pairs: `paired` noise, to average over, instead of independent draws.
        """
        draws, grid = ops.shape(rater_ids)[0], ops.shape(encoded[0][1])[2:4]
        noise = standard_normal((draws, *grid, self.settings.ambiguity_size), key)
        noise = (paired(noise) if in_pairs else noise) * ambiguity_scale

        def of_view(view: int, rows: Any) -> Any:
            features, heads = encoded[view]
            if self.settings.ambiguity_per_rater:
                heads = ops.take(heads, ops.take(rater_ids, rows), axis=1)
            z = self.ambiguity.answering_z(heads).sample(ops.take(noise, rows, axis=0)[None])
            return ops.sigmoid(self.decode(image, features, z, ops.take(tau, rows, axis=1)))

        return among_views(draws, len(encoded), of_view)

    def draw_tau(self: Any, rater_ids: Any, key: Any) -> Any:
        """tau (B or 1, S, T) ~ q(tau|r) for raters (B or 1, S); draw s is shared by the batch."""
        draws = self.preference.q_tau().sample(ops.shape(rater_ids)[1], key)
        chosen = ops.one_hot(rater_ids, len(self.raters))
        return ops.sum(draws[None] * chosen[..., None], axis=2)

    def encode_views(self: Any, image: Any, views: int) -> list[Any]:
        """What `encode` gives of the raw image (B, H, W, C), for each of its views."""
        image = ops.cast(image, "float32")
        encode = self._graphs.setdefault("encode", reused(self.encode))
        return [encode(mirrored(image, view)) for view in range(views)]


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
