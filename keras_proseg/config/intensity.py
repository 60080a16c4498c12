"""How raw pixels become the network's input."""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from keras_proseg.config.checks import check_above_zero, check_choice, check_types
from keras_proseg.errors import UsageError


@dataclass(frozen=True)
class IntensityConfig:
    """How raw pixels become the network's input.

    Attributes:
        mode: `"divide"` (x / scale), `"window"` (clip to center +- width / 2, onto [-1, 1]) or
            `"zscore"` ((x - mean) / std of the training images; of several channels each by its
            own, as they may be of different units).
        scale: divisor of `"divide"`.
        center: middle of the window, in HU.
        width: width of the window, in HU.
        mean: subtracted by `"zscore"`: one number, or one for each channel.
        std: divides in `"zscore"`: one number, or one for each channel.
    """

    mode: str = "zscore"
    scale: float = 255.0
    center: float = -400.0
    width: float = 1600.0
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            value = value.tolist() if hasattr(value, "tolist") else value  # an array
            value = tuple(value) if isinstance(value, list) else value  # as JSON has tuples
            object.__setattr__(self, name, value)
        check_types(self)
        check_choice("intensity.mode", self.mode, ("divide", "window", "zscore"))
        check_above_zero(self, ("scale", "width"))
        _check_each("intensity.center", self.center, "finite", math.isfinite)
        _check_each("intensity.mean", self.mean, "finite", math.isfinite)
        _check_each("std", self.std, "above 0", lambda value: 0 < value < math.inf)

    def check_channels(self, count: int) -> None:
        """Raises unless the numbers are for so many channels.

        Raises:
            UsageError: they are for others.
        """
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != count:
                text = f"`intensity.{name}` must be one number or {count}, one for each channel."
                raise UsageError(f"{text} Received: {value}")


def _check_each(name: str, given: Any, words: str, is_good: Callable[[Any], bool]) -> None:
    for value in given if isinstance(given, tuple) else (given,):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not is_good(value):
            raise UsageError(f"`{name}` must be {words}. Received: {value}")


def intensity_of(given: Any) -> IntensityConfig:
    """What was given as `intensity`, plain values as saved files have them among it."""
    names = {f.name for f in fields(IntensityConfig)}
    if isinstance(given, dict) and set(given) <= names:
        return IntensityConfig(**given)
    if not isinstance(given, IntensityConfig):
        text = f"`intensity` must hold fields of `IntensityConfig`: {', '.join(sorted(names))}."
        raise UsageError(f"{text} Received: {given}")
    return given
