"""What a training sets of Keras and of random numbers, and sets back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def random_seed(seed: int) -> Iterator[None]:
    """Weights made inside start as `seed` says; the caller's random numbers go on as they were."""
    before, before_numpy = random.getstate(), np.random.get_state()
    # Keras' own function would import TensorFlow, on any backend where it is installed; all that
    # weights ask for is Python's generator.
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


@contextmanager
def precision_of(policy: str) -> Iterator[None]:
    """Layers made inside compute as `policy` says."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
