"""Pickles of NumPy arrays and plain containers, read without running what is in them.

Not even NumPy's own objects are made by the file: a dtype takes whatever flags and item size a
pickle sets, with which an array reads memory that is not its own. Stand-ins take their place.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np


class StoredArray:
    """An array in the making; `value` is None until its content came."""

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        """Takes NumPy's state: version, shape, dtype, order of the axes, content."""
        _, shape, dtype, columns_first, content = state
        self.value = _array(content, dtype, shape, "F" if columns_first else "C")


class _StoredType:
    """A dtype; its name says all but the order of the bytes."""

    def __init__(self, name: str, *_: Any) -> None:
        kind = np.dtype(str(name))
        if kind.kind not in "biufSU":
            raise pickle.UnpicklingError(f"an array of {kind.name}")
        self.kind = kind

    def __setstate__(self, state: Any) -> None:
        """Takes the order of the bytes, and nothing else of NumPy's state."""
        self.kind = self.kind.newbyteorder(state[1])


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    # Strings of Python 2 are bytes, decoded as latin1.
    raw = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(raw, (bytes, bytearray)):  # of a number NumPy would make as many zeros
        raise pickle.UnpicklingError(f"an array of {type(raw).__name__}")
    return np.frombuffer(raw, dtype.kind).reshape(shape, order=order)


def _scalar(dtype: Any, content: Any) -> Any:
    return _array(content, dtype, (), "C")[()]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): lambda *_: StoredArray(),
    ("numpy", "dtype"): _StoredType,
    ("multiarray", "_reconstruct"): lambda *_: StoredArray(),
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _array,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
}


class PlainUnpickler(pickle.Unpickler):
    """Refuses every name but those of arrays and plain containers, which it imports no more."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in of one of the few admitted names.

        Raises:
            pickle.UnpicklingError: any other.
        """
        own = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        inner = own in ("multiarray", "numeric")
        maker = MAKERS.get((own, name)) if inner == (own != module) else None
        if maker is None:
            raise pickle.UnpicklingError(f"{module}.{name}, which is neither array nor container")
        # A new function for each lookup: a pickle can set attributes on it, which must not leak.
        return lambda *arguments: maker(*arguments)

    def persistent_load(self, pid: Any) -> Any:
        """Refused.

        Raises:
            pickle.UnpicklingError: always.
        """
        raise pickle.UnpicklingError("a persistent reference")


def plain(value: Any) -> Any:
    """The array that a stand-in holds; anything else as it is."""
    return value.value if isinstance(value, StoredArray) else value
