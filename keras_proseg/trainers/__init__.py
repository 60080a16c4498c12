"""`train_step` for the backend in use, chosen once."""

from keras_proseg.trainers.guard import NonFiniteGuard
from keras_proseg.trainers.tensorflow import TrainStep, compiled

__all__ = ["NonFiniteGuard", "TrainStep", "compiled"]
