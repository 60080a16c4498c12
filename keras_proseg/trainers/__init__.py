"""`train_step` for the backend in use, chosen once."""

from importlib import import_module
from typing import Any

import keras

from keras_proseg.trainers.guard import NonFiniteGuard

_trainer = import_module(f"keras_proseg.trainers.{keras.backend.backend()}")

Adam: Any = _trainer.Adam
TrainStep: Any = _trainer.TrainStep
compiled: Any = _trainer.compiled
data_parallel: Any = _trainer.data_parallel
reused: Any = _trainer.reused
spread_operations: Any = _trainer.spread_operations
JIT_COMPILE: bool = _trainer.JIT_COMPILE
SAVES_PASSES: bool = _trainer.SAVES_PASSES

__all__ = [
    "JIT_COMPILE",
    "SAVES_PASSES",
    "Adam",
    "NonFiniteGuard",
    "TrainStep",
    "compiled",
    "data_parallel",
    "reused",
    "spread_operations",
]
