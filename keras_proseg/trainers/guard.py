"""Stops a training whose steps are not finite again and again."""

from typing import Any

import keras
from keras import ops

from keras_proseg.errors import ProSegError


class NonFiniteGuard(keras.callbacks.Callback):
    """Raises when, at a look every `limit` steps, the last `limit` or more were skipped.

    Raises:
        ProSegError: with the number of steps in a row.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.steps = limit, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks every `limit` steps, for looking waits until the step is computed."""
        self.steps += 1
        if self.steps % self.limit == 0:
            self._look()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks whatever the number of steps."""
        self._look()

    def _look(self) -> None:
        self.model.sync_state()
        bad = int(ops.convert_to_numpy(self.model.bad_steps))
        if bad >= self.limit:
            raise ProSegError(
                "The loss must be finite: masks are 0 to 1; lower the learning rate, or look at "
                "the images' range. "
                f"Received: {bad} non-finite steps in a row"
            )
