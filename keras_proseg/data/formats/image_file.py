"""One image file or DICOM series as slices of raw intensities."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_proseg.data.arrays import check_images
from keras_proseg.data.findings import Finding, Findings
from keras_proseg.data.formats.dicom_series import Series, read_series
from keras_proseg.data.formats.dicom_slice import read_slice
from keras_proseg.data.formats.pixels import KINDS, Pixels, kind_of
from keras_proseg.data.formats.volumes import read_pixels
from keras_proseg.errors import ProSegError, UsageError

DICOM = ".dcm"


@dataclass(frozen=True)
class ImageFile:
    """What was read: `images` (N, H, W, C), the `kind` of file, its geometry, what is odd in it."""

    images: np.ndarray
    kind: str
    pixels: Pixels | None = None
    flat: bool = False
    series: Series | None = None
    notes: tuple[Finding, ...] = ()

    @property
    def spacing(self) -> tuple[float, float] | None:
        """mm per pixel along rows and columns, where the file says."""
        known = self.series or self.pixels
        return None if known is None else known.spacing


def read_image(path: str | Path, channels: int | None = None) -> ImageFile:
    """Reads an image file, or a folder that holds a DICOM series.

    Args:
        path: the file or folder.
        channels: that the image must have; a third axis of a NIfTI of this length holds them.

    Raises:
        UsageError: no such file or an unknown kind.
        ProSegError: the file is damaged or of a wrong shape.
    """
    if not str(path):  # a variable of a shell that is not set
        raise UsageError("IMAGE must be an existing file. Received: an empty name")
    path = Path(path)
    if path.is_dir() or path.name.lower().endswith(DICOM):
        return _read_dicom(path)
    if not path.is_file():
        raise UsageError(f"IMAGE must be an existing file. Received: {path}")
    if kind_of(path) is None:
        kinds = ", ".join((*KINDS, DICOM))
        raise UsageError(f"IMAGE must end in one of {kinds}. Received: {path.name}")
    pixels = read_pixels(path)
    images = _checked(pixels.slices(channels), path)
    flat = pixels.array.ndim == 2 or (pixels.array.ndim == 3 and len(images) == 1 != channels)
    return ImageFile(images, pixels.kind, pixels, flat)


def _read_dicom(path: Path) -> ImageFile:
    if not path.exists():
        raise UsageError(f"IMAGE must be an existing file. Received: {path}")
    findings = Findings(str(path))
    series = read_series(path, findings)
    units = np.stack([read_slice(file.path) for file in series.files])
    images = _checked(units[..., None], path)
    return ImageFile(images, DICOM, series=series, notes=tuple(findings.items))


def _checked(images: np.ndarray, path: Path) -> np.ndarray:
    """All of them at once: else what is wrong with the last shows after the others are drawn."""
    try:
        return check_images(images)
    except ProSegError as error:
        raise ProSegError(f"{path}: {error}") from error
