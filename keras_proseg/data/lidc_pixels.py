"""Where the pixels of LIDC-IDRI come from: the user's DICOM files, or a simulation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import require
from keras_proseg.data.lidc_config import LidcConfig
from keras_proseg.data.lidc_database import Scan, dicom_root, read_scans
from keras_proseg.data.lidc_labels import Nodule
from keras_proseg.data.phantom import render
from keras_proseg.errors import ProSegError

Z_TOLERANCE = 0.05  # mm; the database rounds the slices' positions
Pixels = Callable[[Nodule, np.ndarray], np.ndarray | None]


def choose_pixels(config: LidcConfig) -> tuple[str, dict[str, int]]:
    """Settles what `images` of the config comes to.

    Args:
        config: `images` and `dicom` are read.

    Returns:
        `"ct"` and the number of files by series found on disk; or `"phantom"` and nothing.

    Raises:
        ProSegError: `"ct"` is asked for, or a folder is named, and no scan is found there.
    """
    require(
        config.images in ("auto", "ct", "phantom"), "images", "auto, ct or phantom", config.images
    )
    if config.images == "phantom":
        return "phantom", {}
    root = _root(config)
    found = {} if root is None else _series(root)
    if found:
        return "ct", found
    if config.images == "ct" or config.dicom is not None:
        where = root or "no folder (neither `dicom` nor [dicom] path in ~/.pylidcrc)"
        wanted = "<patient_id>/<study_uid>/<series_uid>/*.dcm of LIDC-IDRI scans"
        raise ProSegError(f"Real CT needs DICOM files: expected {wanted}. Received: {where}")
    return "phantom", {}


def pixel_source(config: LidcConfig, kind: str) -> Pixels:
    """A function from a nodule and its masks (Z, R, H, W) to images (Z, H, W) int16 in HU.

    It gives None for a nodule whose scan lacks files, where `kind` is `"ct"`.
    """
    if kind == "phantom":
        return lambda nodule, masks: _phantom(nodule, masks, config)
    root = _root(config)
    assert root is not None
    return lambda nodule, masks: crop_ct(nodule, root, config.crop)


def _root(config: LidcConfig) -> Path | None:
    return dicom_root() if config.dicom is None else Path(config.dicom).expanduser()


def _phantom(nodule: Nodule, masks: np.ndarray, config: LidcConfig) -> np.ndarray:
    scan = nodule.scan
    ratings = [annotation.ratings for annotation in nodule.annotations]
    z = scan.zvals[nodule.slices()]
    return render(nodule.key, masks, z, scan.spacing, scan.thickness, ratings, config.phantom)


def _folder(root: Path, scan: Scan) -> Path:
    return root / scan.patient / scan.study_uid / scan.series_uid


def _series(root: Path) -> dict[str, int]:
    scans = read_scans() if root.is_dir() else []
    counts = {scan.series_uid: len(list(_folder(root, scan).glob("*.dcm"))) for scan in scans}
    return {series: count for series, count in counts.items() if count}


def crop_ct(nodule: Nodule, root: Path, crop: int) -> np.ndarray | None:
    """Real Hounsfield units (Z, crop, crop) int16 of a nodule's slices.

    Args:
        nodule: its scan is looked up as <root>/<patient_id>/<study_uid>/<series_uid>/*.dcm.
        root: DICOM folder.
        crop: height and width, px.

    Returns:
        The crops, or None where the scan's folder lacks one of the slices.

    Raises:
        ProSegError: a file is no readable CT slice of 512x512 pixels.
    """
    files = _files_by_z(_folder(root, nodule.scan))
    positions = np.array([z for z, _ in files])
    wanted = nodule.scan.zvals[nodule.slices()]
    if not files or np.abs(positions - wanted[:, None]).min(axis=1).max() > Z_TOLERANCE:
        return None
    nearest = np.abs(positions - wanted[:, None]).argmin(axis=1)
    return np.stack([_crop_file(files[n][1], nodule.origin(crop), crop) for n in nearest])


def _files_by_z(folder: Path) -> list[tuple[float, Path]]:
    """Files by ascending z; of several at one z the first by instance number, as in pylidc."""
    slices: dict[float, tuple[int, Path]] = {}
    for path in sorted(folder.glob("*.dcm")):
        header = _read(path, stop_before_pixels=True)
        z, number = float(header.ImagePositionPatient[2]), int(header.InstanceNumber or 0)
        if z not in slices or number < slices[z][0]:
            slices[z] = (number, path)
    return [(z, slices[z][1]) for z in sorted(slices)]


def _crop_file(path: Path, origin: tuple[int, int], crop: int) -> np.ndarray:
    image = _read(path)
    try:
        pixels = image.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ProSegError(f"{path} must hold whole pixels. Received: {reason}") from error
    require(pixels.shape == (512, 512), str(path), "a CT slice of 512x512 pixels", pixels.shape)
    row, column = origin
    raw = pixels[row : row + crop, column : column + crop].astype(np.float64)
    units = raw * float(image.RescaleSlope) + float(image.RescaleIntercept)
    return np.clip(np.rint(units), -32768, 32767).astype(np.int16)


def _read(path: Path, **options: Any) -> Any:
    import pydicom

    try:
        image = pydicom.dcmread(path, **options)
        for name in ("ImagePositionPatient", "InstanceNumber", "RescaleSlope", "RescaleIntercept"):
            getattr(image, name)
        return image
    except (OSError, AttributeError, pydicom.errors.InvalidDicomError) as error:
        reason = str(error).splitlines()[0]
        raise ProSegError(f"Cannot read {path}: expected a CT slice. Received: {reason}") from error
