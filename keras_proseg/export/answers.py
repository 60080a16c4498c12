"""What an exported model answers, as TensorFlow graphs without this package or TFP at load time."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_proseg.export.moments import Moments
from keras_proseg.export.passes import PassSizes, flat, in_passes, unflat
from keras_proseg.export.preferences import Preferences, each
from keras_proseg.sampling.drawing import (
    drawn,
    encode_views,
    law_of_total_variance,
    rater_moments,
)
from keras_proseg.sampling.latents import Z, grid_of, noise_of_z

MAPS = ("probability", "total", "between_rater", "boundary")


class Answers:
    """Means, maps and samples of a trained model, dynamic in batch, height and width.

    They go through the model's `encode` and `decode`, image by image as far as random numbers are
    concerned: each image has its own seed.

    Args:
        model: a `ProSeg`.
        num_samples: S of `samples`.
    """

    def __init__(self, model: Any, num_samples: int) -> None:
        self.model, self.num_samples = model, num_samples
        self.preferences = Preferences(model, num_samples)
        self.num_classes = model.settings.num_classes
        self.moments = Moments(model)
        self.mean_draws = model.settings.mean_samples

    def maps(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Image (B, H, W, C) to `probability`, `total`, `between_rater`, `boundary`: (B, H, W, K).

        The law of total variance, raters uniform; as `ProSeg.uncertainty`.
        """

        def at_once(image: tf.Tensor) -> Any:
            return maps_of(*rater_moments(self.model, image))

        def draw_by_draw(image: tf.Tensor) -> Any:
            return maps_of(*self.moments(image, self._encoded(image, self.mean_draws)))

        specs = {name: self._spec(3) for name in MAPS}
        return tf.cond(
            PassSizes(self.model, image, self.mean_draws).fits_at_once,
            lambda: self._over_images(image, self.mean_draws, at_once, specs),
            lambda: self._over_images(image, len(self.model.raters), draw_by_draw, specs),
        )

    def mean_of(self, image: tf.Tensor, rater: tf.Tensor) -> tf.Tensor:
        """E[p | rater] (B, H, W, K) of image (B, H, W, C) for rater (B,); -1 is everyone's mean."""

        def one_pass(image: tf.Tensor, rater: tf.Tensor) -> tf.Tensor:
            encoded = self._encoded(image, self.mean_draws)
            ids = tf.maximum(rater, 0)
            tau = tf.transpose(tf.gather(self.moments.tau, ids, axis=1), (1, 0, 2))
            ids = tf.repeat(ids[:, None], self.mean_draws, axis=1)
            noise = self.moments.noise(encoded)[None]
            own = self.decoded(image, encoded, ids, tau, lambda some: noise[:, some])
            own = tf.reduce_mean(own, axis=1)

            def with_everyone() -> tf.Tensor:
                everyone = tf.reduce_mean(self.moments(image, encoded)[0], axis=1)
                return tf.where(rater[:, None, None, None] < 0, everyone, own)

            return tf.cond(tf.reduce_any(rater < 0), with_everyone, lambda: own)

        # Everyone's mean is split over the raters as others are over the draws.
        most = max(self.mean_draws, len(self.model.raters))
        return self._over_images(image, most, one_pass, self._spec(3), rater)

    def samples(self, image: tf.Tensor, rater: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Probabilities (B, S, H, W, K) for rater (B,), -1 draws raters, and seed (B,)."""

        def one_pass(image: tf.Tensor, rater: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            ids, tau = self.preferences.draw(rater, seed)
            encoded = self._encoded(image, self.num_samples)

            def noise(some: slice) -> tf.Tensor:
                grid = grid_of(encoded)
                keys = tf.stack([seed, tf.fill(tf.shape(seed), Z + some.start)], axis=1)
                count = some.stop - some.start
                return each(lambda k: noise_of_z(self.model, count, grid, k), keys)

            return self.decoded(image, encoded, ids, tau, noise)

        return self._over_images(image, self.num_samples, one_pass, self._spec(4), rater, seed)

    def decoded(
        self, image: tf.Tensor, encoded: Any, ids: tf.Tensor, tau: tf.Tensor, noise: Callable
    ) -> tf.Tensor:
        """Probabilities (B, S, H, W, K), so many draws at a time as memory allows.

        Args:
            image: (B, H, W, C).
            encoded: features and heads of each view, as `encode_views` gives them.
            ids: (B, S) raters of the draws.
            tau: (B, S, T).
            noise: function of a slice of the draws to their standard normal noise
                (B or 1, s, h, w, D).
        """
        draws = tau.shape[1]

        def one_pass(first: Any, last: Any) -> tf.Tensor:
            some = slice(first, last)
            return flat(drawn(self.model, image, encoded, ids[:, some], tau[:, some], noise(some)))

        step = PassSizes(self.model, image, draws).draws
        return unflat(in_passes(draws, step, one_pass, self._spec(3)), draws)

    def _encoded(self, image: tf.Tensor, draws: int) -> Any:
        """Features and heads of each view that `draws` draws are shared among."""
        return encode_views(self.model, image, self.model.settings.views_of(draws))

    def _spec(self, rank: int) -> tf.TensorSpec:
        return tf.TensorSpec((*(None,) * rank, self.num_classes))

    def _over_images(
        self, image: tf.Tensor, draws: int, one_pass: Any, spec: Any, *others: Any
    ) -> Any:
        batch = tf.shape(image)[0]
        # Convolutions refuse an empty batch: one image of zeros goes through instead.
        extra = tf.cast(tf.equal(batch, 0), tf.int32)
        given = [_longer(value, extra) for value in (image, *others)]
        step = PassSizes(self.model, image, draws).images

        def some(first: Any, last: Any) -> Any:
            return one_pass(*(value[first:last] for value in given))

        answers = in_passes(batch + extra, step, some, spec)
        return tf.nest.map_structure(lambda answer: answer[:batch], answers)


def maps_of(mean: tf.Tensor, variance: tf.Tensor) -> dict[str, tf.Tensor]:
    """`law_of_total_variance` by the names that exports have, `MAPS`."""
    maps = law_of_total_variance(mean, variance)
    return {name: maps["mean" if name == "probability" else name] for name in MAPS}


def _longer(values: tf.Tensor, extra: Any) -> tf.Tensor:
    """`values` with `extra` rows of zeros behind."""
    return tf.pad(values, [[0, extra], *([0, 0] for _ in values.shape[1:])])
