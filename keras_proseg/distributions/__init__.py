"""Distributions with one face (`sample`, `kl`, `mean`) over the backend's well-kept library."""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_proseg.distributions.tensorflow import DiagonalNormal, Dirichlet, standard_normal
else:
    raise ImportError(
        "keras_proseg runs on the TensorFlow backend: expected KERAS_BACKEND=tensorflow. "
        f"Received: {keras.backend.backend()}"
    )

__all__ = ["DiagonalNormal", "Dirichlet", "standard_normal"]
