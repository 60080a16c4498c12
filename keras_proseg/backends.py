"""Which backends there are, what each needs, and whether it is installed; standard library only."""

import importlib.util
import os
import sys
from collections.abc import Sequence

from keras_proseg.errors import UsageError

# Modules by distribution package, of each backend.
PACKAGES = {
    "tensorflow": {
        "tensorflow": "tensorflow",
        "tensorflow-probability": "tensorflow_probability",
        "tf-keras": "tf_keras",
    },
    "jax": {"jax": "jax", "numpyro": "numpyro"},
    "torch": {"torch": "torch"},
}


def choose_backend(name: str | None = None) -> str:
    """Sets `KERAS_BACKEND` before Keras is imported.

    Args:
        name: the backend; by default what `KERAS_BACKEND` says already, else TensorFlow.

    Returns:
        Its name.

    Raises:
        UsageError: an unknown backend, one that is not installed, or Keras already runs another.
    """
    name = name or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in PACKAGES:
        raise UsageError(f"`backend` must be one of {', '.join(PACKAGES)}. Received: {name}")
    check_installed(name)
    running = sys.modules["keras"].backend.backend() if "keras" in sys.modules else name
    if running != name:
        raise UsageError(
            f"`backend` must be chosen before Keras starts {running}. Received: {name}"
        )
    os.environ["KERAS_BACKEND"] = name
    return name


def check_installed(name: str) -> None:
    """Raises UsageError, with the pip command, unless all that a backend needs can be imported."""
    missing = [p for p, module in PACKAGES[name].items() if not _importable(module)]
    if missing:
        extra = "" if name == "tensorflow" else f"[{name}]"
        raise UsageError(
            f"Backend {name} must be installed: pip install 'keras-proseg{extra}'. "
            f"Received: no {', '.join(missing)}"
        )


def check_devices(count: int, names: Sequence[str]) -> None:
    """Raises UsageError unless there are `count` devices."""
    if count > len(names):
        raise UsageError(f"`devices` must be at most {len(names)}. Received: {count}")


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
