"""JAX: programs and devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import keras

from keras_proseg.backends import check_devices

# Without it JAX would run, and compile, one operation at a time.
JIT_COMPILE = True
# XLA fuses by itself, and its transposed convolutions take five times as long on a CPU.
SAVES_PASSES = False


def compiled(function: Any, model: Any, **fixed: Any) -> Any:
    """`function` of `model`, with arguments `fixed`, as one program per shape.

    The weights are arguments of it.
    """

    @jax.jit
    def program(values: Any, *arguments: Any) -> Any:
        with keras.StatelessScope(zip(model.variables, values, strict=True)):
            return function(model, *arguments, **fixed)

    return lambda *arguments: program([v.value for v in model.variables], *arguments)


def reused(function: Any, model: Any) -> Any:
    """What other programs call several times: traced once."""
    return compiled(function, model)


@contextmanager
def data_parallel(count: int) -> Iterator[None]:
    """Models made and fitted inside share each batch among `count` devices (DataParallel).

    Raises:
        UsageError: there are fewer devices.
    """
    names = keras.distribution.list_devices()
    check_devices(count, names)
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names[:count]))
    try:
        yield
    finally:
        keras.distribution.set_distribution(None)


def spread_operations() -> None:
    """Nothing to do: only TensorFlow works on parts of a batch beside each other."""
