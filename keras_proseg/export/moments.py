"""Each rater's mean and variance, draw by draw: what the maps of an image come from."""

from functools import partial
from typing import Any

import tensorflow as tf

from keras_proseg.export.passes import PassSizes, flat, in_passes, unflat
from keras_proseg.sampling.drawing import probability
from keras_proseg.sampling.latents import fixed_noise, fixed_tau, grid_of
from keras_proseg.sampling.views import mirrored


class Moments:
    """Mean and variance of each rater's probabilities over fixed draws of tau and z.

    All raters share a draw's z, so that it is worked once for them, as the features are.

    Args:
        model: a `ProSeg`.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.draws = model, model.settings.mean_samples
        self.num_raters, self.num_classes = len(model.raters), model.settings.num_classes
        # (M, R, T), as NumPy: a constant of every graph, never one it captures.
        self.tau = fixed_tau(model).numpy()

    def __call__(self, image: tf.Tensor, encoded: Any) -> list[tf.Tensor]:
        """Mean and variance (B, R, H, W, K) of image (B, H, W, C) by its `encode_views`."""

        def some_raters(first: Any, last: Any) -> list[tf.Tensor]:
            return [flat(moment) for moment in self._of_raters(image, encoded, first, last)]

        step = PassSizes(self.model, image, self.num_raters).draws
        spec = tf.TensorSpec((None, None, None, self.num_classes))
        moments = in_passes(self.num_raters, step, some_raters, [spec, spec])
        return [unflat(moment, self.num_raters) for moment in moments]

    def _of_raters(self, image: tf.Tensor, encoded: Any, first: Any, last: Any) -> Any:
        """Mean and variance of the raters `first` to `last`, by Welford's recurrence."""
        tau = tf.constant(self.tau)[:, None, first:last]

        def of_view(view: int, tau: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
            features, heads = encoded[view]
            own = heads[:, first:last] if self.model.settings.ambiguity_per_rater else heads
            seen = probability(self.model, image, features, own, noise, tau)
            return mirrored(seen, view)

        def add(k: Any, noise: tf.Tensor, mean: tf.Tensor, spread: tf.Tensor) -> Any:
            views = [partial(of_view, view, tau[k], noise) for view in range(len(encoded))]
            answer = tf.switch_case(tf.convert_to_tensor(k % len(views)), views)
            away = answer - mean
            mean += away / tf.cast(k + 1, tf.float32)
            return mean, spread + away * (answer - mean)

        size = [self.num_classes]
        shape = tf.concat([[tf.shape(image)[0], last - first], tf.shape(image)[1:3], size], axis=0)
        mean, spread = self._over_draws(self.noise(encoded), add, [tf.zeros(shape)] * 2)
        return mean, spread / self.draws

    def noise(self, encoded: Any) -> tf.Tensor:
        """The noise of z (M, h, w, D) of all draws, whose pairs must not fall apart."""
        return fixed_noise(self.model, grid_of(encoded))

    def _over_draws(self, noise: tf.Tensor, add: Any, moments: list[tf.Tensor]) -> Any:
        free = tf.TensorShape((None, None, None, None, self.num_classes))
        shapes = (tf.TensorShape(()), *(free for _ in moments))

        def one(k: Any, *moments: Any) -> Any:
            return k + 1, *add(k, noise[k], *moments)

        def goes_on(k: Any, *_: Any) -> Any:
            return k < self.draws

        # One at a time: parallel iterations would hold as many draws in memory.
        return tf.while_loop(goes_on, one, (0, *moments), shapes, parallel_iterations=1)[1:]
