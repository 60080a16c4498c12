"""The training step on TensorFlow."""

from typing import Any

import keras
import tensorflow as tf

ZERO = tf.UnconnectedGradients.ZERO


def compiled(function: Any) -> Any:
    """`function` as one graph per rank and dtype; about ten times faster than eager calls."""
    return tf.function(function, reduce_retracing=True)


class TrainStep:
    """One optimiser step on the bound; a step that is not finite changes nothing but its count."""

    def train_step(self: Any, batch: Any) -> dict[str, Any]:
        """Takes a batch {image, masks, annotated}; returns the trackers."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        weights = self.trainable_variables
        with tf.GradientTape() as tape:
            terms, loss = self.compute_terms_and_loss(batch, training=True)
            scaled = self.optimizer.scale_loss(loss)
        # TensorFlow makes zeros of its own variables only, not of Keras'.
        sources = [weight.value for weight in weights]
        gradients = tape.gradient(scaled, sources, unconnected_gradients=ZERO)
        good = tf.math.is_finite(loss) & tf.math.is_finite(tf.linalg.global_norm(gradients))
        tf.cond(good, lambda: self._apply(gradients, weights), lambda: tf.constant(0))
        self.steps_seen.assign_add(1)
        self.steps_skipped.assign_add(tf.cast(~good, tf.int32))
        self.bad_steps.assign((self.bad_steps + 1) * tf.cast(~good, tf.int32))
        return self.record(terms, loss, good)

    def test_step(self: Any, batch: Any) -> dict[str, Any]:
        """The same trackers, without a step and with latents of a fixed seed."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        return self.record(*self.compute_terms_and_loss(batch, training=False))

    def _apply(self: Any, gradients: Any, weights: Any) -> tf.Tensor:
        self.optimizer.apply(gradients, weights)
        return tf.constant(0)
