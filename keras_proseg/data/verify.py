"""Checks of arrays before they become a `Dataset`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset, require


def check_arrays(
    cls: type[Dataset],
    images: Any,
    masks: Any,
    annotated: Any,
    raters: Sequence[str] | None,
    patients: Any,
    columns: dict[str, Any],
) -> Dataset:
    """`Dataset.from_arrays`: every check and default; cases without a rater are left out."""
    images = check_images(images)
    masks = _shaped_masks(masks, images)
    count, num_raters = masks.shape[:2]
    annotated = _check_annotated(annotated, (count, num_raters))
    masks = _check_binary(masks, annotated)
    names = _check_raters(raters, num_raters)
    case_ids = _column(columns.pop("case_ids", None), "case_ids", count, np.arange(count))
    split = columns.pop("split", None)
    dataset = cls(
        images=images,
        masks=masks,
        annotated=annotated,
        raters=names,
        case_ids=case_ids,
        patients=_column(patients, "patients", count, case_ids),
        group_by=columns.pop("group_by", "case_ids" if patients is None else "patient_ids"),
        split=None if split is None else _column(split, "split", count, case_ids),
        **columns,
    )
    return _without_unannotated(dataset)


def check_images(images: Any) -> np.ndarray:
    """Returns `images` (N, H, W, C) as an array of finite numbers.

    Raises:
        ProSegError: wrong rank, no pixels, no numbers, NaN or infinity.
    """
    images = np.asarray(images)
    require(images.ndim == 4 and images.size > 0, "images", "(N, H, W, C), not empty", images.shape)
    numeric = images.dtype.kind in "biuf"
    require(numeric, "images", "an array of real numbers", f"dtype {images.dtype}")
    if images.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        require(
            not bad.size,
            "images",
            "finite",
            f"NaN or infinity in {bad.size} image(s), first {bad[:1]}",
        )
    return images


def _shaped_masks(masks: Any, images: np.ndarray) -> np.ndarray:
    masks = np.asarray(masks)
    require(masks.dtype.kind in "biuf", "masks", "an array of 0/1", f"dtype {masks.dtype}")
    require(
        masks.ndim in (4, 5), "masks", "(N, R, H, W) or (N, R, H, W, K)", f"shape {masks.shape}"
    )
    masks = masks[..., None] if masks.ndim == 4 else masks
    wanted = (len(images), *images.shape[1:3])
    got = (masks.shape[0], *masks.shape[2:4])
    require(
        got == wanted and masks.size > 0,
        "masks",
        f"of the images' size, (N, H, W) = {wanted}",
        f"shape {masks.shape}",
    )
    return masks


def _check_annotated(annotated: Any, shape: tuple[int, int]) -> np.ndarray:
    if annotated is None:
        return np.ones(shape, bool)
    annotated = np.asarray(annotated)
    good = annotated.shape == shape and annotated.dtype.kind in "biu"
    received = f"shape {annotated.shape}, dtype {annotated.dtype}"
    require(good, "annotated", f"(N, R) = {shape}, true or false", received)
    return annotated.astype(bool)


def _check_binary(masks: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    checked = np.zeros(masks.shape, np.uint8)
    for case in range(len(masks)):  # one case at a time bounds the memory of the comparison
        rows = masks[case][annotated[case]]
        binary = bool(np.isin(np.unique(rows), (0, 1)).all())
        require(binary, "masks", "0/1", f"values {_some(rows)} in case {case}")
        checked[case][annotated[case]] = rows
    return checked


def _some(rows: np.ndarray) -> str:
    values = np.unique(rows)
    shown = ", ".join(f"{value:g}" for value in values[:4])
    return f"[{shown}{', ...' if len(values) > 4 else ''}]"


def _check_raters(raters: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if raters is None:
        return tuple(f"rater{index + 1}" for index in range(count))
    names = tuple(str(name) for name in raters)
    good = len(names) == count and len(set(names)) == count and all(names)
    require(good, "raters", f"{count} distinct names", list(names))
    return names


def _column(values: Any, name: str, count: int, default: np.ndarray) -> np.ndarray:
    array = np.asarray(default if values is None else values)
    require(array.shape == (count,), name, f"({count},)", f"shape {array.shape}")
    require(array.dtype.kind in "biufUS", name, "strings or numbers", f"dtype {array.dtype}")
    return array.astype(str)


def _without_unannotated(dataset: Dataset) -> Dataset:
    seen = dataset.annotated.any(axis=1)
    require(
        bool(seen.any()), "masks", "annotated by at least one rater", "no annotated mask at all"
    )
    if seen.all():
        return dataset
    kept = dataset.take(np.flatnonzero(seen))
    return replace(kept, dropped=int((~seen).sum()))
