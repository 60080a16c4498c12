"""ProSeg in Keras 3: what a given rater would draw, and what anyone might draw.

Importing the package imports nothing heavy; each public name loads when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` gives, for who checks types
    from keras_proseg.config import ExportConfig as ExportConfig
    from keras_proseg.config import ModelConfig as ModelConfig
    from keras_proseg.config import TrainConfig as TrainConfig
    from keras_proseg.data.dataset import Dataset as Dataset
    from keras_proseg.data.sources import load_dataset as load_dataset
    from keras_proseg.errors import ProSegError as ProSegError
    from keras_proseg.errors import UsageError as UsageError
    from keras_proseg.evaluation import evaluate as evaluate
    from keras_proseg.export import export_run as export_run
    from keras_proseg.export import export_saved_model as export_saved_model
    from keras_proseg.model import ProSeg as ProSeg
    from keras_proseg.new_rater import add_rater as add_rater
    from keras_proseg.pretrained import load as load
    from keras_proseg.training import resume as resume
    from keras_proseg.training import train as train

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
    "export_run": "keras_proseg.export",
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
