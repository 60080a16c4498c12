"""Starts the backend without the lines that its native libraries print on standard error."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from keras_proseg.backends import choose_backend


def start_backend(name: str | None) -> None:
    """Imports Keras and wakes the backend, quietly; Python's own errors are not hidden.

    Args:
        name: the backend, as `choose_backend` takes it.
    """
    choose_backend(name)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    with silent_descriptor(2), ending_at_once():
        import keras

        from keras_proseg.runtime import spread_operations

        spread_operations()  # has to come before it wakes
        keras.ops.zeros(1)  # devices are looked for, and lacking ones reported, at the first use


def backend_of(run: str) -> str | None:
    """The backend that a run was begun on, so that it goes on with the same draws.

    None where `KERAS_BACKEND` names one.
    """
    from keras_proseg.runs import Run

    return None if os.environ.get("KERAS_BACKEND") else Run.open(run).backend


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Ends the process at Ctrl-C and SIGTERM without an exception.

    JAX collects garbage in a callback of Python's, in which an exception is dropped: the command
    would go on. Nothing is half-written yet.
    """
    before = {}
    with suppress(ValueError):  # signals can be set in the main thread only
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda number, _: os._exit(128 + number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
