"""Real CT of LIDC-IDRI at full scale: one scan at a time, several workers, resumable."""

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import DataConfig
from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.dicom_series import Series, read_series
from keras_proseg.data.formats.dicom_slice import read_slice
from keras_proseg.data.formats.npz import DAMAGED
from keras_proseg.data.lazy import pack_masks
from keras_proseg.data.lidc.crops import SCAN_SIZE, Crop, label_columns
from keras_proseg.data.lidc.database import scan_folder
from keras_proseg.data.lidc.labels import Nodule
from keras_proseg.errors import ProSegError
from keras_proseg.files import atomic_file

Z_TOLERANCE = 0.05  # mm; the database rounds the slices' positions
COLUMNS = (
    "images", "masks", "annotated", "case_ids", "indices", "sizes", "offsets", "shapes", "spacing",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One scan to prepare: its folder, its nodules, and the file that its crops go to."""

    folder: Path
    nodules: tuple[Nodule, ...]
    config: DataConfig
    part: Path


def tasks_of(
    nodules: list[Nodule], root: Path, config: DataConfig, found: dict[str, str], parts: Path
) -> list[Task]:
    """One task for every scan on disk; the part's name changes with the scan's files."""
    by_scan: dict[str, list[Nodule]] = defaultdict(list)
    for nodule in nodules:
        by_scan[nodule.scan.series_uid].append(nodule)
    return [
        Task(scan_folder(root, own[0].scan), tuple(own), config, parts / f"{uid}-{found[uid]}.npz")
        for uid, own in by_scan.items()
    ]


def prepare_scans(tasks: list[Task], workers: int) -> Iterator[Task]:
    """Prepares every scan whose part is not there yet; yields tasks as they are done.

    Args:
        tasks: the scans.
        workers: processes; with 1 all is done in this one.
    """
    left = []
    for task in tasks:
        if read_part(task.part) is None:
            left.append(task)
        else:
            yield task
    if workers == 1:
        yield from map(prepare_scan, left)
        return
    # Fresh interpreters: a fork of one that runs TensorFlow may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        yield from pool.map(prepare_scan, left)
    except BrokenProcessPool as error:
        raise ProSegError(
            f"Workers must live till the end; run the command again, it goes on with the scans "
            f"left. Received: one of {workers} was killed"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_scan(task: Task) -> Task:
    """Writes the part of one scan; a broken scan leaves findings and no crops."""
    findings = Findings(str(task.folder))
    rows: list[dict[str, np.ndarray]] = []
    vanished = 0
    try:
        series = read_series(task.folder, findings)
        for nodule in task.nodules:
            crop = Crop(nodule, task.config)
            found = _columns(crop, series)
            if found is None:
                text = f"nodule {nodule.key}: the series lacks some of its slices"
                findings.note(text, "download the series again", task.folder)
            else:
                rows.append(found)
                vanished += crop.vanished()
    except ProSegError as error:
        rows = []
        findings.note(f"scan left out: {error}", "download the series again", task.folder)
    arrays = {name: np.concatenate([row[name] for row in rows]) for name in COLUMNS if rows}
    told = [[f.file, f.what, f.remedy] for f in findings.items]
    about = {"nodules": len(rows), "vanished": vanished if rows else 0, "findings": told}
    with atomic_file(task.part) as temporary:
        np.savez(temporary, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    return task


def read_part(part: Path) -> dict[str, Any] | None:
    """A scan's part; None where there is none or a kill left it damaged."""
    try:
        with np.load(part, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
            return found | {"about": json.loads(str(found["about"]))}
    except DAMAGED:
        return None


def crop_pixels(crop: Crop, series: Series) -> tuple[np.ndarray, np.ndarray] | None:
    """HU (Z, crop, crop) int16 of a nodule and the indices (Z,) of its files in the series.

    Returns:
        None where the series lacks one of the slices.

    Raises:
        ProSegError: a file is no readable CT slice of 512x512 pixels.
    """
    wanted = crop.nodule.scan.zvals[crop.slices]
    away = np.abs(series.positions - wanted[:, None])
    if away.min(axis=1).max() > Z_TOLERANCE:
        return None
    nearest = away.argmin(axis=1)
    row, column, side = crop.window
    pixels = [
        read_slice(series.files[n].path, (SCAN_SIZE, SCAN_SIZE))[
            row : row + side, column : column + side
        ]
        for n in nearest
    ]
    return crop.images(np.stack(pixels)), nearest[crop.nearest]


def _columns(crop: Crop, series: Series) -> dict[str, np.ndarray] | None:
    cropped = crop_pixels(crop, series)
    if cropped is None:
        return None
    images, indices = cropped
    columns = label_columns(crop)
    count = len(images)
    return columns | {
        "images": images[..., None],
        "masks": pack_masks(columns["masks"]),
        "indices": indices,
        "sizes": np.full((count, 2), crop.size),
        "offsets": np.tile(crop.offset, (count, 1)),
        "shapes": np.tile(series.shape, (count, 1)),
    }
