"""The metrics of one case after the other: images, or volumes whose slices are stacked."""

from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.metrics import structure_metrics


def cases_of(dataset: Dataset, volumes: bool) -> list[list[int]]:
    """The rows of each case: one, or the slices of a volume."""
    if not volumes or dataset.places is None or dataset.image_kind == "ct":
        return [[row] for row in range(len(dataset))]
    cases: dict[Any, list[int]] = {}
    for row, place in enumerate(dataset.places):
        cases.setdefault(place.volume, []).append(row)
    return list(cases.values())


def score_volume(
    model: Any, dataset: Dataset, rows: np.ndarray, num_samples: int, seed: int
) -> list[Any]:
    """As `score_images`, of the slices `rows` (Z,) of one volume: of a single case."""
    images = dataset.images[rows]
    # Equal seeds draw equal latents for every slice, so that a sample is one manner throughout.
    samples = model.sample(images, None, num_samples, seed)
    means = model.moments_in_chunks(images)[0]
    stacked = [np.moveaxis(values, 1, 0) for values in (dataset.masks[rows], samples, means)]
    annotated = dataset.annotated[rows[0]]
    return [_score_case(model, dataset.raters, stacked[0], annotated, *stacked[1:])]


def score_images(
    model: Any, dataset: Dataset, some: np.ndarray, num_samples: int, seed: int
) -> list[Any]:
    """Metrics and bins, as from `structure_metrics`, of each of the cases `some` (N,)."""
    images = dataset.images[some]
    samples = model.sample(images, None, num_samples, seed)
    means = model.moments_in_chunks(images)[0]
    columns = zip(dataset.masks[some], dataset.annotated[some], samples, means, strict=True)
    return [_score_case(model, dataset.raters, *case) for case in columns]


def _score_case(
    model: Any, raters: Any, masks: Any, annotated: Any, samples: Any, means: Any
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
