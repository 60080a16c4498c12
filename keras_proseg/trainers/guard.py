"""Stops a training whose steps are not finite again and again."""

import math
from typing import Any

import keras
from keras import ops

from keras_proseg.errors import ProSegError


class NonFiniteGuard(keras.callbacks.Callback):
    """Raises when, at a look every `limit` steps, the last `limit` or more were skipped.

    An epoch of nothing but skipped steps has no means: they become nan for the callbacks after
    this one, to which the 0 of an empty mean would be the best epoch of all.

    Raises:
        ProSegError: with the number of steps in a row.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.steps, self.of_epoch = limit, 0, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the epoch's steps from 0."""
        self.of_epoch = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks every `limit` steps, for looking waits until the step is computed."""
        looked = self.steps // self.limit
        self.steps += batch + 1 - self.of_epoch  # more than one with `steps_per_execution`
        self.of_epoch = batch + 1
        if self.steps // self.limit > looked:
            self._look()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks whatever the number of steps."""
        self._look()
        bad = int(ops.convert_to_numpy(self.model.bad_steps))
        if logs is not None and self.of_epoch <= bad:
            logs |= dict.fromkeys((tracker.name for tracker in self.model.metrics), math.nan)

    def _look(self) -> None:
        self.model.sync_state()
        bad = int(ops.convert_to_numpy(self.model.bad_steps))
        if bad >= self.limit:
            raise _non_finite(f"{bad} non-finite steps in a row")


def check_any_step(model: Any) -> None:
    """Raises where every step so far was skipped, of however few.

    Raises:
        ProSegError: the model is what it was before.
    """
    skipped = int(ops.convert_to_numpy(model.steps_skipped))
    if skipped and skipped == model.steps_done:
        raise _non_finite(f"{skipped} steps, none of them finite")


def _non_finite(received: str) -> ProSegError:
    text = "The loss must be finite: masks are 0 to 1; lower the learning rate, or look at the"
    return ProSegError(f"{text} images' range. Received: {received}")
