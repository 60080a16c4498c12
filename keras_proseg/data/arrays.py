"""Checks of arrays before they become a `Dataset`."""

from dataclasses import replace
from typing import Any

import numpy as np

from keras_proseg.data.columns import check_column, check_raters
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import Findings
from keras_proseg.data.records import USABLE, unusable
from keras_proseg.errors import require


def check_arrays(cls: type[Dataset], given: dict[str, Any], findings: Findings) -> Dataset | None:
    """Every check and default of `Dataset.from_arrays`; cases without a rater are left out.

    Args:
        cls: what is made.
        given: what `from_arrays` takes, by name; None stands for the default.
        findings: collects what is wrong.

    Returns:
        The dataset; None where `findings` has got a fatal one.
    """
    given = {name: value for name, value in given.items() if value is not None}
    images = findings.attempt("mend `images`", check_images, given["images"])
    masks = None
    if images is not None:
        masks = findings.attempt("mend `masks`", _shaped_masks, given["masks"], images)
    if masks is None:
        return None
    drawn, names = _drawn(given, masks, findings), _names(given, masks.shape[:2], findings)
    if findings.fatal:
        return None
    default = "patient_ids" if "patients" in given else "case_ids"
    dataset = cls(**({"group_by": default} | given | {"images": images} | drawn | names))
    return findings.attempt("annotate at least one case", _without_unannotated, dataset)


def _drawn(given: dict[str, Any], masks: np.ndarray, findings: Findings) -> dict[str, Any]:
    """`masks` 0/1, and `annotated`."""
    shape, found = masks.shape[:2], given.get("annotated")
    annotated = findings.attempt("mend `annotated`", _check_annotated, found, shape)
    if annotated is not None:
        masks = findings.attempt("make masks 0/1", _check_binary, masks, annotated)
    return {"masks": masks, "annotated": annotated}


def _names(given: dict[str, Any], shape: tuple[int, ...], findings: Findings) -> dict[str, Any]:
    """What names the raters and groups the cases; `spacing`."""
    count, num_raters = shape

    def column(name: str, default: Any) -> Any:
        found = given.get(name)
        return findings.attempt(f"mend `{name}`", check_column, found, name, count, default)

    raters, spacing = given.get("raters"), given.get("spacing")
    names = {
        "raters": findings.attempt("name every rater once", check_raters, raters, num_raters),
        "case_ids": column("case_ids", np.arange(count)),
    }
    alone = np.arange(count) if names["case_ids"] is None else names["case_ids"]
    names["patients"] = column("patients", alone)
    if "split" in given:
        names["split"] = column("split", alone)
    if spacing is not None:
        names["spacing"] = findings.attempt("mend `spacing`", _check_spacing, spacing, count)
    return names


def check_images(images: Any) -> np.ndarray:
    """Returns `images` (N, H, W, C) as an array of finite numbers, in the machine's byte order.

    Raises:
        ProSegError: wrong rank, no pixels, no numbers, NaN, infinity or larger than any pixel.
    """
    images = np.asarray(images)
    require(images.ndim == 4 and images.size > 0, "images", "(N, H, W, C), not empty", images.shape)
    numeric = images.dtype.kind in "biuf"
    require(numeric, "images", "an array of real numbers", f"dtype {images.dtype}")
    if images.dtype.kind == "f":
        bad = [k for k, image in enumerate(images) if unusable(image).any()]
        received = f"other values in {len(bad)} image(s), first {bad[:1]}"
        require(not bad, "images", USABLE, received)
        if images.dtype.itemsize > np.dtype(np.float64).itemsize:  # no file of ours holds it
            images = images.astype(np.float64)
    # PyTorch takes no other; NIfTI and DICOM files may hold it.
    return images.astype(images.dtype.newbyteorder("="), copy=False)


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
    values = np.unique(annotated)
    received = f"values {_some(values)}"
    require(bool(np.isin(values, (0, 1)).all()), "annotated", "true or false", received)
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
    shown = ", ".join(f"{value:.9g}" for value in values[:4])
    return f"[{shown}{', ...' if len(values) > 4 else ''}]"


def _check_spacing(spacing: Any, count: int) -> np.ndarray:
    array = np.asarray(spacing)
    good = array.shape == (count, 2) and array.dtype.kind in "iuf"
    require(good, "spacing", f"({count}, 2) numbers, mm", f"{array.shape}, dtype {array.dtype}")
    return array


def _without_unannotated(dataset: Dataset) -> Dataset:
    seen = dataset.annotated.any(axis=1)
    require(
        bool(seen.any()), "masks", "annotated by at least one rater", "no annotated mask at all"
    )
    if seen.all():
        return dataset
    kept = dataset.take(np.flatnonzero(seen))
    return replace(kept, dropped=int((~seen).sum()))
