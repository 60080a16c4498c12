"""One image or mask file as an array, with its geometry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import require
from keras_proseg.data.npz import read_arrays
from keras_proseg.errors import ProSegError

KINDS = (".npz", ".npy", ".png", ".nii", ".nii.gz")


@dataclass(frozen=True)
class Pixels:
    """A file's raw `array`, in the axes of its kind; `affine` where NIfTI claims a geometry."""

    path: Path
    kind: str
    array: np.ndarray
    affine: np.ndarray | None = None
    placed: bool = False

    @property
    def spacing(self) -> tuple[float, float] | None:
        """mm per pixel along rows and columns, where the file says."""
        if self.affine is None or not self.placed:
            return None
        return tuple(np.linalg.norm(self.affine[:3, :2], axis=0).tolist())

    def slices(self, channels: int | None = None) -> np.ndarray:
        """The pixels as (Z, H, W, C).

        Args:
            channels: the number of channels, where a third axis of that length holds them.

        Raises:
            ProSegError: too few or too many axes.
        """
        array = self.array
        if self.kind in (".npz", ".npy", ".png"):
            array = array[..., None] if array.ndim == 2 else array
            array = array[None] if array.ndim == 3 else array
            wanted = "(H, W), (H, W, C) or (N, H, W, C)"
        else:
            if array.ndim == 3 and channels is not None and array.shape[2] == channels > 1:
                array = array[:, :, None]
            array = array[:, :, None] if array.ndim == 2 else array
            array = array[..., None] if array.ndim == 3 else array
            array = np.moveaxis(array, 2, 0) if array.ndim == 4 else array
            wanted = "a 2-D or 3-D NIfTI, or 4-D with channels last"
        require(array.ndim == 4 and array.size > 0, str(self.path), wanted, self.array.shape)
        return array


def kind_of(path: str | Path) -> str | None:
    """The suffix among those we read, or None."""
    return next((kind for kind in KINDS if Path(path).name.lower().endswith(kind)), None)


def read_pixels(path: str | Path) -> Pixels:
    """Reads a file of a known kind.

    Raises:
        ProSegError: the file is missing, damaged, or holds no real numbers.
    """
    path, kind = Path(path), kind_of(path)
    require(path.is_file(), str(path), "an existing file", "none there")
    require(kind is not None, str(path), f"one of {', '.join(KINDS)}", path.suffix or "no suffix")
    assert kind is not None
    try:
        pixels = _READERS[kind](path)
    except ProSegError:
        raise
    except Exception as error:
        lines = str(error).splitlines()
        reason = lines[0] if lines and lines[0] else type(error).__name__
        raise ProSegError(f"{path} must be a whole {kind} file. Received: {reason}") from error
    array = pixels.array
    require(array.dtype.kind in "biuf", str(path), "of real numbers", f"dtype {array.dtype}")
    return pixels


def _read_npz(path: Path) -> Pixels:
    arrays = read_arrays(path, ("images",))
    require("images" in arrays, str(path), "an npz with an array `images`", "none of that name")
    return Pixels(path, ".npz", arrays["images"])


def _read_npy(path: Path) -> Pixels:
    return Pixels(path, ".npy", np.load(path, allow_pickle=False))


def _read_png(path: Path) -> Pixels:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as picture:
        coloured = picture.convert("RGB") if picture.mode == "P" else picture
        return Pixels(path, ".png", np.asarray(coloured))


def _read_nifti(path: Path) -> Pixels:
    import nibabel

    volume: Any = nibabel.load(path)
    array = np.asarray(volume.dataobj)
    array = array.astype(np.float32) if array.dtype == np.float64 else array
    placed = bool(volume.header["sform_code"] > 0 or volume.header["qform_code"] > 0)
    affine = np.asarray(volume.affine, float)
    require(bool(np.isfinite(affine).all()), str(path), "placed by finite numbers", "a NaN affine")
    kind = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    return Pixels(path, kind, array, affine, placed)


_READERS: dict[str, Callable[[Path], Pixels]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".png": _read_png,
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
}
