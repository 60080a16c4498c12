"""Version folders: `OUT/<version>/`."""

from pathlib import Path

from keras_proseg.config import MOST_VERSION
from keras_proseg.errors import UsageError


def free_version(base: Path, version: int | None) -> int:
    """The version to write in `base`; None takes the one above the highest there.

    Raises:
        UsageError: that version exists, or none above the highest does.
    """
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    taken = {int(name) for name in names if name.isdecimal()}  # a server reads 007 as 7
    taken = {number for number in taken if number <= MOST_VERSION}  # and nothing beyond
    if version is None:
        if MOST_VERSION in taken:
            text = f"`--version` must be given where {base} has the last one."
            raise UsageError(f"{text} Received: none")
        return 1 + max(taken, default=0)
    if version in taken:
        raise UsageError(f"`--version` must be one that {base} lacks. Received: {version}")
    return version
