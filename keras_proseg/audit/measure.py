"""Who the raters are, in numbers: counts, agreement, size, STAPLE, what their slots mean."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_proseg.audit.staple import staple_scores
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.lazy import CHUNK
from keras_proseg.metrics.overlap import dice_from_iou, iou_from_counts
from keras_proseg.metrics.statistics import (
    intervals,
    means_by,
    nan_mean,
    resampled_means,
    resamplings,
)

BOOTSTRAPS, PERMUTATIONS = 1000, 999
# Slots look meaningless where shuffled ones differ as much, or where they explain next to nothing:
# 2 % of the differences in size in LIDC, whose slots are anonymous, 36 and 57 % among named raters.
SIGNIFICANT, LEAST_EXPLAINED, LEAST_PATIENTS = 0.05, 0.1, 3


@dataclass(frozen=True)
class Audit:
    """What `audit_dataset` found.

    Attributes:
        summary: plain numbers, for JSON: see `audit_dataset`.
        disputed: rows of the cases by agreement, the least first.
        agreement: (N,) mean pairwise Dice of each case; nan with fewer than two raters.
    """

    summary: dict[str, Any]
    disputed: np.ndarray
    agreement: np.ndarray


def audit_dataset(dataset: Dataset, seed: int = 0) -> Audit:
    """Describes the raters of a data set.

    Two empty masks agree (Dice 1). Intervals are 95 % percentile bootstraps over patients.

    Args:
        dataset: the cases.
        seed: of bootstrap and permutations.

    Returns:
        The audit; its summary holds `cases`, `patients`, `raters` (for each: `cases`, `missing`,
        `empty` (of masks of single structures), `size` relative to the mean of a case's raters,
        over structures, with `size_ci`, `sensitivity` and `specificity` by STAPLE, means over
        `staple_cases`), `patterns` of missing raters, `pairs` (mean Dice and number of cases of
        each two raters), `identity` (what slots explain of the differences in size, the p-value of
        their being exchangeable, and the verdict).

    Raises:
        UsageError: SimpleITK is not installed.
    """
    dice, areas = _pairwise(dataset)
    relative = _relative_sizes(areas, dataset.annotated)
    by_patient = means_by(np.unique(dataset.patients, return_inverse=True)[1], relative)
    staple = staple_scores(dataset)
    upper = np.triu_indices(len(dataset.raters), 1)
    agreement = nan_mean(dice[:, upper[0], upper[1]], axis=1)
    summary = {
        "source": dataset.source,
        "cases": len(dataset),
        "patients": len(by_patient),
        "group_by": dataset.group_by,
        "images": dataset.image_kind,
        "mean_dice": float(nan_mean(agreement, axis=0)),
        "raters": _raters(dataset, areas, by_patient, staple, seed),
        "patterns": _patterns(dataset),
        "pairs": {
            f"{dataset.raters[i]} / {dataset.raters[j]}": {
                "dice": float(nan_mean(dice[:, i, j], axis=0)),
                "cases": int(np.isfinite(dice[:, i, j]).sum()),
            }
            for i, j in zip(*upper, strict=True)
        },
        "identity": _identity(dataset, by_patient, seed),
    }
    order = np.argsort(np.where(np.isnan(agreement), np.inf, agreement), kind="stable")
    return Audit(summary, order[np.isfinite(agreement[order])], agreement)


def _pairwise(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Dice (N, R, R), the mean over structures, nan where a rater is missing; areas (N, R, K)."""
    parts, areas = [], []
    for start in range(0, len(dataset), CHUNK):
        masks = np.asarray(dataset.masks[start : start + CHUNK])
        flat = masks.reshape(*masks.shape[:2], -1, masks.shape[-1]).astype(np.float32)
        flat = np.moveaxis(flat, -1, 1)  # (N, K, R, pixels)
        both = np.matmul(flat, flat.swapaxes(2, 3))
        each = flat.sum(axis=-1)
        dice = dice_from_iou(iou_from_counts(both, each[..., None] + each[:, :, None] - both))
        dice, own = dice.mean(axis=1), each.swapaxes(1, 2)
        there = dataset.annotated[start : start + CHUNK]
        parts.append(np.where(there[:, :, None] & there[:, None], dice, np.nan))
        areas.append(own)
    return np.concatenate(parts), np.concatenate(areas)


