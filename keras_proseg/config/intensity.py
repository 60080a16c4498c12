"""How raw pixels become the network's input."""

import math
from dataclasses import dataclass, fields
from typing import Any

from keras_proseg.config.checks import check_above_zero, check_choice, check_types
from keras_proseg.errors import UsageError


@dataclass(frozen=True)
class IntensityConfig:
    """How raw pixels become the network's input.

    Attributes:
        mode: `"divide"` (x / scale), `"window"` (clip to center +- width / 2, onto [-1, 1]) or
            `"zscore"` ((x - mean) / std of the training images).
        scale: divisor of `"divide"`.
        center: middle of the window, in HU.
        width: width of the window, in HU.
        mean: subtracted by `"zscore"`.
        std: divides in `"zscore"`.
    """

    mode: str = "zscore"
    scale: float = 255.0
    center: float = -400.0
    width: float = 1600.0
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("intensity.mode", self.mode, ("divide", "window", "zscore"))
        check_above_zero(self, ("scale", "width", "std"))
        for name in ("center", "mean"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise UsageError(f"`intensity.{name}` must be finite. Received: {value}")


def intensity_of(given: Any) -> IntensityConfig:
    """What was given as `intensity`, plain values as saved files have them among it."""
    names = {f.name for f in fields(IntensityConfig)}
    if isinstance(given, dict) and set(given) <= names:
        return IntensityConfig(**given)
    if not isinstance(given, IntensityConfig):
        text = f"`intensity` must hold fields of `IntensityConfig`: {', '.join(sorted(names))}."
        raise UsageError(f"{text} Received: {given}")
    return given
