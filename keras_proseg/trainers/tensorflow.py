"""The training step on TensorFlow."""

from typing import Any

import keras
import tensorflow as tf

from keras_proseg.runtime.tensorflow import MOST_PARTS
from keras_proseg.trainers.tensorflow_adam import Adam as Adam

ZERO = tf.UnconnectedGradients.ZERO


class TrainStep:
    """One optimiser step on the bound; a step that is not finite changes nothing but its count."""

    def make_train_function(self: Any, force: bool = False) -> None:
        """Keras' own, but as one graph instead of one in another where a call is one step.

        With two, `fit` holds up to 70 MB more.
        """
        with self.distribute_strategy.scope():
            self.optimizer.build(self.trainable_variables)  # else the graph is traced twice
        several = self.distribute_strategy.num_replicas_in_sync > 1 or self.steps_per_execution > 1
        if self.run_eagerly or self.jit_compile or several:
            keras.Model.make_train_function(self, force)
        elif self.train_function is None or force:
            self.train_function = _one_step(self.train_step)

    def train_step(self: Any, batch: Any) -> dict[str, Any]:
        """Takes a batch {image, masks, annotated}; returns the trackers."""
        weights = self.trainable_variables
        with tf.GradientTape() as tape:
            terms, loss = self.compute_terms_and_loss(batch, training=True)
            share = loss / self.replica()[1]
            scaled = self.optimizer.scale_loss(share)
        # TensorFlow makes zeros of its own variables only, not of Keras'.
        sources = [weight.value for weight in weights]
        gradients = tape.gradient(scaled, sources, unconnected_gradients=ZERO)
        good = self._apply_if_finite(share, gradients)
        self.count_step(good)
        return self.record(terms, loss, good)

    def test_step(self: Any, batch: Any) -> dict[str, Any]:
        """The same trackers, without a step and with latents of a fixed seed."""
        return self.record(*self.compute_terms_and_loss(batch, training=False))

    def sync_state(self: Any) -> None:
        """Nothing to do: the variables hold the state of a running `fit`."""

    def replica(self: Any) -> tuple[Any, int]:
        """Which replica this is, and of how many; each sees its share of the batch, in order."""
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return 0, 1
        return context.replica_id_in_sync_group, context.num_replicas_in_sync

    def parts_of(self: Any, size: Any) -> int:
        """Into how many parts a step's batch falls, for as many threads (`spread_operations`)."""
        threads = tf.config.threading
        alone = threads.get_intra_op_parallelism_threads() != 1
        if alone or self.jit_compile or self.replica()[1] > 1 or not isinstance(size, int):
            return 1
        return max(1, min(threads.get_inter_op_parallelism_threads(), size, MOST_PARTS))

    def _apply_if_finite(self: Any, loss: Any, gradients: Any) -> Any:
        """Applies the gradients if they and the loss are finite; gives whether they are."""
        replica, count = self.replica()
        if count == 1:
            good = _finite(loss, gradients)
            done = good | self.scales_loss
            tf.cond(done, lambda: self._apply(gradients), lambda: tf.constant(0))
            return good
        context = tf.distribute.get_replica_context()
        loss, *gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])
        good = _finite(loss, gradients)
        # The optimizer clips on each replica and adds up then: one of them brings it all.
        brought = [tf.where(replica == 0, g, tf.zeros_like(g)) for g in gradients]
        context.merge_call(self._apply_everywhere, args=(good | self.scales_loss, brought))
        return good

    def _apply_everywhere(self: Any, strategy: Any, good: Any, gradients: Any) -> None:
        # A replica may not enter a condition that gathers gradients; all of them together may.
        def apply() -> tf.Tensor:
            strategy.extended.call_for_each_replica(self._apply, args=(gradients,))
            return tf.constant(0)

        agreed = strategy.experimental_local_results(good)[0]
        tf.cond(agreed, apply, lambda: tf.constant(0))

    def _apply(self: Any, gradients: Any) -> tf.Tensor:
        self.optimizer.apply(gradients, self.trainable_variables)
        return tf.constant(0)


def _one_step(train_step: Any) -> Any:
    """`train_step` of an iterator's next batch, as `fit` and `train_on_batch` call it."""
    options = {"autograph": False, "reduce_retracing": True}
    of_batch = tf.function(train_step, **options)

    @tf.function(**options)
    def of_iterator(iterator: Any) -> Any:
        batch = iterator.get_next()
        # Else counters would move before a batch turns out to be none.
        with tf.control_dependencies(tf.nest.flatten(batch)):
            return train_step(batch)

    def function(iterator: Any) -> Any:
        if not isinstance(iterator, tf.data.Iterator):
            return of_batch(next(iterator))
        try:
            return of_iterator(iterator)
        except tf.errors.OutOfRangeError:
            raise StopIteration from None

    return function


def _finite(loss: Any, gradients: Any) -> Any:
    return tf.math.is_finite(loss) & tf.math.is_finite(tf.linalg.global_norm(gradients))
