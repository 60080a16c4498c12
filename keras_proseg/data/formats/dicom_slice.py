"""One DICOM file: its header, and its pixels in Hounsfield units."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.errors import ProSegError, reason_of, require

WHOLE_HU = 1e-3
LEAST_STEP = 0.5  # slope of units that may be whole numbers


def read_dicom(path: Path, **options: Any) -> Any:
    """The file as a pydicom dataset.

    Args:
        path: the file.
        options: of `pydicom.dcmread`.

    Raises:
        ProSegError: a damaged file, or another kind.
    """
    import pydicom

    try:
        return pydicom.dcmread(path, **options)
    except Exception as error:
        raise ProSegError(
            f"Cannot read {path}: expected a CT slice. Received: {reason_of(error)}"
        ) from error


def read_slice(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Hounsfield units (or rescaled intensities) of one file.

    Returns:
        (H, W), int16 where they are whole numbers (CT's clipped to its range), else float32.

    Raises:
        ProSegError: no readable slice, not of `shape`, or one whose low values are the bright ones.
    """
    image = read_dicom(path)
    try:
        pixels = image.pixel_array
        given = [image.get(name) for name in ("RescaleSlope", "RescaleIntercept")]
        slope, intercept = (
            usual if value is None else float(value)
            for value, usual in zip(given, (1.0, 0.0), strict=True)
        )
        ct = getattr(image, "Modality", "CT") == "CT"
        measured = not ct or None not in given
        shown = str(image.PhotometricInterpretation)
    except Exception as error:
        reason = " ".join(str(error).split())  # which decoders are lacking comes in later lines
        raise ProSegError(f"{path} must hold whole pixels. Received: {reason}") from error
    wanted = "one slice of one channel" if shape is None else f"a CT slice of {shape[0]}x{shape[1]}"
    good = pixels.ndim == 2 and (shape is None or pixels.shape == shape)
    require(good, str(path), f"{wanted} pixels", pixels.shape)
    require(measured, str(path), "a CT slice with RescaleSlope and RescaleIntercept", "none")
    # Hounsfield units are what they are, however they are shown.
    grey = shown == "MONOCHROME2" or (ct and shown == "MONOCHROME1")
    require(grey, str(path), "a slice whose low values are dark (MONOCHROME2)", shown)
    lut = bool(image.get("ModalityLUTSequence"))  # a table in the place of slope and intercept
    require(not lut, str(path), "a slice of RescaleSlope", "one of a ModalityLUTSequence")
    finite = bool(np.isfinite([slope, intercept]).all())
    require(finite, str(path), "a slice with finite RescaleSlope", (slope, intercept))
    units = pixels.astype(np.float64) * slope + intercept
    # Units of finer steps, as of diffusion or uptake, are all near 0 and yet no whole numbers.
    whole = abs(slope) >= LEAST_STEP and np.abs(units - np.rint(units)).max() < WHOLE_HU
    fits = ct or np.abs(units + 0.5).max() < 2**15
    if not (whole and fits):
        return units.astype(np.float32)
    return np.clip(np.rint(units), -(2**15), 2**15 - 1).astype(np.int16)
