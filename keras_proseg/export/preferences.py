"""Whose draws they are: raters and tau of each image's samples, from its own seed."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_proseg.sampling.latents import TAU

# Second half of a key, beside TAU and Z: what its random numbers are for.
ORDER, TURNS, NAMES = -1, -2, -3


class Preferences:
    """Raters and tau of S draws.

    Of a given rater they are those of `ProSeg.sample`. Without one, each rater draws as often as
    any other (to one) as there, but in another order, TensorFlow's random numbers being others.

    Args:
        model: a `ProSeg`.
        num_samples: S.
    """

    def __init__(self, model: Any, num_samples: int) -> None:
        self.model, self.num_samples = model, num_samples
        self.num_raters = len(model.raters)

    def draw(self, rater: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Raters (B, S) and tau (B, S, T) for rater (B,), -1 draws raters too, and seed (B,)."""
        law = self._from_prior if self.model.settings.diverse == "prior" else self._from_mixture
        tau = tf.TensorSpec((self.num_samples, self.model.settings.tau_size))
        return each(law, (rater, seed), (tf.TensorSpec((self.num_samples,), tf.int32), tau))

    def _from_mixture(self, given: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """-1: every rater as often as any other, to one, in random order."""
        rater, seed = given
        order = tf.argsort(tf.random.stateless_uniform((self.num_raters,), key(seed, ORDER)))
        turns = tf.argsort(tf.random.stateless_uniform((self.num_samples,), key(seed, TURNS)))
        anyone = tf.gather(order, turns % self.num_raters)
        ids = tf.where(rater < 0, anyone, tf.fill((self.num_samples,), rater))
        return ids, self._tau_of(ids, seed)

    def _from_prior(self, given: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """-1: tau from its prior, and p(r|tau) names the rater."""
        rater, seed = given
        prior = self.model.preference.p_tau().sample(self.num_samples, key(seed, TAU))
        shape = (self.num_samples, self.num_raters)
        uniform = tf.random.stateless_uniform(shape, key(seed, NAMES), minval=1e-7)
        gumbel = -tf.math.log(-tf.math.log(uniform))
        named = tf.argmax(self.model.classifier(prior) + gumbel, axis=1, output_type=tf.int32)
        own = tf.fill((self.num_samples,), tf.maximum(rater, 0))
        ids = tf.where(rater < 0, named, own)
        return ids, tf.where(rater < 0, prior, self._tau_of(own, seed))

    def _tau_of(self, ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draws = self.model.preference.q_tau().sample(self.num_samples, key(seed, TAU))
        return tf.gather(draws, ids, axis=1, batch_dims=1)


def key(seed: Any, use: Any) -> tf.Tensor:
    """A key of stateless random numbers."""
    return tf.stack([tf.cast(seed, tf.int32), tf.cast(use, tf.int32)])


def each(function: Callable, values: Any, spec: Any = None) -> Any:
    """`function` of every row, so that a row's answer does not depend on the others."""
    return tf.map_fn(function, values, fn_output_signature=spec or tf.float32)
