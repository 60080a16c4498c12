"""One DICOM series as it lies in a folder: slices by position, duplicates and gaps named, HU."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import require
from keras_proseg.data.findings import Findings
from keras_proseg.errors import ProSegError

TAGS = (
    "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "Modality",
    "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
SAME_MM = 0.01  # slices so close lie at one position
WHOLE_HU = 1e-3
GAP = 1.5  # steps between slices above which one is missing
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class SliceFile:
    """One file of a series: `position` in mm along the normal of its slices."""

    path: Path
    position: float
    number: int
    sop_uid: str


@dataclass(frozen=True)
class Series:
    """A series: `files` by ascending position, `shape` (Z, H, W), `spacing` of rows and columns."""

    folder: Path
    files: tuple[SliceFile, ...]
    shape: tuple[int, int, int]
    spacing: tuple[float, float] | None

    @property
    def positions(self) -> np.ndarray:
        """The slices' positions in mm, ascending (Z,)."""
        return np.array([file.position for file in self.files])


def read_series(folder: str | Path, findings: Findings) -> Series:
    """Reads the headers of all files in a folder, or of one file.

    Of several files at one position the first by instance number is used, as pylidc does.

    Args:
        folder: holds one series, and no other files that end in .dcm.
        findings: told of duplicates, gaps and files that are no slices.

    Raises:
        ProSegError: no slice there, a damaged file, more than one series, slices of more sizes.
    """
    folder = Path(folder)
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.dcm"))
    headers = [(path, _header(path)) for path in paths]
    require(bool(headers), str(folder), "a folder with .dcm files", "none")
    series = {str(getattr(header, "SeriesInstanceUID", "")) for _, header in headers}
    require(len(series) == 1, str(folder), "a folder of one series", f"{len(series)} series")
    sizes = sorted({(int(header.Rows), int(header.Columns)) for _, header in headers})
    require(len(sizes) == 1, str(folder), "slices of one size", sizes)
    files = _unique([_slice_file(path, header) for path, header in headers], folder, findings)
    _note_gaps(files, folder, findings)
    spacing = getattr(headers[0][1], "PixelSpacing", None)
    return Series(
        folder=folder,
        files=tuple(files),
        shape=(len(files), *sizes[0]),
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
    )


def read_slice(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Hounsfield units (or rescaled intensities) of one file, int16 where they are whole numbers.

    Raises:
        ProSegError: no readable slice, or not of `shape`.
    """
    image = _read(path)
    try:
        pixels = image.pixel_array
    except Exception as error:
        raise ProSegError(f"{path} must hold whole pixels. Received: {_reason(error)}") from error
    slope = float(getattr(image, "RescaleSlope", 1))
    intercept = float(getattr(image, "RescaleIntercept", 0))
    wanted = "a slice of one channel" if shape is None else f"a CT slice of {shape[0]}x{shape[1]}"
    good = pixels.ndim == 2 and (shape is None or pixels.shape == shape)
    require(good, str(path), f"{wanted} pixels", pixels.shape)
    measured = getattr(image, "Modality", "CT") != "CT" or hasattr(image, "RescaleIntercept")
    require(measured, str(path), "a CT slice with RescaleSlope and RescaleIntercept", "none")
    units = pixels.astype(np.float64) * slope + intercept
    whole = np.abs(units - np.rint(units)).max() < WHOLE_HU
    if not whole:
        return units.astype(np.float32)
    return np.clip(np.rint(units), -32768, 32767).astype(np.int16)


def datasets(series: Series, indices: Iterable[int]) -> list[Any]:
    """The files at `indices` of the series as pydicom datasets, without pixels."""
    return [_read(series.files[index].path, stop_before_pixels=True) for index in indices]


def _slice_file(path: Path, header: Any) -> SliceFile:
    where = np.array(header.ImagePositionPatient, float)
    axes = np.array(getattr(header, "ImageOrientationPatient", None) or AXIAL, float)
    position = float(np.cross(axes[:3], axes[3:]) @ where)
    number = int(getattr(header, "InstanceNumber", None) or 0)
    return SliceFile(path, position, number, str(getattr(header, "SOPInstanceUID", "")))


def _unique(files: list[SliceFile], folder: Path, findings: Findings) -> list[SliceFile]:
    kept: list[SliceFile] = []
    for file in sorted(files, key=lambda file: (file.position, file.number)):
        if kept and file.position - kept[-1].position < SAME_MM:
            text = f"{file.path.name} and {kept[-1].path.name} both lie at {file.position:g} mm"
            keep = min((kept[-1], file), key=lambda file: file.number)
            findings.note(text, f"{keep.path.name} (lower instance number) is used", folder)
            kept[-1] = keep
        else:
            kept.append(file)
    return kept


def _note_gaps(files: list[SliceFile], folder: Path, findings: Findings) -> None:
    positions = np.array([file.position for file in files])
    steps = np.diff(positions)
    for at in np.flatnonzero(steps > GAP * np.median(steps)) if len(steps) else ():
        text = f"a gap between {positions[at]:g} and {positions[at + 1]:g} mm"
        text += f" (slices are {np.median(steps):g} mm apart)"
        findings.note(text, "download the series again, if slices are missing", folder)


def _header(path: Path) -> Any:
    header = _read(path, stop_before_pixels=True, specific_tags=list(TAGS))
    try:
        position = [float(value) for value in header.ImagePositionPatient]
        good = len(position) == 3 and bool(np.isfinite(position).all())
        good = good and int(header.Rows) > 0 and int(header.Columns) > 0
        for name in ("RescaleSlope", "RescaleIntercept", "InstanceNumber"):
            float(getattr(header, name, None) or 0)
        axes = np.array(getattr(header, "ImageOrientationPatient", None) or AXIAL, float)
        spacing = np.array(getattr(header, "PixelSpacing", None) or (1, 1), float)
        good = good and axes.shape == (6,) and spacing.shape == (2,)
        good = good and bool(np.isfinite([*axes, *spacing]).all())
    except Exception as error:
        raise ProSegError(
            f"Cannot read {path}: expected a CT slice. Received: {_reason(error)}"
        ) from error
    require(good, str(path), "a slice with a whole position and size", position)
    return header


def _read(path: Path, **options: Any) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(path, **options)
    except Exception as error:
        raise ProSegError(
            f"Cannot read {path}: expected a CT slice. Received: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
