"""Every setting of the package with its default, once; standard library only.

`ModelConfig` is what a saved model carries, `TrainConfig` what a run records beside it.
"""

from keras_proseg.config.checks import check_fields, check_whole, plain_seed, with_settings
from keras_proseg.config.data import (
    DATA_CHOICES,
    MAX_READERS,
    DataConfig,
    as_stored,
    check_not_lidc,
    default_rater_order,
    without_lidc,
)
from keras_proseg.config.export import EXPORT_CHOICES, MOST_VERSION, ExportConfig
from keras_proseg.config.intensity import INTENSITY_USED, IntensityConfig
from keras_proseg.config.model import (
    EFFICIENTNET,
    LEAST_CONCENTRATION,
    LOG_SCALE_BOUND,
    MODEL_CHOICES,
    ModelConfig,
    of_saved,
    with_intensity,
)
from keras_proseg.config.new_rater import NewRaterConfig
from keras_proseg.config.phantom import PhantomConfig
from keras_proseg.config.presets import (
    PUBLISHED_MODEL,
    PUBLISHED_TRAIN,
    model_config,
    preset_configs,
    to_dict,
)
from keras_proseg.config.samples import NUM_SAMPLES, SCORED_SAMPLES
from keras_proseg.config.training import DEFAULT_MINUTES, TRAIN_CHOICES, TrainConfig

__all__ = [
    "DATA_CHOICES",
    "DEFAULT_MINUTES",
    "EFFICIENTNET",
    "EXPORT_CHOICES",
    "INTENSITY_USED",
    "LEAST_CONCENTRATION",
    "LOG_SCALE_BOUND",
    "MAX_READERS",
    "MODEL_CHOICES",
    "MOST_VERSION",
    "NUM_SAMPLES",
    "PUBLISHED_MODEL",
    "PUBLISHED_TRAIN",
    "SCORED_SAMPLES",
    "TRAIN_CHOICES",
    "DataConfig",
    "ExportConfig",
    "IntensityConfig",
    "ModelConfig",
    "NewRaterConfig",
    "PhantomConfig",
    "TrainConfig",
    "as_stored",
    "check_fields",
    "check_not_lidc",
    "check_whole",
    "default_rater_order",
    "model_config",
    "of_saved",
    "plain_seed",
    "preset_configs",
    "to_dict",
    "with_intensity",
    "with_settings",
    "without_lidc",
]
