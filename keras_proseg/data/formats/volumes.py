"""One image or mask file as an array, with its geometry."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.formats.npz import read_arrays
from keras_proseg.errors import ProSegError, reason_of, require

KINDS = (".npz", ".npy", ".png", ".nii", ".nii.gz")
REST = 2**20  # bytes read at once of what follows the voxels
UNITS = {1: "meter", 2: "mm", 3: "micron"}  # as NIfTI numbers them
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True)
class Pixels:
    """A file's raw `array`, in the axes of its kind, and the geometry of a NIfTI.

    Attributes:
        affine: voxel to `unit`.
        codes: of sform and qform, the spaces that `affine` leads to; 0 and 0 for none.
        unit: `"mm"`, `"micron"`, `"meter"` or `"unknown"`, which is taken for mm.
        sides: mm per pixel along rows and columns, where an npz says.
    """

    path: Path
    kind: str
    array: np.ndarray
    affine: np.ndarray | None = None
    codes: tuple[int, int] = (0, 0)
    unit: str = "mm"
    sides: tuple[float, float] | None = None

    @property
    def placed(self) -> bool:
        """Whether the file says where in space it lies."""
        return any(self.codes)

    @property
    def in_mm(self) -> np.ndarray | None:
        """4x4, voxel to mm."""
        if self.affine is None:
            return None
        scale = MILLIMETRES.get(self.unit, 1.0)
        return np.diag([scale, scale, scale, 1.0]) @ self.affine

    @property
    def spacing(self) -> tuple[float, float] | None:
        """mm per pixel along rows and columns, where the file says (sides of 1 say nothing)."""
        if self.in_mm is None:
            return self.sides
        sides = np.linalg.norm(self.in_mm[:3, :3], axis=0)
        said = self.placed or bool((sides != 1).any())
        return (float(sides[0]), float(sides[1])) if said else None

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
        raise ProSegError(
            f"{path} must be a whole {kind} file. Received: {reason_of(error)}"
        ) from error
    array = pixels.array
    require(array.dtype.kind in "biuf", str(path), "of real numbers", f"dtype {array.dtype}")
    return pixels


def _read_npz(path: Path) -> Pixels:
    arrays = read_arrays(path, ("images", "spacing"))
    require("images" in arrays, str(path), "an npz with an array `images`", "none of that name")
    return Pixels(path, ".npz", arrays["images"], sides=_common_sides(arrays.get("spacing")))


def _common_sides(spacing: np.ndarray | None) -> tuple[float, float] | None:
    """Of all images of an npz, if they are alike and plausible."""
    if spacing is None or spacing.ndim != 2 or spacing.shape[1] != 2 or not len(spacing):
        return None
    height, width = spacing[0].tolist()
    good = 0 < height < np.inf and 0 < width < np.inf and (spacing == spacing[0]).all()
    return (float(height), float(width)) if good else None


def _read_npy(path: Path) -> Pixels:
    return Pixels(path, ".npy", np.load(path, allow_pickle=False))


def _read_png(path: Path) -> Pixels:
    from PIL import Image

    with path.open("rb") as handle:
        header = handle.read(26).ljust(26, b"\0")
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("another kind of file")
    depth, colour = header[24:]
    good = depth <= 8 or colour == 0  # else Pillow keeps the upper 8 bits without a word
    require(good, str(path), "of 8 bits, or of 16 and one channel", f"{depth} bits in colour")
    with Image.open(path, formats=["PNG"]) as picture:
        coloured = picture.convert("RGB") if picture.mode == "P" else picture
        return Pixels(path, ".png", np.asarray(coloured))


def _read_nifti(path: Path) -> Pixels:
    from nibabel.imageglobals import LoggingOutputSuppressor

    with LoggingOutputSuppressor():  # of headers that it mends by itself
        volume, array = _load_nifti(path)
    array = array.astype(np.float32) if array.dtype == np.float64 else array
    header = volume.header
    codes = (int(header["sform_code"]), int(header["qform_code"]))
    unit = UNITS.get(int(header["xyzt_units"]) & 7, "unknown")
    affine = _affine(path, np.array(volume.affine, float), array.ndim == 2)
    return Pixels(path, kind_of(path) or ".nii", array, affine, codes, unit)


def _load_nifti(path: Path) -> tuple[Any, np.ndarray]:
    """The image and its voxels; what is compressed is read to its end, where its checksum is."""
    import nibabel

    volume: Any = nibabel.load(path)
    if kind_of(path) != ".nii.gz":
        return volume, np.asarray(volume.dataobj)
    with gzip.open(path) as stream:
        volume = type(volume).from_stream(stream)
        array = np.asarray(volume.dataobj)
        while stream.read(REST):
            pass
    return volume, array


def _affine(path: Path, affine: np.ndarray, flat: bool) -> np.ndarray:
    """A usable affine; files of one slice often leave the third axis out."""
    require(bool(np.isfinite(affine).all()), str(path), "placed by finite numbers", "a NaN affine")
    if flat and not affine[:3, 2].any():
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12)
    whole = abs(float(np.linalg.det(affine))) > 0
    require(whole, f"{path}: its affine", "one with an inverse", affine[:3, :3].tolist())
    return affine


_READERS: dict[str, Callable[[Path], Pixels]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".png": _read_png,
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
}
