"""Stops a training whose steps are not finite again and again."""

from typing import Any

import keras
from keras import ops

from keras_proseg.errors import ProSegError


class NonFiniteGuard(keras.callbacks.Callback):
    """Raises once `limit` steps in a row were skipped.

    Raises:
        ProSegError: with the number of steps in a row.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the count that `train_step` keeps."""
        bad = int(ops.convert_to_numpy(self.model.bad_steps))
        if bad >= self.limit:
            raise ProSegError(
                "The loss must be finite: lower the learning rate or look at the images' range. "
                f"Received: {bad} non-finite steps in a row"
            )
