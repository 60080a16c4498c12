"""`train_step` for the backend in use, chosen once."""

from importlib import import_module
from typing import Any

import keras

from keras_proseg.trainers.guard import NonFiniteGuard, check_any_step

_trainer = import_module(f"keras_proseg.trainers.{keras.backend.backend()}")

Adam: Any = _trainer.Adam
TrainStep: Any = _trainer.TrainStep

__all__ = ["Adam", "NonFiniteGuard", "TrainStep", "check_any_step"]
