"""The training step on PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import torch

from keras_proseg.batch import batch_of
from keras_proseg.errors import UsageError

# Here it means torch.compile, which this step has not been run under.
JIT_COMPILE = False
SAVES_PASSES = False  # it gains nothing
Adam = keras.optimizers.Adam


def compiled(function: Any, model: Any, **fixed: Any) -> Any:
    """`function` of `model` with arguments `fixed`, without the tape; PyTorch runs it eagerly."""

    def call(*arguments: Any) -> Any:
        with torch.no_grad():
            return function(model, *arguments, **fixed)

    return call


def reused(function: Any, model: Any) -> Any:
    """What others call several times: as it is, with gradients if they are asked for."""
    return partial(function, model)


@contextmanager
def data_parallel(count: int) -> Iterator[None]:
    """Not on PyTorch.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"`devices` must be 1 on PyTorch; TensorFlow and JAX share. Received: {count}")
    yield


def spread_operations() -> None:
    """Nothing to do: only TensorFlow works on parts of a batch beside each other."""


class TrainStep:
    """One optimiser step on the bound; a step that is not finite changes nothing but its count."""

    def train_step(self: Any, batch: Any) -> dict[str, Any]:
        """Takes a batch {image, masks, annotated}; returns the trackers."""
        batch = batch_of(self, batch)
        self.zero_grad()
        terms, loss = self.compute_terms_and_loss(batch, training=True)
        self.optimizer.scale_loss(loss).backward()
        weights = self.trainable_variables
        gradients = [_gradient(weight.value) for weight in weights]
        with torch.no_grad():
            good = bool(torch.isfinite(loss)) and all(
                bool(torch.isfinite(gradient).all()) for gradient in gradients
            )
            if good:
                self.optimizer.apply(gradients, weights)
            self.count_step(good)
            return self.record(terms, loss, good)

    def test_step(self: Any, batch: Any) -> dict[str, Any]:
        """The same trackers, without a step and with latents of a fixed seed."""
        batch = batch_of(self, batch)
        with torch.no_grad():
            return self.record(*self.compute_terms_and_loss(batch, training=False))

    def sync_state(self: Any) -> None:
        """Nothing to do: the variables hold the state of a running `fit`."""

    def replica(self: Any) -> tuple[int, int]:
        """Which replica this is, and of how many: one process, one device."""
        return 0, 1

    def parts_of(self: Any, size: Any) -> int:
        """Into how many parts a step's batch falls: one operation runs at a time."""
        return 1


def _gradient(weight: Any) -> Any:
    """Zeros for a weight that the loss does not reach."""
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
