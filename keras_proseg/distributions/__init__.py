"""Distributions with one face (`sample`, `kl`, `mean`) over the backend's well-kept library."""

from importlib import import_module
from typing import Any

import keras

from keras_proseg.backends import check_installed

check_installed(keras.backend.backend())  # Keras may run where the distributions' library is absent
_library = import_module(f"keras_proseg.distributions.{keras.backend.backend()}")

DiagonalNormal: Any = _library.DiagonalNormal
Dirichlet: Any = _library.Dirichlet
standard_normal: Any = _library.standard_normal

__all__ = ["DiagonalNormal", "Dirichlet", "standard_normal"]
