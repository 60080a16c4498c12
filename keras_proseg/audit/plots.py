"""The audit's pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.audit.measure import Audit
from keras_proseg.data.dataset import Dataset
from keras_proseg.metrics.overlap import bounding_box
from keras_proseg.plotting import PHANTOM, Cell, draw_grid, rater_colours

DISPUTED, PER_ROW = 12, 4  # cases in the picture
CONTEXT = 1.0  # margin of a picture around the outlines, in their size


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def draw_agreement(summary: dict[str, Any], raters: tuple[str, ...], path: Path) -> None:
    """Mean pairwise Dice of the raters as a matrix."""
    values = np.eye(len(raters))
    for i, one in enumerate(raters):
        for j, two in enumerate(raters[:i]):
            values[i, j] = values[j, i] = summary["pairs"][f"{two} / {one}"]["dice"]
    side = 1.5 + 0.6 * len(raters)
    figure, axis = _figure(side + 1, side)
    shown = axis.imshow(values, vmin=max(0, np.nanmin(values) - 0.1), vmax=1, cmap="viridis")
    figure.colorbar(shown, ax=axis, label="mean Dice")
    axis.set_xticks(range(len(raters)), raters, rotation=45, ha="right", parse_math=False)
    axis.set_yticks(range(len(raters)), raters, parse_math=False)
    for i, j in np.ndindex(values.shape):
        dark = values[i, j] < (shown.norm.vmin + 1) / 2
        axis.text(
            j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=8,
            color="white" if dark else "black",
        )  # fmt: skip
    figure.savefig(path, dpi=110)


def draw_sizes(summary: dict[str, Any], path: Path) -> None:
    """Each rater's relative size with its interval."""
    names = list(summary["raters"])
    rows = list(summary["raters"].values())
    middle = np.array([row["size"] for row in rows])
    low, high = np.array([row["size_ci"] for row in rows]).T
    figure, axis = _figure(5, 1 + 0.35 * len(names))
    # Where all patients are alike the interval may miss the mean by its rounding.
    bars = np.maximum([middle - low, high - middle], 0)
    axis.errorbar(middle, range(len(names)), xerr=bars, fmt="o", capsize=3)
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_yticks(range(len(names)), names, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlabel("area over the mean of the case's raters")
    figure.savefig(path, dpi=110)


def draw_disputed(dataset: Dataset, audit: Audit, path: Path) -> None:
    """The cases that raters agree on least, with their outlines; nothing where there are none."""
    cells = [_cell(dataset, row, audit.agreement[row]) for row in audit.disputed[:DISPUTED]]
    if cells:
        grid = [cells[k : k + PER_ROW] for k in range(0, len(cells), PER_ROW)]
        draw_grid(grid, path, PHANTOM if dataset.image_kind == "phantom" else "")


def _cell(dataset: Dataset, row: int, agreement: float) -> Cell:
    gray = np.asarray(dataset.images[row]).astype(float).mean(axis=-1)
    masks = np.asarray(dataset.masks[row])
    box = _window(masks.max(axis=(0, 3)))
    colours = rater_colours(len(dataset.raters))
    present = np.flatnonzero(dataset.annotated[row])
    structures = range(dataset.num_classes)
    outlines = [(masks[r, ..., k][box], colours[r]) for r in present for k in structures]
    return Cell(f"{str(dataset.case_ids[row])[-24:]}  Dice {agreement:.2f}", gray[box], outlines)


def _window(union: np.ndarray) -> tuple[slice, slice]:
    """A square around the outlines, with context."""
    if not union.any():
        return slice(None), slice(None)
    low, high = np.array([[part.start, part.stop] for part in bounding_box(union > 0)]).T
    half = max(12, int((high - low).max() * (0.5 + CONTEXT)))
    middle = (low + high) // 2
    start = np.maximum(middle - half, 0)
    return slice(start[0], middle[0] + half), slice(start[1], middle[1] + half)
