"""LIDC-IDRI with simulated pixels: rendered once, cached as one npz."""

import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import DataConfig, PhantomConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.formats.npz import DAMAGED
from keras_proseg.data.lidc.crops import (
    PREPARING,
    Crop,
    choose_nodules,
    label_columns,
    loss_findings,
    reader_names,
)
from keras_proseg.data.lidc.labels import Nodule
from keras_proseg.data.lidc.phantom import render
from keras_proseg.errors import require
from keras_proseg.files import atomic_file
from keras_proseg.progress import progress_bar

COLUMNS = ("images", "masks", "annotated", "case_ids", "patients", "spacing")


def load_simulated(path: Path, config: DataConfig, progress: bool) -> Dataset:
    """The dataset stored at `path`, which is made where it is absent or damaged.

    Args:
        path: the npz.
        config: what to prepare.
        progress: whether to show a bar.
    """
    stored = _read(path)
    if stored is None:
        stored = _prepare(config, progress)
        _write(path, stored)
    return _dataset(stored)


def _prepare(config: DataConfig, progress: bool) -> dict[str, Any]:
    fitting, notes = choose_nodules(config)
    here = fitting[: config.limit]
    cases = list(progress_bar(_render_all(here, config), PREPARING, progress, len(here)))
    require(bool(cases), "lidc", "at least one nodule with pixels", "none")
    columns = {name: np.concatenate([case[name] for case in cases]) for name in COLUMNS}
    notes |= {
        "nodules": len(cases),
        "slices": len(columns["images"]),
        "patients": len(np.unique(columns["patients"])),
        "findings": loss_findings(sum(case["vanished"] for case in cases)),
    }
    return {**columns, "notes": np.array(json.dumps(notes))}


def _render_all(nodules: list[Nodule], config: DataConfig) -> Iterator[dict[str, Any]]:
    pool = ThreadPoolExecutor(2)  # NumPy and SciPy release the lock; processes would need a guard
    try:
        yield from pool.map(lambda nodule: _columns(Crop(nodule, config)), nodules)
    finally:
        pool.shutdown(cancel_futures=True)


def _columns(crop: Crop) -> dict[str, Any]:
    columns = label_columns(crop)
    drawn = columns["masks"][:, : len(crop.nodule.annotations), ..., 0].astype(bool)
    columns["images"] = phantom_pixels(crop, drawn)[..., None]
    columns["masks"] = np.packbits(columns["masks"][..., 0], axis=-1)
    return columns | {"vanished": crop.vanished()}


def phantom_pixels(crop: Crop, masks: np.ndarray) -> np.ndarray:
    """Simulated HU (Z, H, W) int16 around a nodule's masks (Z, R, H, W) bool."""
    nodule, scan = crop.nodule, crop.nodule.scan
    ratings = [annotation.ratings for annotation in nodule.annotations]
    how = PhantomConfig()
    return render(nodule.key, masks, crop.z, crop.spacing, scan.thickness, ratings, how)


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
    except DAMAGED:
        return None


def _dataset(stored: dict[str, Any]) -> Dataset:
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
        image_kind="phantom",
        notes=json.loads(str(stored["notes"])),
    )
