"""How raw pixels become the network's input."""

import math
from dataclasses import dataclass, fields
from typing import Any

from keras_proseg.config.checks import as_tuple, check_choice, check_each, check_types, is_positive
from keras_proseg.errors import UsageError

INTENSITY_USED = {"divide": ("scale",), "window": ("center", "width"), "zscore": ("mean", "std")}


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

    Raises:
        UsageError: a wrong value, or one of a field that another mode uses.
    """

    mode: str = "zscore"
    scale: float = 255.0
    center: float = -400.0
    width: float = 1600.0
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, as_tuple(getattr(self, name)))
        check_types(self)
        check_choice("intensity.mode", self.mode, tuple(INTENSITY_USED))
        for name in ("scale", "width", "std"):
            check_each(f"intensity.{name}", getattr(self, name), "above 0", is_positive)
        for name in ("center", "mean"):
            check_each(f"intensity.{name}", getattr(self, name), "finite", math.isfinite)
        for each in fields(self):  # else the numbers that somebody gave would say nothing
            mode = next(
                (mode for mode, names in INTENSITY_USED.items() if each.name in names), self.mode
            )
            if mode != self.mode and getattr(self, each.name) != each.default:
                text = f"`intensity.{each.name}` must be given with mode {mode}."
                raise UsageError(f"{text} Received: mode {self.mode}")

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


def intensity_of(given: Any) -> IntensityConfig:
    """What was given as `intensity`, plain values as saved files have them among it."""
    names = {f.name for f in fields(IntensityConfig)}
    if isinstance(given, dict) and set(given) <= names:
        return IntensityConfig(**given)
    if not isinstance(given, IntensityConfig):
        text = f"`intensity` must hold fields of `IntensityConfig`: {', '.join(sorted(names))}."
        raise UsageError(f"{text} Received: {given}")
    return given