def _relative_sizes(areas: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """(N, R) of areas (N, R, K): over the mean area of the case's raters, mean over structures.

    A structure that nobody drew is left out; nan where a rater is missing or alone, or all is
    empty. A sum of the structures would hide the manners with a small one within a large one.
    """
    own = np.where(annotated[:, :, None], areas, np.nan)
    mean = nan_mean(own, axis=1)[:, None]
    alone = annotated.sum(axis=1)[:, None, None] < 2
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where((mean > 0) & ~alone, own / mean, np.nan)
    return nan_mean(relative, axis=2)


def _raters(
    dataset: Dataset, areas: np.ndarray, by_patient: np.ndarray, staple: dict, seed: int
) -> dict[str, dict[str, Any]]:
    weights = resamplings(len(by_patient), BOOTSTRAPS, seed)
    low, high = intervals(resampled_means(by_patient, weights), len(by_patient))
    means = nan_mean(by_patient, axis=0)
    rows = {}
    for r, name in enumerate(dataset.raters):
        there = dataset.annotated[:, r]
        rows[name] = {
            "cases": int(there.sum()),
            "missing": int((~there).sum()),
            "empty": float((areas[there, r] == 0).mean()) if there.any() else float("nan"),
            "size": float(means[r]),
            "size_ci": [float(low[r]), float(high[r])],
            **staple[name],
        }
    return rows


def _patterns(dataset: Dataset) -> dict[str, int]:
    """How many cases each set of raters annotated, the most frequent first."""
    counts = Counter(map(tuple, dataset.annotated.tolist()))
    names = np.array(dataset.raters)
    return {", ".join(names[list(row)]): count for row, count in counts.most_common()}


def _can_tell(raters: int, patients: int) -> bool:
    """Whether so few could be found to differ: one order in all patients is as rare as this."""
    orders = math.lgamma(raters + 1)  # the logarithm of their number
    return patients >= LEAST_PATIENTS and (1 - patients) * orders <= math.log(SIGNIFICANT)


def _identity(dataset: Dataset, by_patient: np.ndarray, seed: int) -> dict[str, Any]:
    """Whether a slot means the same rater in every patient.

    `explained` is the share of the differences in size within a patient that belongs to the slot
    (a slot's mean over patients); 0 to 1, and 1 / patients by chance. The p-value is the share of
    permutations of the slots within each patient that explain at least as much.
    """
    complete = by_patient[np.isfinite(by_patient).all(axis=1)]
    ranked = bool(dataset.raters) and all(name.startswith("rank") for name in dataset.raters)
    answer: dict[str, Any] = {"patients": len(complete), "ranked": ranked}
    answer["anonymous"] = dataset.rater_order == "area"
    if len(dataset.raters) < 2 or not _can_tell(len(dataset.raters), len(complete)):
        return answer | {"p_value": float("nan"), "explained": float("nan"), "meaningless": None}
    rng = np.random.default_rng(seed)
    away = complete - complete.mean(axis=1, keepdims=True)
    total = max(float((away**2).mean()), 1e-12)
    explained = float(away.mean(axis=0).var()) / total
    drawn = [rng.permuted(away, axis=1).mean(axis=0).var() / total for _ in range(PERMUTATIONS)]
    p_value = (1 + sum(value >= explained - 1e-12 for value in drawn)) / (1 + PERMUTATIONS)
    meaningless = p_value > SIGNIFICANT or explained < LEAST_EXPLAINED
    return answer | {"p_value": p_value, "explained": explained, "meaningless": bool(meaningless)}
