"""A NIfTI file, whole, with a usable affine."""

import gzip
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.formats.pixels import Pixels, kind_of
from keras_proseg.data.records import as_float32
from keras_proseg.errors import require

REST = 2**20  # bytes read at once of what follows the voxels
UNITS = {1: "meter", 2: "mm", 3: "micron"}  # as NIfTI numbers them


def read_nifti(path: Path) -> Pixels:
    """Reads a file; what nibabel or `gzip` raise of a damaged one is passed on.

    Raises:
        ProSegError: an affine without an inverse, or that is not finite.
    """
    with _quiet():
        volume, array = _load(path)
    array = as_float32(array)
    header = volume.header
    codes = (int(header["sform_code"]), int(header["qform_code"]))
    unit = UNITS.get(int(header["xyzt_units"]) & 7, "unknown")
    affine = _affine(path, np.array(volume.affine, float), array.ndim == 2)
    return Pixels(path, kind_of(path) or ".nii", array, affine, codes, unit)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without nibabel's lines about headers that it mends by itself, which name no file."""
    from nibabel.imageglobals import logger

    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _load(path: Path) -> tuple[Any, np.ndarray]:
    """The image and its voxels; what is compressed is read to its end, where its checksum is."""
    import nibabel

    volume: Any = nibabel.load(path)
    if kind_of(path) != ".nii.gz":
        return volume, np.asarray(volume.dataobj)
    with gzip.open(path) as stream:
        volume = type(volume).from_stream(stream)
        array = np.asarray(volume.dataobj)
        _read_to_end(stream)
    return volume, array


def _read_to_end(stream: gzip.GzipFile) -> None:
    try:
        while stream.read(REST):
            pass
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):  # but whatever follows the whole of it
            raise


def _affine(path: Path, affine: np.ndarray, flat: bool) -> np.ndarray:
    """A usable affine; files of one slice often leave the third axis out."""
    require(bool(np.isfinite(affine).all()), str(path), "placed by finite numbers", "a NaN affine")
    if flat and not affine[:3, 2].any():
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12)
    whole = abs(float(np.linalg.det(affine))) > 0
    require(whole, f"{path}: its affine", "one with an inverse", affine[:3, :3].tolist())
    return affine
