"""The presets, and configurations made from them."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from keras_proseg.config.checks import check_choice, check_fields
from keras_proseg.config.intensity import IntensityConfig
from keras_proseg.config.model import ModelConfig
from keras_proseg.config.training import TRAIN_CHOICES, TrainConfig
from keras_proseg.errors import ProSegError, UsageError

MIRRORED_VIEWS = 4  # of a network that is trained with mirrored images

# The released settings (arXiv 2512.00748 and its code) with its defects mended: a prior of N(0, I),
# logits into the cross-entropy, a light image decoder, any number of raters and channels.
PUBLISHED_MODEL: dict[str, Any] = {
    "backbone": "resnet34",
    "preference_start": (1.0, 0.1),
    "preference_mode": "concat",
    "shortcut": "first",
    "ambiguity_size": 16,
    "ambiguity_stride": 1,
    "ambiguity_per_rater": True,
    "ambiguity_temperature": 1.0,
    "decoder_features": False,
    "width": 16,
    "decoder_width": 16,
    "nll_weight": 0.0,
    "dice_weight": 1.0,
    "energy_weight": 0.0,
    "draws_per_step": 1,
    "views": 1,
    "dice_background": True,
    # The released MSE is of pixels in 0..1, whose deviation is about 1/4 where ours is 1, and is
    # divided by the batch of 16 once more: 2 * (1/4)^2 / 16 of (x - mean)^2 / 2.
    "image_weight": 1 / 128,
    "rater_weight": 1.0,
    "beta_tau": 0.1,
    "beta_z": 0.1,
    "mask_l2": 1e-5,
    "raters_per_step": 1,
}


PUBLISHED_TRAIN: dict[str, Any] = {
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 5e-5,
    "preference_learning_rate": 2e-3,
    "weight_decay": 0.0,
    "warmup": 0,
    "clip": None,
    "rotation": "quarter",
    "zoom": 0.0,
}


def preset_configs(preset: str, **changes: Any) -> tuple[ModelConfig, TrainConfig]:
    """The preset's two configurations, with `changes` by field name on top.

    None keeps the preset where it is no value of the field.

    Raises:
        UsageError: an unknown preset, field or choice.
    """
    check_choice("preset", preset, TRAIN_CHOICES["preset"])
    of_model, of_train = (PUBLISHED_MODEL, PUBLISHED_TRAIN) if preset == "published" else ({}, {})
    types = {f.name: str(f.type) for f in (*fields(ModelConfig), *fields(TrainConfig))}
    changes = {
        name: value
        for name, value in changes.items()
        if value is not None or "None" in types.get(name, "")
    }
    model_names = {f.name for f in fields(ModelConfig)}
    train_names = {f.name for f in fields(TrainConfig)}
    unknown = sorted(set(changes) - model_names - train_names)
    if unknown:
        raise UsageError(f"Settings must be known fields. Received: {', '.join(unknown)}")
    model = of_model | {k: v for k, v in changes.items() if k in model_names}
    train = of_train | {k: v for k, v in changes.items() if k in train_names}
    train_config = TrainConfig(**{"preset": preset} | train)
    if train_config.augment:  # else left and right may tell something
        model.setdefault("views", MIRRORED_VIEWS)
    return ModelConfig(**model), train_config


def model_config(
    raters: Sequence[str] | None,
    config: ModelConfig | dict[str, Any] | None,
    changes: dict[str, Any],
) -> ModelConfig:
    """`config` (or its dict) with `changes` on top, and the raters' names, which go before its own.

    Raises:
        UsageError: an unknown field or choice.
        ProSegError: no raters.
    """
    given = to_dict(config) if isinstance(config, ModelConfig) else config
    base = dict(given or {})
    base |= changes | {"intensity": _intensity(base.get("intensity"), changes.get("intensity"))}
    if raters is not None:
        base["raters"] = raters
    if base.get("raters") is None:
        raise ProSegError("`raters` must be a sequence of names. Received: none")
    check_fields(ModelConfig, base, "Settings of a model must be fields of `ModelConfig`.")
    return ModelConfig(**base)


def _intensity(own: Any, change: Any) -> Any:
    """`own`, with the fields of `change` where that is a dict of the same mode."""
    own = to_dict(own) if isinstance(own, IntensityConfig) else own
    if change is None:
        return {} if own is None else own
    if isinstance(own, dict) and isinstance(change, dict):
        mode = own.get("mode")
        return own | change if change.get("mode", mode) == mode else change
    return change


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value  # NumPy's numbers
