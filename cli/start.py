"""Starts the backend without the lines that its native libraries print on standard error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from keras_proseg.backends import choose_backend


def start_backend(name: str | None) -> None:
    """Imports Keras and wakes the backend, quietly; Python's own errors are not hidden.

    Args:
        name: the backend, as `choose_backend` takes it.
    """
    choose_backend(name)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    with silent_descriptor(2):
        import keras

        from keras_proseg.runtime import spread_operations

        spread_operations()  # has to come before it wakes
        keras.ops.zeros(1)  # devices are looked for, and lacking ones reported, at the first use


@contextmanager
def silent_descriptor(number: int) -> Iterator[None]:
    """Sends what is written to a file descriptor nowhere.

    No log level reaches these lines: they are printed before TensorFlow sets up its logging.
    """
    kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, number)
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
        os.close(nowhere)
