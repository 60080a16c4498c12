"""Packages that only one feature needs, and that `pip install keras-proseg` leaves out."""

from importlib import import_module
from typing import Any

from keras_proseg.errors import UsageError


def import_extra(module: str, what: str, extra: str) -> Any:
    """Imports `module`.

    Args:
        module: its name.
        what: the feature that needs it.
        extra: of this package, which brings it.

    Raises:
        UsageError: it is not installed, with the pip command.
    """
    try:
        return import_module(module)
    except ImportError as error:
        text = f"{what} needs {module}: pip install 'keras-proseg[{extra}]'."
        raise UsageError(f"{text} Received: {error}") from error
