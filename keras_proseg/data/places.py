"""Where the rows of a `Dataset` lie in the users' files, and the way back there."""

from dataclasses import asdict, dataclass, replace
from typing import Any

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
        affine: of NIfTI, 4x4, voxel to `unit`.
        flat: a file of one slice that has no third axis.
        codes: of NIfTI's sform and qform.
        unit: of `affine`.
    """

    path: str
    kind: str
    shape: tuple[int, int, int]
    case_id: str
    affine: Affine | None = None
    flat: bool = False
    codes: tuple[int, int] = (2, 0)
    unit: str = "mm"


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


def plain_places(places: np.ndarray) -> dict[str, list]:
    """Places (N,) as plain JSON values, each volume once."""
    seen = dict.fromkeys(place.volume for place in places)
    volumes = {volume: number for number, volume in enumerate(seen)}
    rows = [[volumes[p.volume], p.index, list(p.size), list(p.offset)] for p in places]
    return {"volumes": [asdict(volume) for volume in volumes], "rows": rows}


def read_places(parts: list[dict[str, list] | None]) -> np.ndarray | None:
    """The places of all `parts`, each as `plain_places` gave it; None where one has none."""
    if any(part is None for part in parts):
        return None
    places: list[Place] = []
    for part in parts:
        assert part is not None
        volumes = [_volume(**fields) for fields in part["volumes"]]
        places += [Place(volumes[v], i, tuple(s), tuple(o)) for v, i, s, o in part["rows"]]
    array = np.empty(len(places), object)
    array[:] = places
    return array


def _volume(**fields: Any) -> Volume:
    volume = Volume(**fields)
    affine = None if volume.affine is None else tuple(map(tuple, volume.affine))
    own = {"shape": tuple(volume.shape), "codes": tuple(volume.codes), "affine": affine}
    return replace(volume, **own)  # type: ignore[arg-type]


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
    """Resamples (H, W, ...) to `size`: bilinear, pixel edges kept, averaged where it shrinks.

    Args:
        values: float.
        size: new height and width.
        smooth: average when shrinking, as images need; masks of small things would vanish.
    """
    if tuple(values.shape[:2]) == tuple(size):
        return values
    grids = [
        grid(old, new, np.arange(new), smooth)
        for old, new in zip(values.shape[:2], size, strict=True)
    ]
    return resample(values, *grids)


def grid(old: int, new: int, at: np.ndarray, smooth: bool = True) -> np.ndarray:
    """Weights (P, old) of `old` pixels in the pixels `at` (P,) of an axis resampled to `new`.

    They are linear (a triangle, widened where the axis shrinks and `smooth`) and sum to 1; what
    lies outside repeats the edge.
    """
    ratio = old / new
    centre = np.clip((at + 0.5) * ratio - 0.5, 0, old - 1)
    width = max(1.0, ratio) if smooth else 1.0
    weights = np.maximum(0, 1 - np.abs(np.arange(old)[None] - centre[:, None]) / width)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resample(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Applies `grid` weights rows (P, H) and columns (Q, W) to values (H, W, ...): (P, Q, ...)."""
    shape = values.shape
    flat = values.astype(np.float32).reshape(shape[0], -1)
    tall = (rows @ flat).reshape(len(rows), shape[1], -1)
    return np.matmul(columns[None], tall).reshape(len(rows), len(columns), *shape[2:])
