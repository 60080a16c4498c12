"""Atomic writes: a file or folder appears under its final name whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_proseg.errors import ProSegError, UsageError

SCRATCH = ".proseg-"  # how names of what is half-written begin


def check_new_folder(path: Path, option: str) -> None:
    """Raises unless `path`, given as `option`, is a folder that can be made, or an empty one.

    Raises:
        UsageError: a file, or a folder that holds something.
        ProSegError: no place to write.
    """
    if path.is_file() or (path.is_dir() and _others_in(path)):
        raise UsageError(f"`{option}` must be a new or empty folder. Received: {path}")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises, before the work that is to be written there, where no file can be made at `path`.

    Raises:
        ProSegError: a read-only folder, or a file in its place.
    """
    own = _target(path)
    place = own = own.parent if own.is_file() else own
    try:
        place = next(part for part in (own, *own.absolute().parents) if part.exists())
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=place):
            return
    except OSError as error:
        text = f"Cannot write {path}: expected a writable place."
        raise ProSegError(f"{text} Received: {place}, {error.strerror}") from error


def check_folder(path: Path, option: str) -> None:
    """Raises unless files can be written in `path`, a folder given as `option` that may be absent.

    Raises:
        UsageError: a file is in its place, or a link to nothing.
        ProSegError: no place to write.
    """
    dead = path.is_symlink() and not path.exists()
    if dead or any(part.is_file() for part in (path, *path.parents)):
        raise UsageError(f"`{option}` must be a folder. Received: {path}")
    check_writable(path)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name with `path`'s suffix; renames it to `path` when the block ends well.

    Args:
        path: the final file; its folder is made when absent. Through a link its target is written.

    Raises:
        ProSegError: the file cannot be written (no space, no permission); nothing is left behind.
    """
    name, path = Path(path).name, _target(Path(path))
    with _scratch(path) as folder:
        temporary = folder / name  # not the target's: writers choose the format by its suffix
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder; renames it to `path` at the end.

    If `path` is an existing empty folder (perhaps a mount or the working directory), it is kept and
    filled. What a killed process left half-written there is no concern.

    Raises:
        ProSegError: it cannot be written, or `path` is empty no more at the end.
    """
    path = _target(Path(path))
    filled = path.is_dir()
    with _scratch(path) as folder:
        temporary = folder / "whole"
        temporary.mkdir()
        yield temporary
        _to_disk(temporary)
        if not filled:
            temporary.replace(path)
            return
        for name in _others_in(path):
            raise ProSegError(f"{path} must stay empty meanwhile. Received: {name}")
        for entry in temporary.iterdir():
            entry.rename(path / entry.name)


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _others_in(folder: Path) -> list[str]:
    """Names of what is there and not half-written."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(SCRATCH)]


def _to_disk(folder: Path) -> None:
    """Else a power cut can leave the new name with empty files under it."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    folder = None
    try:
        place = path if path.is_dir() else path.parent
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{path.name}.", dir=place))
        yield folder
    except OSError as error:
        if _is_elsewhere(error, path, folder):
            raise
        reason = error.strerror or error
        raise ProSegError(
            f"Cannot write {path}: expected a writable place. Received: {reason}"
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _is_elsewhere(error: OSError, path: Path, folder: Path | None) -> bool:
    """Whether it names a file that is neither `path` nor in its scratch folder."""
    if folder is None or not isinstance(error.filename, (str, Path)):
        return False
    return not any(Path(error.filename).is_relative_to(own) for own in (path, folder))
