"""Every metric of one case and one structure: an image or, stacked over slices, a volume."""

from typing import Any, NamedTuple

import numpy as np

from keras_proseg.errors import require
from keras_proseg.metrics import calibration, diversity
from keras_proseg.metrics.overlap import (
    bounding_box,
    dice_from_iou,
    paired_dice,
    pairwise_iou,
)


class CaseMeasures(NamedTuple):
    """What one case gives; `rater_dice` is (R,), or (0,) without predictions for the raters."""

    metrics: dict[str, float]
    rater_dice: np.ndarray
    ece_bins: np.ndarray


def case_metrics(
    masks: Any, probabilities: Any, rater_probabilities: Any = None, threshold: float = 0.5
) -> dict[str, float]:
    """Compares sampled masks with the annotations of one case.

    Args:
        masks: (R, ...) 0/1, the annotations of the raters present, any spatial rank.
        probabilities: (S, ...) in [0, 1], one map per sample; a sampled mask is where it exceeds
            `threshold`.
        rater_probabilities: (R, ...) in [0, 1], the prediction for each rater of `masks`, in their
            order.
        threshold: in [0, 1).

    Returns:
        `ged`, `ged_unbiased`, `ged_cross`, `ged_within_samples`, `ged_within_annotations`,
        `dice_max`, `dice_max_samples`, `dice_max_raters`, `dice_match`, `dice_soft`, `fragments`,
        `brier`, `ece` (this case's own), `ncc`, and `dice_rater` with `rater_probabilities`.
        Dice, `brier` and `ece` lie in [0, 1], `fragments` counts components; what a case leaves
        undefined is nan (`ged_unbiased` with one rater or sample, `brier` and `ece` with an empty
        zone, `ncc` with a constant map).

    Raises:
        ProSegError: an argument has a wrong shape or value.
    """
    return measure_case(masks, probabilities, rater_probabilities, threshold).metrics


def measure_case(
    masks: Any, probabilities: Any, rater_probabilities: Any = None, threshold: float = 0.5
) -> CaseMeasures:
    """`case_metrics` together with what pooling over cases needs."""
    require(0 <= threshold < 1, "threshold", "at least 0 and below 1", threshold)
    masks = _check_masks(masks)
    probabilities = _check_probabilities(probabilities, "probabilities", masks.shape[1:])
    metrics = _set_metrics(masks, probabilities > threshold)
    map_metrics, bins = _map_metrics(masks, probabilities)
    metrics |= map_metrics
    if rater_probabilities is None:
        return CaseMeasures(metrics, np.zeros(0), bins)
    name, space = "rater_probabilities", masks.shape[1:]
    predicted = _check_probabilities(rater_probabilities, name, space, len(masks)) > threshold
    rater_dice = paired_dice(predicted, masks)
    return CaseMeasures(metrics | {"dice_rater": float(rater_dice.mean())}, rater_dice, bins)


def _set_metrics(masks: np.ndarray, samples: np.ndarray) -> dict[str, float]:
    # Background outside every mask changes neither overlaps nor components.
    box = (slice(None), *bounding_box(np.logical_or(masks.any(axis=0), samples.any(axis=0))))
    masks, samples = masks[box], samples[box]
    cross = pairwise_iou(samples, masks)
    dice = dice_from_iou(cross)
    return {
        **diversity.ged(cross, pairwise_iou(samples, samples), pairwise_iou(masks, masks)),
        **diversity.dice_max(dice),
        "dice_match": diversity.dice_match(dice),
        "fragments": diversity.fragments(samples, masks),
    }


def _map_metrics(
    masks: np.ndarray, probabilities: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    probability, predicted_variance = calibration.mean_and_variance(probabilities)
    annotation = masks.mean(axis=0, dtype=np.float64)
    zone = calibration.boundary_zone(probability, annotation)
    bins = calibration.ece_bins(probability, annotation, zone)
    metrics = {
        "dice_soft": diversity.dice_soft(probability, annotation),
        "brier": calibration.brier(probability, annotation, zone),
        "ece": float(calibration.ece(bins)),
        "ncc": calibration.ncc(predicted_variance, annotation * (1 - annotation)),
    }
    return metrics, bins


def _check_masks(masks: Any) -> np.ndarray:
    masks = np.asarray(masks)
    right = masks.ndim > 1 and masks.size > 0
    require(
        right, "masks", "(R, ...) with at least one rater and one pixel", f"shape {masks.shape}"
    )
    require(masks.dtype.kind in "biuf", "masks", "an array of 0/1", f"dtype {masks.dtype}")
    marked = masks == 1
    other = masks[~marked & (masks != 0)]
    require(not other.size, "masks", "0 or 1 everywhere", f"values such as {other[:1]}")
    return marked


def _check_probabilities(
    values: Any, name: str, space: tuple[int, ...], count: int | None = None
) -> np.ndarray:
    values = np.asarray(values)
    right = values.ndim > 1 and len(values) > 0 and values.shape[1:] == space
    right = right and count in (None, len(values))
    expected = f"({count or 'S'}, {', '.join(map(str, space))}) to go with the masks"
    require(right, name, expected, f"shape {values.shape}")
    require(values.dtype.kind in "biuf", name, "an array of real numbers", f"dtype {values.dtype}")
    low, high = values.min(), values.max()
    # Comparisons with nan are false, so this one check also finds every nan.
    require(bool(low >= 0 and high <= 1), name, "finite and in [0, 1]", f"values {low} to {high}")
    return values
