"""From structures to a case, and from cases to patients to one summary with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_proseg.errors import require
from keras_proseg.metrics.calibration import NUM_BINS, ece
from keras_proseg.metrics.case import CaseMeasures, measure_case
from keras_proseg.metrics.statistics import (
    intervals,
    means_by,
    nan_mean,
    resampled_means,
    resamplings,
    sums_by,
)


def structure_metrics(
    masks: Any,
    probabilities: Any,
    rater_probabilities: Any = None,
    rater_names: Sequence[str] | None = None,
    threshold: float = 0.5,
) -> tuple[dict[str, float], np.ndarray]:
    """`case_metrics` of a case with K structures: each structure's, averaged.

    What is nan for one structure is left out of that metric's average.

    Args:
        masks: (R, ..., K) 0/1, the annotations of the raters present.
        probabilities: (S, ..., K) in [0, 1].
        rater_probabilities: (R, ..., K) in [0, 1], the prediction for each rater.
        rater_names: R names; with them and `rater_probabilities` the metrics also hold each
            rater's Dice as `dice_rater/<name>`.
        threshold: in [0, 1).

    Returns:
        The metrics by name, and the bin sums (K, 3, 15) that `summarise` pools for `ece`.

    Raises:
        ProSegError: an argument has a wrong shape or value.
    """
    arrays = [np.asarray(masks), np.asarray(probabilities)]
    arrays += [] if rater_probabilities is None else [np.asarray(rater_probabilities)]
    count, num_structures = _check_structures([a.shape for a in arrays])
    named = rater_names is None or len(set(rater_names)) == len(rater_names) == count
    require(named, "rater_names", f"{count} distinct names", rater_names)
    parts = [_measure([a[..., k] for a in arrays], threshold) for k in range(num_structures)]
    row = {name: float(nan_mean([p.metrics[name] for p in parts])) for name in parts[0].metrics}
    if rater_names is not None and rater_probabilities is not None:
        by_rater = np.mean([p.rater_dice for p in parts], axis=0)
        row |= {f"dice_rater/{n}": float(d) for n, d in zip(rater_names, by_rater, strict=True)}
    return row, np.stack([p.ece_bins for p in parts])


def summarise(
    rows: Sequence[dict[str, float]],
    patients: Sequence[str],
    ece_bins: Sequence[np.ndarray] | np.ndarray,
    seed: int = 0,
    num_bootstrap: int = 1000,
) -> dict[str, float | int | list[float]]:
    """Averages cases: first over each patient's cases, then over patients.

    `ece` is pooled over all cases instead, per structure. What is nan or missing in a case (a rater
    who did not annotate it) is left out. Intervals are 95 % percentile bootstraps over patients.

    Args:
        rows: N case metrics, as from `structure_metrics`.
        patients: N patients.
        ece_bins: N bin sums, each (K, 3, 15), as from `structure_metrics`.
        seed: of the bootstrap; the same seed gives the same intervals.
        num_bootstrap: resamplings of the patients.

    Returns:
        For every metric `<name>` its mean (nan where no case has it), `<name>_ci` as [low, high]
        ([nan, nan] with fewer than two patients) and, where above 0, `<name>_undefined`, the
        cases left out as nan; also `num_cases` and `num_patients`. A metric that is itself named
        so, as of a rater `ann_ci` beside `ann`, keeps its mean.

    Raises:
        ProSegError: no cases, lengths that differ, bin sums of a wrong shape, no resampling.
    """
    bins = _check_rows(rows, patients, ece_bins, num_bootstrap)
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = np.array([[row.get(name, np.nan) for name in names] for row in rows], float)
    _, owner = np.unique([str(p) for p in patients], return_inverse=True)
    table = names, means_by(owner, values), sums_by(owner, bins)
    num_patients = int(owner.max()) + 1
    means = _estimates(*table, np.ones((1, num_patients)))[0]
    weights = resamplings(num_patients, num_bootstrap, seed)
    limits = intervals(_estimates(*table, weights), num_patients)
    summary: dict[str, float | int | list[float]] = {}
    for index, name in enumerate(names):
        summary[name] = float(means[index])
        summary.setdefault(f"{name}_ci", limits[:, index].tolist())
        undefined = sum(bool(np.isnan(row.get(name, 0.0))) for row in rows)
        if undefined:
            summary.setdefault(f"{name}_undefined", undefined)
    return summary | {"num_cases": len(rows), "num_patients": num_patients}


def _estimates(
    names: list[str], by_patient: np.ndarray, bins: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Each metric (B, M) when patients count as often as `weights` (B, P) says."""
    means = resampled_means(by_patient, weights)
    if "ece" in names:
        pooled = ece(np.tensordot(weights, bins, axes=1))
        means[:, names.index("ece")] = nan_mean(pooled, axis=1)
    return means


def _measure(arrays: list[np.ndarray], threshold: float) -> CaseMeasures:
    raters = arrays[2] if len(arrays) > 2 else None
    return measure_case(arrays[0], arrays[1], raters, threshold)


def _check_structures(shapes: list[tuple[int, ...]]) -> tuple[int, int]:
    alike = {shape[-1:] for shape in shapes} == {shapes[0][-1:]}
    right = alike and len(shapes[0]) > 2 and shapes[0][-1] > 0
    require(right, "masks and probabilities", "(R, ..., K) and (S, ..., K)", f"shapes {shapes}")
    return shapes[0][0], shapes[0][-1]


def _check_rows(
    rows: Sequence[dict[str, float]], patients: Any, bins: Any, num_bootstrap: int
) -> np.ndarray:
    require(len(rows) > 0, "rows", "at least one case", "none")
    right = len(patients) == len(rows)
    require(right, "patients", f"one for each of {len(rows)} rows", len(patients))
    shapes = {np.shape(b) for b in bins}
    right = len(bins) == len(rows) and len(shapes) == 1 and np.ndim(bins[0]) == 3
    right = right and np.shape(bins[0])[1:] == (3, NUM_BINS)
    expected = f"{len(rows)} arrays of one shape (K, 3, {NUM_BINS})"
    require(right, "ece_bins", expected, f"{len(bins)} of shapes {sorted(shapes)}")
    require(num_bootstrap > 0, "num_bootstrap", "at least 1", num_bootstrap)
    return np.asarray(bins, float)
