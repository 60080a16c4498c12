"""Version folders: `OUT/<version>/`."""

from pathlib import Path

from keras_proseg.errors import UsageError


def free_version(base: Path, version: int | None) -> int:
    """The version to write in `base`; None takes the one above the highest there.

    Raises:
        UsageError: that version exists.
    """
    if version is None:
        names = [path.name for path in base.iterdir()] if base.is_dir() else []
        return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
    if (base / str(version)).exists():
        raise UsageError(f"`--version` must be one that {base} lacks. Received: {version}")
    return version
