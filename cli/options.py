"""Click options made from the configuration's fields: every default and help text lives there."""

import re
import types
import typing
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from keras_proseg.backends import PACKAGES
from keras_proseg.config import (
    DATA_CHOICES,
    EXPORT_CHOICES,
    MODEL_CHOICES,
    TRAIN_CHOICES,
    DataConfig,
    ExportConfig,
    ModelConfig,
    NewRaterConfig,
    TrainConfig,
    preset_configs,
)

MODEL_FIELDS = (
    "backbone", "encoder_weights", "width", "fine_width", "image_decoder", "ambiguity_stride",
    "raters_per_step", "mean_samples", "views", "diverse", "nll_weight", "dice_weight", "beta_tau",
    "beta_z",
)  # fmt: skip
CHOICES = MODEL_CHOICES | DATA_CHOICES | TRAIN_CHOICES
SHOWN: dict[type, Any] = {ModelConfig: preset_configs("default")[0]}  # of a training


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--backend`."""
    text = "For this command [default: $KERAS_BACKEND, or tensorflow]."
    return click.option("--backend", type=click.Choice(list(PACKAGES)), help=text)(command)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--field` for every field of `TrainConfig` and the ones of `ModelConfig` people tune."""
    chosen: list[tuple[type, Any]] = [(TrainConfig, f) for f in fields(TrainConfig)]
    chosen += [(ModelConfig, f) for f in fields(ModelConfig) if f.name in MODEL_FIELDS]
    return _with_options(command, chosen)


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--field` for every field of `DataConfig`."""
    return _with_options(command, [(DataConfig, f) for f in fields(DataConfig)])


def export_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--field` for every field of `ExportConfig`."""
    return _with_options(command, [(ExportConfig, f) for f in fields(ExportConfig)])


def new_rater_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--field` for every field of `NewRaterConfig`."""
    return _with_options(command, [(NewRaterConfig, f) for f in fields(NewRaterConfig)])


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of `settings` that were set; the others keep their defaults."""
    return {name: value for name, value in settings.items() if value is not None}


def _with_options(command: Callable[..., Any], chosen: list[tuple[type, Any]]) -> Any:
    for owner, item in reversed(chosen):
        flag = "--" + item.name.replace("_", "-")
        kind = _type(owner, item.name)
        flag = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        text = _help(owner, item.name)
        command = click.option(flag, type=kind, default=None, help=text)(command)
    return command


def _type(owner: type, name: str) -> Any:
    choices = EXPORT_CHOICES if owner is ExportConfig else CHOICES
    if name in choices:
        return click.Choice([c for c in choices[name] if c])
    kind = typing.get_type_hints(owner)[name]
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return kind


def _help(owner: type, name: str) -> str:
    """The attribute's sentence in the docstring, and its default."""
    texts = "\n".join(base.__doc__ or "" for base in owner.__mro__[:-1])
    found = re.search(rf"\n +{name}: (.*?)(?=\n +\w+: |\n\s*\n|\n\s*$)", texts, re.S)
    text = " ".join(_as_flags(found.group(1), owner).replace("`", "").split()) if found else ""
    default = getattr(SHOWN.get(owner, owner), name)
    return text if default is None else f"{text} [default: {default}]"


def _as_flags(text: str, owner: type) -> str:
    """`text` in which other fields of `owner` are called as they are typed."""
    names = {field.name for field in fields(owner)}

    def flag(found: re.Match[str]) -> str:
        return f"--{found[1].replace('_', '-')}" if found[1] in names else found[0]

    return re.sub(r"`(\w+)`", flag, text)
