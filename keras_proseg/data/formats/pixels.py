"""What one image or mask file holds: an array in the axes of its kind, and its geometry."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_proseg.errors import require

KINDS = (".npz", ".npy", ".png", ".nii", ".nii.gz")
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
