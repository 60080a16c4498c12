"""ProSeg in Keras 3: what a given rater would draw, and what anyone might draw.

Importing the package imports nothing heavy; each public name loads when first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Dataset": "keras_proseg.data.dataset",
    "ExportConfig": "keras_proseg.config",
    "ModelConfig": "keras_proseg.config",
    "ProSeg": "keras_proseg.model",
    "ProSegError": "keras_proseg.errors",
    "TrainConfig": "keras_proseg.config",
    "UsageError": "keras_proseg.errors",
    "add_rater": "keras_proseg.new_rater",
    "evaluate": "keras_proseg.evaluation",
    "export_saved_model": "keras_proseg.export",
    "load": "keras_proseg.pretrained",
    "load_dataset": "keras_proseg.data.sources",
    "resume": "keras_proseg.training",
    "train": "keras_proseg.training",
}

__all__ = sorted([*_NAMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return __all__
