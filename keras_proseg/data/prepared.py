"""The prepared file: images and bit-packed masks, contiguous, memory-mapped, checksummed.

It is HDF5: `images` (N, H, W, C), `masks` (N, R, ceil(H W K / 8)), `annotated` (N, R) and `about`
(JSON: names, groups, split, spacing, geometry). Any HDF5 reader opens it. The user block before it
holds a mark and the checksum of all that follows, which is compared first, because HDF5 can loop
forever on a damaged file.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.data.lazy import CHUNK, LazyRows, PackedMasks, pack_masks
from keras_proseg.data.places import plain_places, read_places
from keras_proseg.data.records import plain_name
from keras_proseg.errors import UsageError, reason_of, require
from keras_proseg.files import atomic_file, atomic_folder, check_new_folder

MARK = b"keras_proseg prepared data 1\n"
USER_BLOCK = 512  # bytes, the least that HDF5 allows
ARRAYS = ("images", "masks", "annotated", "about")
PLAIN = ("raters", "group_by", "source", "image_kind", "dropped", "notes", "rater_order")
COLUMNS = ("case_ids", "patients", "spacing", "split")


def write_prepared(dataset: Dataset, out: str | Path, shards: int = 1) -> list[Path]:
    """Writes a dataset as a prepared file, or as a folder of shards.

    Args:
        dataset: N cases.
        out: the file; with `shards` above 1 a new or empty folder of `shard-0001-of-0004` ...
        shards: number of files of about equal size, at most N.

    Returns:
        The files written, whole or not at all.
    """
    out = Path(out)
    if not 1 <= shards <= len(dataset):
        raise UsageError(f"`--shards` must be 1 to {len(dataset)}. Received: {shards}")
    if shards == 1:
        if out.is_dir() or (out.exists() and not is_prepared(out)):  # the source, by mistake
            wanted = "a new file, or a prepared one to be replaced"
            raise UsageError(f"`--out` must be {wanted}. Received: {out}")
        with atomic_file(out) as temporary:
            _write(dataset, temporary)
        return [out]
    check_new_folder(out, "--out")
    parts = np.array_split(np.arange(len(dataset)), shards)
    with atomic_folder(out) as folder:
        for number, rows in enumerate(parts, 1):
            _write(dataset.take(rows), folder / f"shard-{number:04d}-of-{shards:04d}")
    return sorted(out.glob("shard-*"))


def load_prepared(paths: list[Path]) -> Dataset:
    """Opens a prepared file, or the shards of one; images and masks stay on disk.

    Raises:
        ProSegError: a file is damaged, of another version, or a shard is missing.
    """
    _check_shards(paths)
    opened = [_open(path) for path in paths]
    first = opened[0][0]
    for path, (own, arrays) in zip(paths, opened, strict=True):
        same = own["raters"] == first["raters"] and own["size"] == first["size"]
        same &= arrays["images"].shape[1:] == opened[0][1]["images"].shape[1:]
        require(same, str(path), f"a shard of the same data as {paths[0]}", "another")
    about: dict[str, Any] = {name: first[name] for name in PLAIN}
    about |= {name: _join([own[name] for own, _ in opened]) for name in COLUMNS}
    about["raters"] = tuple(map(plain_name, first["raters"]))
    for name in ("case_ids", "patients"):  # older files have names as they were given
        about[name] = np.array([plain_name(each) for each in about[name].tolist()])
    return Dataset(
        images=LazyRows([arrays["images"] for _, arrays in opened]),  # type: ignore[arg-type]
        masks=PackedMasks([arrays["masks"] for _, arrays in opened], first["size"]),  # type: ignore[arg-type]
        annotated=np.concatenate([arrays["annotated"] for _, arrays in opened]).astype(bool),
        places=read_places([about["places"] for about, _ in opened]),
        **about,
    )


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
        handle.write(MARK + _digest(path).encode())


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
    with prepared_writer(path, len(dataset)) as writer:
        for start in range(0, len(dataset), CHUNK):
            rows = slice(start, start + CHUNK)
            packed = pack_masks(np.asarray(dataset.masks[rows]))
            writer.append(np.asarray(dataset.images[rows]), packed, dataset.annotated[rows])
        writer.finish(describe(dataset))


def _check_shards(paths: list[Path]) -> None:
    if len(paths) == 1 and not paths[0].name.startswith("shard-"):
        return
    total = int(paths[0].name.rpartition("-")[2]) if paths[0].name[-4:].isdecimal() else 0
    wanted = [f"shard-{number:04d}-of-{total:04d}" for number in range(1, total + 1)]
    missing = sorted(set(wanted) ^ {path.name for path in paths})
    require(not missing, str(paths[0].parent), f"a folder of all {total} shards", missing[:3])


def _open(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import h5py

    require(is_prepared(path), str(path), "a prepared file", "another kind of file")
    with path.open("rb") as handle:
        written = handle.read(USER_BLOCK)[len(MARK) :].rstrip(b"\0").decode("ascii", "replace")
    good = written == _digest(path)
    require(good, str(path), "a whole prepared file", "other bytes than were written (checksum)")
    with h5py.File(path, "r") as file:
        arrays = {name: _map(path, file[name]) for name in ARRAYS}
    return json.loads(arrays["about"].tobytes()), arrays


def is_prepared(path: Path) -> bool:
    """Whether a file is a prepared one, whatever its name and however damaged behind its mark."""
    with path.open("rb") as handle:
        return handle.read(len(MARK)) == MARK


def _map(path: Path, stored: Any) -> np.ndarray:
    offset = stored.id.get_offset()
    require(offset is not None, f"{path}: {stored.name}", "contiguous", "chunks")
    return np.memmap(path, stored.dtype, "r", offset, stored.shape).view(np.ndarray)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        handle.seek(USER_BLOCK)
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _join(parts: list[list | None]) -> np.ndarray | None:
    if any(part is None for part in parts):
        return None
    return np.array([value for part in parts for value in part])  # type: ignore[union-attr]
