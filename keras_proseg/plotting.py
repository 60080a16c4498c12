"""Pictures: what the raters drew, what the model draws for each, what anyone might draw."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset, mask_areas
from keras_proseg.files import atomic_file

PHANTOM = "SIMULATED pixels, real contours: not a result on LIDC CT"


def plot_samples(model: Any, dataset: Dataset, path: str | Path, num_cases: int = 4) -> None:
    """Writes a PNG of a few cases.

    Args:
        model: a `ProSeg`.
        dataset: the cases; those with the most foreground and disagreement spread are picked.
        path: the PNG.
        num_cases: rows.
    """
    rows = [_columns(model, dataset, index) for index in _pick(dataset, num_cases)]
    title = PHANTOM if dataset.image_kind == "phantom" else ""
    draw_grid(rows, path, title)


def draw_grid(rows: list[list[tuple[str, np.ndarray, Any]]], path: str | Path, title: str) -> None:
    """Draws cells (caption, image, list of (mask, colour) outlines or None) and saves a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = max(len(row) for row in rows)
    figure = Figure(figsize=(2.1 * width, 2.3 * len(rows) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_2d(figure.subplots(len(rows), width, squeeze=False))
    for row, line in zip(rows, axes, strict=True):
        for axis in line:
            axis.axis("off")
        for (caption, image, outlines), axis in zip(row, line, strict=False):
            _draw_cell(axis, caption, image, outlines)
    if title:
        figure.suptitle(title, color="crimson", fontsize=11)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def image_cells(
    model: Any, image: np.ndarray, seed: int = 0, num_samples: int = 12
) -> list[tuple[str, np.ndarray, Any]]:
    """Cells of one raw image (H, W, C): predictions by rater, diverse samples, uncertainty."""
    gray = image.astype(float).mean(axis=-1)
    maps = model.uncertainty(image)
    means = model.rater_moments(image[None])[0][0, ..., 0]
    colours = rater_colours(len(model.raters))
    by_rater = [(mean > 0.5, colour) for mean, colour in zip(means, colours, strict=True)]
    samples = model.sample(image, None, num_samples, seed)[..., 0] > 0.5
    cells = [
        ("predicted, by rater", gray, by_rater),
        (f"{num_samples} diverse samples", gray, [(s, "gold") for s in samples]),
    ]
    names = {"mean": "mean probability", "between_rater": "between raters", "boundary": "boundary"}
    return cells + [(text, maps[name][..., 0], None) for name, text in names.items()]


def _columns(model: Any, dataset: Dataset, index: int) -> list[tuple[str, np.ndarray, Any]]:
    image = dataset.images[index]
    gray = image.astype(float).mean(axis=-1)
    colours = rater_colours(len(dataset.raters))
    drawn = [
        (dataset.masks[index, r, ..., 0], colours[r])
        for r in np.flatnonzero(dataset.annotated[index])
    ]
    cells = [(str(dataset.case_ids[index])[-24:], gray, []), ("annotations", gray, drawn)]
    return cells + image_cells(model, image)


def _draw_cell(axis: Any, caption: str, image: np.ndarray, outlines: Any) -> None:
    axis.imshow(image, cmap="gray" if outlines is not None else "magma", interpolation="nearest")
    for mask, colour in outlines or []:
        if min(mask.shape) > 1 and mask.any() and not mask.all():
            axis.contour(mask, [0.5], colors=[colour], linewidths=0.8)
    axis.set_title(caption, fontsize=8, parse_math=False)  # names may hold a $


def rater_colours(count: int) -> list[Any]:
    """One colour per rater, from blue to red."""
    from matplotlib import colormaps

    return [colormaps["turbo"](0.1 + 0.8 * k / max(1, count - 1)) for k in range(count)]


def _pick(dataset: Dataset, count: int) -> list[int]:
    """Cases of evenly spread disagreement among the ones with something outlined."""
    areas = mask_areas(dataset).astype(float)
    spread = areas.std(axis=1) / (areas.mean(axis=1) + 1)
    order = np.argsort(spread, kind="stable")
    order = order[areas.mean(axis=1)[order] > 0]
    order = order if len(order) else np.arange(len(dataset))
    places = np.linspace(0.3, 0.95, count) * (len(order) - 1)
    return list(dict.fromkeys(int(order[int(place)]) for place in places))
