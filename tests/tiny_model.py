"""A tiny model and a batch for it."""

import keras
import numpy as np
from tiny_data import SMALL

from keras_proseg import ProSeg


def batch(size=4, raters=3, pixels=32, seed=0):
    """Noise, and masks of noise, of all raters."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.normal(size=(size, pixels, pixels, 1)).astype("float32"),
        "masks": rng.integers(0, 2, (size, raters, pixels, pixels, 1)).astype("uint8"),
        "annotated": np.ones((size, raters), bool),
    }


def tiny(**settings):
    """A model of three raters, with the same weights every time."""
    keras.utils.set_random_seed(0)
    return ProSeg(raters=["ann", "bob", "cy"], **(SMALL | settings))
