"""How long a training step takes: a plan in minutes becomes one in steps."""

import statistics
import time
from collections.abc import Callable
from typing import Any

TIMED_STEPS = 40  # of which the first 13 warm up


def seconds_per_step(fit: Callable[[int, Any], Any]) -> float:
    """Median seconds of a step.

    Args:
        fit: trains so many steps, with the callback that it is given.
    """
    timer = _timer()
    fit(TIMED_STEPS, timer)
    return statistics.median(timer.seconds[TIMED_STEPS // 3 :])


def _timer() -> Any:
    import keras

    class StepTimer(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_train_begin(self, logs: Any = None) -> None:
            self.last = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.sync_state()
            _ = self.model.steps_done  # read, for a backend that computes behind the caller
            now = time.perf_counter()
            self.seconds.append(now - self.last)
            self.last = now

    return StepTimer()
