"""The metrics of one case after the other: images, or volumes whose slices are stacked."""

from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.metrics import structure_metrics


def cases_of(dataset: Dataset, volumes: bool) -> list[list[int]]:
    """The rows of each case: one, or the slices of a volume.

    LIDC's cases are slices, and so are those of raters ranked slice by slice: one rank's masks
    stacked are a volume that nobody drew.
    """
    ranked = dataset.rater_order == "area"
    if not volumes or dataset.places is None or dataset.image_kind == "ct" or ranked:
        return [[row] for row in range(len(dataset))]
    places: list[Any] = dataset.places.tolist()
    cases: dict[Any, list[int]] = {}
    for row, place in enumerate(places):
        cases.setdefault(place.volume, []).append(row)
    return [sorted(rows, key=lambda row: places[row].index) for rows in cases.values()]


def score_rows(
    model: Any, dataset: Dataset, rows: np.ndarray, num_samples: int, seed: int, stacked: bool
) -> list[Any]:
    """Metrics and bins, as from `structure_metrics`, of each case.

    Args:
        model: a `ProSeg`.
        dataset: the cases.
        rows: (N,) of N cases, or of the slices of one.
        num_samples: S.
        seed: of the samples. Every row has the same latents, so that a sample of a volume is one
            manner throughout.
        stacked: the rows are the slices of one volume.
    """
    images, annotated = dataset.images[rows], dataset.annotated[rows]
    samples = model.sample(images, None, num_samples, seed)
    columns = [dataset.masks[rows], samples, model.rater_moments(images)[0]]
    if stacked:
        annotated = annotated[:1]
        columns = [np.moveaxis(values, 1, 0)[None] for values in columns]
    cases = zip(annotated, *columns, strict=True)
    return [_score_case(model, dataset.raters, *case) for case in cases]


def _score_case(
    model: Any, raters: Any, annotated: Any, masks: Any, samples: Any, means: Any
) -> Any:
    present = np.flatnonzero(annotated)
    known = [r for r in present if raters[r] in model.raters]
    names = [raters[r] for r in known]
    own = means[[model.raters.index(name) for name in names]]
    if len(known) == len(present):
        return structure_metrics(masks[present], samples, own, names)
    row, bins = structure_metrics(masks[present], samples)
    if known:
        by_name, _ = structure_metrics(masks[known], samples[:1], own, names)
        row |= {name: value for name, value in by_name.items() if name.startswith("dice_rater")}
    return row, bins
