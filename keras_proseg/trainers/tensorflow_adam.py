"""Adam on TensorFlow in one pass over a variable instead of a dozen."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable("keras_proseg")
class Adam(keras.optimizers.Adam):
    """Keras' own, whose step of a variable is TensorFlow's one operation for it.

    The same steps and state; weight decay is decoupled, as in AdamW. The same name, too: a file
    keeps an optimizer's state under it, where the other backends look for it.

    Args:
        **kwargs: of `keras.optimizers.Adam`.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves `variable` and its two moments."""
        # The moments of several devices are no plain variables.
        if self.amsgrad or self._distribution_strategy.num_replicas_in_sync > 1:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=ops.power(ops.cast(self.beta_1, variable.dtype), step),
            beta2_power=ops.power(ops.cast(self.beta_2, variable.dtype), step),
            lr=ops.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=ops.cast(tf.convert_to_tensor(gradient), variable.dtype),
        )
