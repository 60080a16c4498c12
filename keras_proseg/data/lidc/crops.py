"""Which part of a scan a nodule's images are: slices or a volume, native or resampled."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_proseg.config import MAX_READERS, DataConfig
from keras_proseg.data.lidc.database import read_scans
from keras_proseg.data.lidc.labels import Nodule, find_nodules, rasterise
from keras_proseg.data.places import grid, resample

PREPARING = "Preparing LIDC-IDRI"
SCAN_SIZE = 512
MARGIN = 2  # slices of a volume beyond the last outline, at either end


@dataclass(frozen=True)
class Crop:
    """A nodule's crop.

    Attributes:
        nodule: the nodule.
        config: `crop`, `spacing` and `unit` are read.
    """

    nodule: Nodule
    config: DataConfig

    @cached_property
    def slices(self) -> list[int]:
        """Slices of the scan that are needed, ascending."""
        own = self.nodule.slices()
        if self.config.unit == "slices":
            return own
        last = len(self.nodule.scan.zvals) - 1
        return list(range(max(0, own[0] - MARGIN), min(last, own[-1] + MARGIN) + 1))

    @cached_property
    def z(self) -> np.ndarray:
        """mm of the crop's slices, ascending."""
        z = self.nodule.scan.zvals[self.slices]
        if self._depth is None:
            return z
        return np.arange(z[0], z[-1] + 1e-6, self._depth)

    @property
    def nearest(self) -> list[int]:
        """For each slice of the crop the nearest one of `slices`, counted from its start."""
        z = self.nodule.scan.zvals[self.slices]
        return np.abs(self.z[:, None] - z[None]).argmin(axis=1).tolist()

    @property
    def spacing(self) -> float:
        """mm per pixel of the crop."""
        return self.nodule.scan.spacing * SCAN_SIZE / self.size

    @cached_property
    def size(self) -> int:
        """Height and width in pixels of the whole slice at the crop's spacing."""
        if self.config.spacing is None:
            return SCAN_SIZE
        return round(SCAN_SIZE * self.nodule.scan.spacing / self.config.spacing)

    @cached_property
    def offset(self) -> tuple[int, int]:
        """Row and column, in the whole slice of `size`, at which the crop begins."""
        low, high = self.nodule.bounds()
        middle = (low + high + 1) * self.size // (2 * SCAN_SIZE)
        start = np.clip(middle - self.config.crop // 2, 0, max(0, self.size - self.config.crop))
        return int(start[0]), int(start[1])

    def fits(self) -> bool:
        """Whether the crop lies inside the scan, and every outline inside the crop."""
        low, high = self.nodule.bounds() * self.size / SCAN_SIZE - np.array(self.offset)
        inside = low.min() >= 0 and high.max() < self.config.crop
        return bool(inside and self.config.crop <= self.size)

    @cached_property
    def window(self) -> tuple[int, int, int]:
        """Row, column and side of the square of scan pixels that the crop is made of."""
        if self._weights is None:
            return (*self.offset, self.config.crop)
        used = [np.flatnonzero(weights.any(axis=0)) for weights in self._weights]
        side = max(int(own[-1] - own[0]) + 1 for own in used)
        row, column = (min(int(own[0]), SCAN_SIZE - side) for own in used)
        return row, column, side

    def masks(self) -> np.ndarray:
        """(Z, R, crop, crop) bool of the nodule's readers."""
        masks = self._native_masks
        return masks if self._is_native else self._resampled(masks, False) > 0.5

    def vanished(self) -> int:
        """How many outlines have no pixel left on their slice; not counted in volumes."""
        if self._is_native or self._depth is not None:  # slices of a volume are others
            return 0
        before, after = (m.any(axis=(-2, -1)) for m in (self._native_masks, self.masks()))
        return int((before & ~after).sum())

    def images(self, pixels: np.ndarray) -> np.ndarray:
        """Crops (Z, crop, crop) int16 of HU on `slices` and `window`, (slices, side, side)."""
        if self._is_native:
            return pixels
        return np.rint(self._resampled(pixels, True)).astype(np.int16)

    @cached_property
    def _native_masks(self) -> np.ndarray:
        """(Z, R, side, side) bool on the pixels of the scan."""
        row, column, side = self.window
        annotations = self.nodule.annotations
        return np.stack([rasterise(a, self.slices, (row, column), side) for a in annotations], 1)

    @property
    def _depth(self) -> float | None:
        return self.config.spacing if self.config.unit == "volumes" else None

    @property
    def _is_native(self) -> bool:
        return self._weights is None and self._depth is None

    @cached_property
    def _weights(self) -> tuple[np.ndarray, np.ndarray] | None:
        if self.size == SCAN_SIZE:
            return None
        rows, columns = (
            grid(SCAN_SIZE, self.size, start + np.arange(self.config.crop)) for start in self.offset
        )
        return rows, columns

    def _resampled(self, values: np.ndarray, smooth: bool) -> np.ndarray:
        """Values (Z, ..., side, side) on the crop's grid."""
        values = np.moveaxis(values.astype(np.float32), (-2, -1), (0, 1))
        if self._weights is not None:
            row, column, side = self.window
            rows, columns = (
                grid(SCAN_SIZE, self.size, start + np.arange(self.config.crop), smooth)
                for start in self.offset
            )
            values = resample(values, rows[:, row : row + side], columns[:, column : column + side])
        values = np.moveaxis(values, (0, 1), (-2, -1))
        if self._depth is None:
            return values
        known = self.nodule.scan.zvals[self.slices]
        weights = np.stack([np.interp(self.z, known, unit) for unit in np.eye(len(known))], axis=1)
        return np.tensordot(weights.astype(np.float32), values, axes=1)


def choose_nodules(config: DataConfig) -> tuple[list[Nodule], dict[str, Any]]:
    """The nodules that the settings ask for, before `limit`, and counts for the notes."""
    clusters = find_nodules(read_scans())
    sizes = Counter(len(nodule.annotations) for nodule in clusters)
    wanted = [n for n in clusters if config.min_raters <= len(n.annotations) <= MAX_READERS]
    fitting = [nodule for nodule in wanted if Crop(nodule, config).fits()]
    return fitting, {
        "clusters_by_readers": {str(size): sizes[size] for size in sorted(sizes)},
        "clusters_left_out": sum(count for size, count in sizes.items() if size > MAX_READERS),
        "nodules_too_large_for_crop": len(wanted) - len(fitting),
        "nodules_without_pixels": 0,
    }


def label_columns(crop: Crop) -> dict[str, np.ndarray]:
    """`masks` (Z, 4, H, W, 1) uint8, `annotated`, `case_ids` and `spacing` of a nodule."""
    masks = crop.masks().astype(np.uint8)[..., None]
    count, readers = masks.shape[:2]
    slots = ((0, 0), (0, MAX_READERS - readers), (0, 0), (0, 0), (0, 0))
    indices = crop.slices if len(crop.slices) == count else range(count)
    return {
        "masks": np.pad(masks, slots),
        "annotated": np.tile(np.arange(MAX_READERS) < readers, (count, 1)),
        "case_ids": np.array([f"{crop.nodule.key}/z{index}" for index in indices]),
        "patients": np.full(count, crop.nodule.scan.patient),
        "spacing": np.full((count, 2), crop.spacing),
    }


def loss_findings(vanished: int) -> list[list[str]]:
    """What `Dataset.notes` says in `findings` of so many outlines that the spacing took."""
    remedy = "choose a finer --spacing"
    return [["lidc", f"{vanished} outlines vanish at the new scale", remedy]] if vanished else []


def reader_names() -> tuple[str, ...]:
    """The slots of LIDC's anonymous readers."""
    return tuple(f"reader{slot + 1}" for slot in range(MAX_READERS))
