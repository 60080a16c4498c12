"""The prepared file: images and bit-packed masks, contiguous, memory-mapped, checksummed.

It is HDF5: `images` (N, H, W, C), `masks` (N, R, ceil(H W K / 8)), `annotated` (N, R) and `about`
(JSON: names, groups, split, spacing, geometry). Any HDF5 reader opens it. The user block before it
holds a mark and the checksum of all that follows, which is compared first, because HDF5 can loop
forever on a damaged file. It is read here and written by `preparing.py`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.data.lazy import LazyRows, PackedMasks
from keras_proseg.data.places import read_places
from keras_proseg.data.records import plain_name
from keras_proseg.errors import require

MARK = b"keras_proseg prepared data 1\n"
USER_BLOCK = 512  # bytes, the least that HDF5 allows
ARRAYS = ("images", "masks", "annotated", "about")
PLAIN = ("raters", "group_by", "source", "image_kind", "dropped", "notes", "rater_order")
COLUMNS = ("case_ids", "patients", "spacing", "split")


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
    good = written == digest_of(path)
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


def digest_of(path: Path) -> str:
    """The checksum of all behind the user block."""
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
