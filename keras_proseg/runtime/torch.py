"""PyTorch: it runs as it is called, on one device."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from keras_proseg.errors import UsageError

# Here it means torch.compile, which this step has not been run under.
JIT_COMPILE = False
SAVES_PASSES = False  # it gains nothing


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
