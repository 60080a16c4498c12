"""STAPLE: how each rater compares with what all of them make most likely."""

from collections import Counter
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.extras import import_extra
from keras_proseg.metrics.overlap import bounding_box
from keras_proseg.metrics.statistics import nan_mean
from keras_proseg.progress import progress_bar

CASES = 500  # at most so many, evenly spaced
MARGIN = 8  # pixels around the union: over whole images specificity would be 1


def staple_scores(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Mean sensitivity and specificity of each rater against STAPLE's estimate.

    Case by case and structure by structure.

    Returns:
        For each rater `sensitivity`, `specificity` and `staple_cases`, the number of cases.

    Raises:
        UsageError: SimpleITK is not installed.
    """
    itk = import_extra("SimpleITK", "The audit", "data")
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in dataset.raters}
    rows = np.unique(np.linspace(0, len(dataset) - 1, CASES).astype(int))
    cases: Counter[str] = Counter()
    for row in progress_bar(rows.tolist(), "STAPLE"):
        found = _score_case(itk, dataset, row)
        cases.update({name for name, pair in found if np.isfinite(pair).all()})
        for name, pair in found:
            scores[name].append(pair)
    return {
        name: {
            "sensitivity": float(nan_mean(np.array([s for s, _ in own]), axis=0)),
            "specificity": float(nan_mean(np.array([s for _, s in own]), axis=0)),
            "staple_cases": cases[name],
        }
        for name, own in scores.items()
    }


def _score_case(itk: Any, dataset: Dataset, row: int) -> list[tuple[str, tuple[float, float]]]:
    present = np.flatnonzero(dataset.annotated[row])
    masks = np.asarray(dataset.masks[row])[present]
    found = []
    for k in range(masks.shape[-1]):
        own = masks[..., k]
        if len(present) < 2 or not own.any():
            continue
        own = own[(slice(None), *bounding_box(own.max(axis=0) > 0, MARGIN))]
        staple = itk.STAPLEImageFilter()
        staple.SetForegroundValue(1.0)
        staple.Execute([itk.GetImageFromArray(np.ascontiguousarray(mask)) for mask in own])
        pairs = zip(staple.GetSensitivity(), staple.GetSpecificity(), strict=True)
        found += [(dataset.raters[r], pair) for r, pair in zip(present, pairs, strict=True)]
    return found
