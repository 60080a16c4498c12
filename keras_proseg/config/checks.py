"""What every configuration checks of its fields."""

import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

from keras_proseg.errors import UsageError

MOST_SEED = 2**31 - 1  # PyTorch keeps seeds in 32 bits, one of them the sign
KINDS: dict[str, tuple[type, str]] = {
    "int": (numbers.Integral, "a whole number"),
    "float": (numbers.Real, "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "text"),
}


def check_types(config: Any) -> None:
    """Raises unless the plain fields of a configuration are of their annotated types."""
    for field in fields(config):
        name, _, optional = str(getattr(field.type, "__name__", field.type)).partition(" | ")
        value = getattr(config, field.name)
        if name not in KINDS or (value is None and optional):
            continue
        kind, words = KINDS[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"`{field.name}` must be {words}. Received: {value!r}")


def with_settings(config: Any, settings: dict[str, Any]) -> Any:
    """`config` with `settings` by field name on top.

    Raises:
        UsageError: an unknown field.
    """
    check_fields(config, settings, f"Settings must be fields of `{type(config).__name__}`.")
    return replace(config, **settings)


def check_fields(owner: Any, names: Iterable[str], text: str) -> None:
    """Raises UsageError, which begins with `text`, unless `names` are fields of a dataclass."""
    unknown = sorted(set(names) - {field.name for field in fields(owner)})
    if unknown:
        raise UsageError(f"{text} Received: {', '.join(unknown)}")


def as_tuple(value: Any) -> Any:
    """A list, as JSON has them, or an array as a tuple; anything else as it is."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(value) if isinstance(value, list) else value


def check_each(name: str, given: Any, words: str, is_good: Callable[[Any], bool]) -> None:
    """Raises unless `given`, or each value of a tuple, is a number that `is_good`."""
    for value in given if isinstance(given, tuple) else (given,):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not is_good(value):
            raise UsageError(f"`{name}` must be {words}. Received: {value}")


def is_positive(value: float) -> bool:
    """Whether `value` is finite and above 0."""
    return 0 < value < math.inf


def rater_names(raters: Any) -> tuple[str, ...]:
    """The names of raters, of whatever sequence.

    Raises:
        UsageError: no sequence, or names that are not distinct.
    """
    if isinstance(raters, str) or not isinstance(raters, Iterable):
        raise UsageError(f"`raters` must be a sequence of names. Received: {raters!r}")
    names = tuple(str(name) for name in raters)
    if not names or len(set(names)) != len(names):
        raise UsageError(f"`raters` must be distinct names. Received: {list(names)}")
    return names


def check_above_zero(config: Any, names: tuple[str, ...]) -> None:
    """Raises unless the fields `names` are None or finite and above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not is_positive(value):
            raise UsageError(f"`{name}` must be above 0. Received: {value}")


def check_least(config: Any, names: tuple[str, ...], least: int) -> None:
    """Raises unless the fields `names` are None or finite and at least `least`."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not least <= value < math.inf:
            raise UsageError(f"`{name}` must be at least {least}. Received: {value}")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raises unless `value`, given as `name`, is a whole number of at least `least`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        text = f"`{name}` must be a whole number of at least {least}."
        raise UsageError(f"{text} Received: {value!r}")


def plain_seed(seed: Any, name: str = "seed") -> int:
    """`seed` as Python's int; `name` is what it is called.

    Raises:
        UsageError: no whole number from 0 to `MOST_SEED`.
    """
    if not isinstance(seed, numbers.Integral) or not 0 <= int(seed) <= MOST_SEED:
        raise UsageError(f"`{name}` must be a whole number from 0 to {MOST_SEED}. Received: {seed}")
    return int(seed)


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raises unless `value` is one of `allowed`."""
    if value not in allowed:
        shown = ", ".join(str(a) for a in allowed if a is not None)
        raise UsageError(f"`{name}` must be one of {shown}. Received: {value}")
