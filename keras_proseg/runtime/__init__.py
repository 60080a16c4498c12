"""What the backend in use can do, and its tools for it; chosen once."""

from importlib import import_module
from typing import Any

import keras

_runtime = import_module(f"keras_proseg.runtime.{keras.backend.backend()}")

compiled: Any = _runtime.compiled
data_parallel: Any = _runtime.data_parallel
reused: Any = _runtime.reused
spread_operations: Any = _runtime.spread_operations
JIT_COMPILE: bool = _runtime.JIT_COMPILE
SAVES_PASSES: bool = _runtime.SAVES_PASSES

__all__ = [
    "JIT_COMPILE",
    "SAVES_PASSES",
    "compiled",
    "data_parallel",
    "reused",
    "spread_operations",
]
