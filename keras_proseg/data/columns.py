"""Names in arrays: of raters, cases, patients and splits, as strings of one spelling."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_proseg.data.records import NAMELESS, plain_name
from keras_proseg.errors import ProSegError, require


def check_raters(raters: Any, count: int) -> tuple[str, ...]:
    """The names of `count` raters; rater1 ... where there are none.

    Raises:
        ProSegError: a rater without a name (nan or NA are none), or two of one name.
    """
    if raters is None:
        return tuple(f"rater{index + 1}" for index in range(count))
    several = isinstance(raters, Iterable) and not isinstance(raters, (str, bytes, np.ndarray))
    given = list(raters if several else np.atleast_1d(raters))
    require(all(np.size(name) == 1 for name in given), "raters", f"{count} distinct names", given)
    names = tuple(_text(np.ravel(name), "raters").item() for name in given)
    named = not any(name.lower() in NAMELESS for name in names)
    good = len(names) == count and len(set(names)) == count and named
    require(good, "raters", f"{count} distinct names", list(names))
    return names


def check_column(values: Any, name: str, count: int, default: np.ndarray) -> np.ndarray:
    """`values` (count,) or `default`, as strings.

    Raises:
        ProSegError: not one name for each case.
    """
    array = np.asarray(default if values is None else values)
    require(array.shape == (count,), name, f"({count},)", f"shape {array.shape}")
    array = _text(array, name)
    blank = np.flatnonzero([each.lower() in NAMELESS for each in array.tolist()])
    received = f"{blank.size} empty, nan or NA, the first in case {blank[:1]}"
    require(not blank.size, name, "a name or number for every case", received)
    return array


def _text(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind == "O" and all(isinstance(each, str) for each in array.flat):
        array = array.astype(str)  # as a table's columns are
    require(array.dtype.kind in "biufUS", name, "strings or numbers", f"dtype {array.dtype}")
    try:
        array = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array.astype(str)
    except UnicodeDecodeError as error:
        raise ProSegError(f"{name} must be UTF-8. Received: {error.object!r}") from error
    try:
        "".join(array.flat).encode()
    except UnicodeEncodeError as error:
        raise ProSegError(f"{name} must be whole Unicode. Received: {error.object!r}") from error
    return np.array([plain_name(each) for each in array.tolist()])
