"""One DICOM series as it lies in a folder: slices by position, duplicates and gaps named."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.dicom_slice import read_dicom
from keras_proseg.data.records import ASIDE
from keras_proseg.errors import ProSegError, reason_of, require

TAGS = (
    "SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "Modality",
    "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
SAME_MM = 0.01  # slices so close lie at one position
SAME_VALUE = 1e-3  # of spacings in mm and of directions, which writers round differently
GAP = 1.5  # steps between slices above which one is missing
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class SliceFile:
    """One file of a series: `position` in mm along the normal of its slices."""

    path: Path
    position: float
    number: int


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


@dataclass(frozen=True)
class Header:
    """What one file says of itself."""

    file: SliceFile
    series_uid: str
    size: tuple[int, int]
    spacing: tuple[float, float] | None
    axes: tuple[float, ...]


def read_series(folder: str | Path, findings: Findings) -> Series:
    """Reads the headers of all files in a folder, or of one file.

    Of several files at one position the first by instance number is used, as pylidc does.

    Args:
        folder: holds one series, and no other DICOM files; one file of it will do.
        findings: told of duplicates, gaps and files that are no slices.

    Raises:
        ProSegError: no slice there, a damaged file, more than one series, slices of more sizes,
            spacings or orientations.
    """
    folder = Path(folder)
    require(folder.exists(), str(folder), "an existing DICOM file or folder", "none there")
    paths = [folder] if folder.is_file() else _paths(folder, findings)
    headers = [_header(path) for path in paths]
    require(bool(headers), str(folder), "a folder with DICOM files", "none")
    series = {header.series_uid for header in headers}
    require(len(series) == 1, str(folder), "a folder of one series", f"{len(series)} series")
    sizes = sorted({header.size for header in headers})
    require(len(sizes) == 1, str(folder), "slices of one size", sizes)
    spacings = [header.spacing or (np.nan, np.nan) for header in headers]
    _check_alike(spacings, folder, "pixel spacing")
    _check_alike([header.axes for header in headers], folder, "orientation")
    files = _unique([header.file for header in headers], folder, findings)
    _note_gaps(files, folder, findings)
    return Series(folder, tuple(files), (len(files), *sizes[0]), headers[0].spacing)


def _paths(folder: Path, findings: Findings) -> list[Path]:
    """The DICOM files of a folder; of others but what lies beside data, `findings` is told.

    Raises:
        ProSegError: a link that leads nowhere, as a slice may have lain there.
    """
    files = sorted(path for path in folder.iterdir() if path.name[0] != "." and not path.is_dir())
    for path in files:
        require(path.exists(), str(path), "a file", "a link that leads nowhere")
    paths = [path for path in files if _is_dicom(path)]
    known = {*paths, *(path for path in files if path.suffix.lower() in ASIDE)}
    others = [path.name for path in files if path not in known and path.name != "DICOMDIR"]
    if paths and others:
        text = f"{len(others)} file(s) that are no DICOM, as {others[0]}, are passed over"
        findings.note(text, "look whether slices are among them", folder)
    return paths


def _is_dicom(path: Path) -> bool:
    """By its name or, as exports of many viewers have no suffix, by its first bytes."""
    if path.name == "DICOMDIR" or not path.is_file():
        return False
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def datasets(series: Series, indices: Iterable[int]) -> list[Any]:
    """The files at `indices` of the series as pydicom datasets, without pixels."""
    return [read_dicom(series.files[index].path, stop_before_pixels=True) for index in indices]


def _check_alike(values: Sequence[tuple[float, ...]], folder: Path, name: str) -> None:
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    # Not a number is one that no file gives; given by some only, it is unknown whether they agree.
    alike = bool(np.isnan(values).all() or (high - low).max() < SAME_VALUE)
    require(alike, str(folder), f"slices of one {name}", f"{low.tolist()} to {high.tolist()}")


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


def _header(path: Path) -> Header:
    header = read_dicom(path, stop_before_pixels=True, specific_tags=list(TAGS))
    try:  # pydicom converts a value when it is first looked at, and may raise anything
        where = np.array(header.ImagePositionPatient, float)
        axes = np.array(getattr(header, "ImageOrientationPatient", None) or AXIAL, float)
        own = getattr(header, "PixelSpacing", None)
        spacing = None if own is None else (float(own[0]), float(own[1]))
        number = int(getattr(header, "InstanceNumber", None) or 0)
        size = (int(header.Rows), int(header.Columns))
        series_uid = str(getattr(header, "SeriesInstanceUID", ""))
    except Exception as error:
        raise ProSegError(
            f"Cannot read {path}: expected a CT slice. Received: {reason_of(error)}"
        ) from error
    good = where.shape == (3,) and axes.shape == (6,) and min(size) > 0
    good = good and bool(np.isfinite([*where, *axes, *(spacing or ())]).all())
    require(good, str(path), "a slice with a whole position and size", f"{where}, {size}")
    sized = spacing is None or min(spacing) > 0
    require(sized, str(path), "a slice with a positive PixelSpacing", spacing)
    normal = np.cross(axes[:3], axes[3:])
    turned = f"an ImageOrientationPatient of two directions, not {axes.tolist()}"
    require(bool(normal.any()), str(path), "a slice that lies in space", turned)
    position = float(normal @ where)
    file = SliceFile(path, position, number)
    return Header(file, series_uid, size, spacing, tuple(axes.tolist()))
