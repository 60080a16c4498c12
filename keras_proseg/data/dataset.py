"""`Dataset`: cases of one image and at most one mask per named rater, with their groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_proseg.config import check_fields
from keras_proseg.data.lazy import CHUNK, LazyRows, PackedMasks

COLUMNS = ("image", "masks", "annotated")  # of a training batch


@dataclass(frozen=True)
class Case:
    """One case: `image` (H, W, C) raw, `masks` {rater: (H, W, K) 0/1} of the raters present."""

    case_id: str
    patient: str
    image: np.ndarray
    masks: dict[str, np.ndarray]
    spacing: tuple[float, float] | None = None


@dataclass(frozen=True)
class Dataset:
    """Annotated images of one size, column by column.

    Attributes:
        images: (N, H, W, C), raw intensities of any real dtype.
        masks: (N, R, H, W, K) uint8, 0/1; all zero where `annotated` is false.
        annotated: (N, R) bool; false where a rater gave no mask.
        raters: R names.
        case_ids: (N,) strings.
        patients: (N,) strings; cases of one group never straddle a split.
        group_by: what `patients` holds: `"patient_ids"`, `"image_ids"` (of scans as well) or
            `"case_ids"`.
        spacing: (N, 2) pixel spacing in mm (rows, columns), or None.
        rater_order: the source's default order: `"area"` if its raters are anonymous slots, or
            are ranked already.
        places: (N,) of `Place`, where each case lies in the users' files, or None.
        split: (N,) of `"train"`, `"val"`, `"test"`, or None.
        source: where the cases come from, as given by the user.
        image_kind: `"given"`, `"ct"` or `"phantom"` (simulated pixels).
        dropped: how many cases without any rater were left out.
        notes: what else is known of the source, for people and for JSON: counts, `findings`, the
            `scale` that images were brought to, the `window` they were prepared for, the names of
            several `channels` and `structures`.
    """

    images: np.ndarray
    masks: np.ndarray
    annotated: np.ndarray
    raters: tuple[str, ...]
    case_ids: np.ndarray
    patients: np.ndarray
    group_by: str = "case_ids"
    spacing: np.ndarray | None = None
    split: np.ndarray | None = None
    source: str = "arrays"
    image_kind: str = "given"
    dropped: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    places: np.ndarray | None = None
    rater_order: str = "given"

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        masks: Any,
        annotated: Any = None,
        raters: Sequence[str] | None = None,
        patients: Any = None,
        **columns: Any,
    ) -> "Dataset":
        """Checks arrays and makes a dataset of them.

        Args:
            images: (N, H, W, C), finite numbers.
            masks: (N, R, H, W) or (N, R, H, W, K), 0/1 where annotated.
            annotated: (N, R) bool; all true by default.
            raters: R distinct names; rater1 ... rater<R> by default.
            patients: (N,) group of each case; by default every case is its own.
            **columns: further fields of `Dataset` (`case_ids`, `split`, `spacing`, `source` ...).

        Raises:
            UsageError: an unknown column.
            ProSegError: an array has a wrong shape, dtype or value.
        """
        from keras_proseg.data.arrays import check_arrays
        from keras_proseg.data.findings import Findings

        text = "Columns must be fields of `Dataset` (`patients` are the ids of patients)."
        check_fields(cls, columns, text)
        findings = Findings(str(columns.get("source", "arrays")))
        given = {"images": images, "masks": masks, "annotated": annotated, "raters": raters}
        dataset = check_arrays(cls, given | {"patients": patients} | columns, findings)
        findings.check()
        assert dataset is not None
        return dataset

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Case:
        present = np.flatnonzero(self.annotated[index])
        spacing = None if self.spacing is None else tuple(map(float, self.spacing[index]))
        return Case(
            case_id=str(self.case_ids[index]),
            patient=str(self.patients[index]),
            image=self.images[index],
            masks={self.raters[r]: self.masks[index, r] for r in present},
            spacing=spacing,  # type: ignore[arg-type]
        )

    @property
    def num_classes(self) -> int:
        """K, the number of overlapping structures."""
        return self.masks.shape[-1]

    def take(self, indices: np.ndarray) -> "Dataset":
        """The cases at `indices`, as a dataset."""

        def rows(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[indices]

        return replace(
            self,
            images=rows_of(self.images, indices),
            masks=rows_of(self.masks, indices),
            annotated=self.annotated[indices],
            case_ids=self.case_ids[indices],
            patients=self.patients[indices],
            spacing=rows(self.spacing),
            split=rows(self.split),
            places=rows(self.places),
        )

    def fingerprint(self) -> str:
        """A hash of images, masks, raters, groups and split: equal data, equal fingerprint."""
        digest = hashlib.sha256()
        for array in (self.images, self.masks, self.annotated):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for start in range(0, len(array), CHUNK):
                digest.update(np.ascontiguousarray(array[start : start + CHUNK]).data)
        split = () if self.split is None else self.split
        for names in (self.raters, self.case_ids, self.patients, split):
            digest.update("\0".join(map(str, names)).encode())
        return digest.hexdigest()[:16]


def rank_by_area(dataset: Dataset) -> Dataset:
    """Renames each case's masks by rank of area: rank1 the smallest, ties by slot.

    With m of R raters annotated the ranks 1 to m are present and the others missing. This gives
    anonymous readers (LIDC) an identity that means the same on every slice: "the k-th smallest".
    """
    areas = mask_areas(dataset).astype(float)
    areas[~dataset.annotated] = np.inf
    order = np.argsort(areas, axis=1, kind="stable")
    masks: Any
    if isinstance(dataset.masks, PackedMasks):
        masks = dataset.masks.reordered(order)
    else:
        masks = np.take_along_axis(dataset.masks, order[:, :, None, None, None], axis=1)
    return replace(
        dataset,
        masks=masks,
        annotated=np.take_along_axis(dataset.annotated, order, axis=1),
        raters=tuple(f"rank{k + 1}" for k in range(len(dataset.raters))),
        rater_order="area",
    )


def mask_areas(dataset: Dataset) -> np.ndarray:
    """Foreground pixels (N, R) of every mask."""
    if isinstance(dataset.masks, PackedMasks):
        return dataset.masks.areas()
    return dataset.masks.sum(axis=(2, 3, 4), dtype=np.int64)


def structure_areas(dataset: Dataset) -> np.ndarray:
    """Foreground pixels (N, R, K) of every mask."""
    if dataset.num_classes == 1:
        return mask_areas(dataset)[..., None]
    starts = range(0, len(dataset), CHUNK)
    parts = [np.asarray(dataset.masks[s : s + CHUNK]).sum(axis=(2, 3), dtype=int) for s in starts]
    return np.concatenate(parts)


def structure_names(known: list[str] | None, count: int) -> list[str]:
    """The names of K = `count` structures as the data have them, or numbers."""
    return known or [f"class{k + 1}" for k in range(count)]


def rows_of(column: Any, indices: np.ndarray) -> Any:
    """The rows of a column at `indices`; what lies on disk stays there."""
    return column.take_rows(indices) if isinstance(column, LazyRows) else column[indices]
