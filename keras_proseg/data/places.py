"""Where the rows of a `Dataset` lie in the users' files, and the way back there."""

from dataclasses import dataclass

import numpy as np

Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Volume:
    """An image as it lies on disk.

    Attributes:
        path: the file, or the folder of a DICOM series.
        kind: its suffix (`".nii.gz"`, `".png"` ...), or `"dicom"`.
        shape: (Z, H, W).
        case_id: the case it belongs to.
        affine: of NIfTI, 4x4, voxel to mm.
        flat: a file of one slice that has no third axis.
    """

    path: str
    kind: str
    shape: tuple[int, int, int]
    case_id: str
    affine: Affine | None = None
    flat: bool = False


@dataclass(frozen=True)
class Place:
    """One row of a `Dataset`: slice `index` of `volume`, resampled and then cropped or padded.

    Attributes:
        volume: the image on disk.
        index: its slice.
        size: height and width of the slice after resampling (that of the file when not resampled).
        offset: row and column, in the resampled slice, of the row's first pixel; negative in
            padding.
    """

    volume: Volume
    index: int
    size: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    def restore(self, values: np.ndarray) -> np.ndarray:
        """Brings values (h, w) of the row back onto the whole slice (H, W), 0 where it saw nothing.

        Args:
            values: float, such as probabilities.
        """
        whole = paste(np.zeros(self.size, np.float32), values, self.offset)
        return resize(whole, self.volume.shape[1:])


def paste(canvas: np.ndarray, values: np.ndarray, offset: tuple[int, int]) -> np.ndarray:
    """Writes `values` (h, w) into `canvas` (H, W, ...) from `offset` on; what sticks out is cut."""
    low = np.maximum(offset, 0)
    high = np.minimum(np.add(offset, values.shape[:2]), canvas.shape[:2])
    if (high > low).all():
        here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        there = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, offset, strict=True))
        canvas[here] = values[there]
    return canvas


def resize(values: np.ndarray, size: tuple[int, ...], smooth: bool = True) -> np.ndarray:
    """Resamples (H, W, ...) to `size`: bilinear, pixel centres kept, averaged where it shrinks.

    Args:
        values: float.
        size: new height and width.
        smooth: average when shrinking, as images need; masks of small things would vanish.
    """
    if tuple(values.shape[:2]) == tuple(size):
        return values
    from skimage.transform import resize as resample

    shape = (*size, *values.shape[2:])
    shrinks = smooth and (np.array(size) < values.shape[:2]).any()
    answer = resample(
        values.astype(np.float32), shape, order=1, mode="edge", anti_aliasing=bool(shrinks)
    )
    return answer.astype(np.float32)
