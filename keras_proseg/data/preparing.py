"""Writes the prepared file (`prepared.py`), alone or as shards."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.data.lazy import CHUNK, pack_masks
from keras_proseg.data.places import plain_places
from keras_proseg.data.prepared import COLUMNS, MARK, PLAIN, USER_BLOCK, digest_of, is_prepared
from keras_proseg.errors import UsageError, reason_of
from keras_proseg.files import atomic_file, atomic_folder, check_new_folder, check_writable


def write_prepared(dataset: Dataset, out: str | Path, shards: int = 1) -> list[Path]:
    """Writes a dataset as a prepared file, or as a folder of shards.

    Args:
        dataset: N cases.
        out: the file; with `shards` above 1 a new or empty folder of `shard-0001-of-0004` ...
        shards: number of files of about equal size, at most N.

    Returns:
        The files written, whole or not at all.

    Raises:
        UsageError: too few or too many shards, or `out` is another file.
        ProSegError: it cannot be written.
    """
    out = Path(out)
    if not 1 <= shards <= len(dataset):
        raise UsageError(f"`--shards` must be 1 to {len(dataset)}. Received: {shards}")
    check_target(out, shards)
    if shards == 1:
        with atomic_file(out) as temporary:
            _write(dataset, temporary)
        return [out]
    parts = np.array_split(np.arange(len(dataset)), shards)
    with atomic_folder(out) as folder:
        for number, rows in enumerate(parts, 1):
            _write(dataset.take(rows), folder / f"shard-{number:04d}-of-{shards:04d}")
    return sorted(out.glob("shard-*"))


def check_target(out: Path, shards: int) -> None:
    """Raises unless `write_prepared` may write to `out`.

    Raises:
        UsageError: it is another file, perhaps the source, or a folder that is not empty.
        ProSegError: no place to write.
    """
    if shards > 1:
        check_new_folder(out, "--out")
        return
    if out.is_dir() or (out.exists() and not is_prepared(out)):
        wanted = "a new file, or a prepared one to be replaced"
        raise UsageError(f"`--out` must be {wanted}. Received: {out}")
    check_writable(out)


class PreparedWriter:
    """Writes rows one chunk after another; use `prepared_writer`."""

    def __init__(self, file: Any, count: int) -> None:
        self.file, self.count, self.done = file, count, 0

    def append(self, images: np.ndarray, packed: np.ndarray, annotated: np.ndarray) -> None:
        """Adds n rows: images (n, H, W, C), packed masks (n, R, B), annotated (n, R)."""
        rows = slice(self.done, self.done + len(images))
        columns = {"images": images, "masks": packed, "annotated": annotated.astype(np.uint8)}
        for name, values in columns.items():
            if name not in self.file:
                self.file.create_dataset(name, (self.count, *values.shape[1:]), values.dtype)
            self.file[name][rows] = values
        self.done += len(images)

    def finish(self, about: dict[str, Any]) -> None:
        """Adds all that is not an array of cases."""
        assert self.done == self.count
        self.file["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)


@contextmanager
def prepared_writer(path: Path, count: int) -> Iterator[PreparedWriter]:
    """A writer of `count` rows into the new file `path`; its checksum is added at the end."""
    import h5py

    try:
        with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
            yield PreparedWriter(file, count)
    except RuntimeError as error:  # so HDF5 says that it could not write what it held back
        raise OSError(reason_of(error)) from error
    with path.open("r+b") as handle:
        handle.write(MARK + digest_of(path).encode())


def describe(dataset: Dataset) -> dict[str, Any]:
    """All of `dataset` but its arrays, as plain JSON values."""
    about: dict[str, Any] = {name: getattr(dataset, name) for name in PLAIN}
    about["raters"] = list(dataset.raters)
    about["size"] = list(dataset.masks.shape[2:])
    for name in COLUMNS:
        column = getattr(dataset, name)
        about[name] = None if column is None else np.asarray(column).tolist()
    about["places"] = None if dataset.places is None else plain_places(dataset.places)
    return about


def _write(dataset: Dataset, path: Path) -> None:
    _check_space(dataset, path)
    with prepared_writer(path, len(dataset)) as writer:
        for start in range(0, len(dataset), CHUNK):
            rows = slice(start, start + CHUNK)
            packed = pack_masks(np.asarray(dataset.masks[rows]))
            writer.append(np.asarray(dataset.images[rows]), packed, dataset.annotated[rows])
        writer.finish(describe(dataset))


def _check_space(dataset: Dataset, path: Path) -> None:
    """Raises where there is no room; HDF5 can crash on a disk that has some for its header only."""
    images, masks = dataset.images, dataset.masks
    mask_bytes = math.prod(masks.shape[:2]) * -(-math.prod(masks.shape[2:]) // 8)
    needed = math.prod(images.shape) * images.dtype.itemsize + mask_bytes
    if needed > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
