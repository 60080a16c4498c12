"""The versions that a run and an export record."""

import platform
from importlib.metadata import PackageNotFoundError, version

from keras_proseg import __version__
from keras_proseg.backends import PACKAGES


def versions() -> dict[str, str]:
    """Versions of what a run depends on, and the backend."""
    import keras

    backend = keras.backend.backend()
    found = {name: _version(name) for name in ("keras", "numpy", "pylidc", *PACKAGES[backend])}
    own = {"keras_proseg": __version__, "python": platform.python_version()}
    return own | found | {"backend": backend}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a wheel of another name brings the module
        return "unknown"
