"""Pictures: what the raters drew, what the model draws for each, what anyone might draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset, mask_areas, structure_names
from keras_proseg.files import atomic_file
from keras_proseg.names import short_names

PHANTOM = "SIMULATED pixels, real contours: not a result on LIDC CT"
NUM_ROWS, NUM_OUTLINES = 4, 12
NAMED, LONG = 10, 16  # raters, and signs of a name, in a legend
# Captions, the power to show, and the largest value there can be of it: that of a standard
# deviation of what lies between 0 and 1 is 1/2.
MAPS = {
    "mean": ("mean probability, 0 to 1", 1.0, 1.0),
    "between_rater": ("s.d. between raters, 0 to 0.5", 0.5, 0.5),
    "boundary": ("s.d. of boundary, 0 to 0.5", 0.5, 0.5),
}


@dataclass(frozen=True)
class Cell:
    """One picture of a grid.

    Attributes:
        caption: above it.
        image: (H, W): a grey image, stretched to its own range, or a map.
        outlines: pairs of a mask (H, W) and a colour.
        top: of a map the value of the brightest colour; None for a grey image.
    """

    caption: str
    image: np.ndarray
    outlines: Sequence[tuple[np.ndarray, Any]] = ()
    top: float | None = None


def plot_samples(model: Any, dataset: Dataset, path: str | Path) -> None:
    """Writes a PNG of a few cases, a row for each of their structures.

    Args:
        model: a `ProSeg`.
        dataset: the cases; some with foreground are picked, from agreement to dispute.
        path: the PNG.
    """
    names = structure_names(dataset.notes.get("structures"), dataset.num_classes)
    rows = []
    for index in _pick(dataset, max(1, NUM_ROWS // len(names))):
        image, drawn = dataset.images[index], np.flatnonzero(dataset.annotated[index])
        colours = rater_colours(len(dataset.raters))
        for k, cells in enumerate(image_cells(model, image, names)):
            outlines = [(dataset.masks[index, r, ..., k], colours[r]) for r in drawn]
            gray = cells[0].image
            first = Cell(str(dataset.case_ids[index])[-24:], gray)
            rows.append([first, Cell("annotations", gray, outlines), *cells])
    title = PHANTOM if dataset.image_kind == "phantom" else ""
    draw_grid(rows, path, title, dataset.raters)


def draw_grid(
    rows: list[list[Cell]], path: str | Path, title: str, raters: Sequence[str] = ()
) -> None:
    """Draws rows of cells, above the names of `raters` in their colours, and saves a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = max(len(row) for row in rows)
    figure = Figure(figsize=(2.1 * width, 2.3 * len(rows) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_2d(figure.subplots(len(rows), width, squeeze=False))
    for row, line in zip(rows, axes, strict=True):
        for axis in line:
            axis.axis("off")
        for cell, axis in zip(row, line, strict=False):
            _draw_cell(axis, cell)
    if title:
        figure.suptitle(title, color="crimson", fontsize=11)
    if raters:
        _name_colours(figure, raters)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def image_cells(
    model: Any,
    image: np.ndarray,
    structures: Sequence[str],
    samples: np.ndarray | None = None,
    rater: str | None = None,
) -> list[list[Cell]]:
    """For each structure the cells of one image: predictions by rater, samples, uncertainty.

    Args:
        model: a `ProSeg`.
        image: (H, W, C), raw.
        structures: K names.
        samples: (S, H, W, K) probabilities to show; drawn as anyone would where None.
        rater: whose they are; None for anyone's.
    """
    if samples is None:
        samples = model.sample(image, None, NUM_OUTLINES)
    gray = image.astype(float).mean(axis=-1)
    maps, means = model.uncertainty(image), model.rater_moments(image[None])[0][0]
    shown, colours = samples[:NUM_OUTLINES] > 0.5, rater_colours(len(model.raters))
    count = f"{len(shown)}" + (f" of {len(samples)}" if len(samples) > len(shown) else "")
    drawn = f"{count} diverse samples" if rater is None else f"{count} samples of {rater}"
    rows = []
    for k, name in enumerate(structures):
        by_rater = list(zip(means[..., k] > 0.5, colours, strict=True))
        own = f": {name}" if len(structures) > 1 else ""
        cells = [
            Cell(f"predicted, by rater{own}", gray, by_rater),
            Cell(drawn, gray, [(sample, "gold") for sample in shown[..., k]]),
        ]
        rows.append(
            cells
            + [
                Cell(text, maps[name][..., k] ** power, top=top)
                for name, (text, power, top) in MAPS.items()
            ]
        )
    return rows


def _draw_cell(axis: Any, cell: Cell) -> None:
    if cell.top is None:
        axis.imshow(cell.image, cmap="gray", interpolation="nearest")
    else:
        axis.imshow(cell.image, cmap="magma", interpolation="nearest", vmin=0, vmax=cell.top)
    for mask, colour in cell.outlines:
        if min(mask.shape) > 1 and mask.any() and not mask.all():
            axis.contour(mask, [0.5], colors=[colour], linewidths=0.8)
    axis.set_title(cell.caption, fontsize=8, parse_math=False)  # names may hold a $


def _name_colours(figure: Any, raters: Sequence[str]) -> None:
    """Whose colour is which: of many, which are known by their order, some."""
    from matplotlib.lines import Line2D

    shown = np.unique(np.linspace(0, len(raters) - 1, min(NAMED, len(raters))).astype(int))
    colours = rater_colours(len(raters))
    # A blank before it: a label that begins with _ would be left out.
    labels = [f" {name}" for name in short_names(raters, LONG)]
    lines = [Line2D([], [], color=colours[r], label=labels[r]) for r in shown]
    texts = figure.legend(
        handles=lines, loc="outside lower center", ncols=len(lines), fontsize=8, frameon=False
    ).get_texts()
    for text in texts:
        text.set_parse_math(False)  # names may hold a $


def rater_colours(count: int) -> list[Any]:
    """One colour per rater, from blue to red."""
    from matplotlib import colormaps

    return [colormaps["turbo"](0.1 + 0.8 * k / max(1, count - 1)) for k in range(count)]


def _pick(dataset: Dataset, count: int) -> list[int]:
    """Cases of evenly spread disagreement among the ones with something outlined."""
    areas, there = mask_areas(dataset).astype(float), dataset.annotated
    mean = areas.mean(axis=1, where=there)  # a missing mask is no empty one
    spread = areas.std(axis=1, where=there) / (mean + 1)
    order = np.argsort(spread, kind="stable")
    order = order[mean[order] > 0]
    order = order if len(order) else np.arange(len(dataset))
    places = np.linspace(0.3, 0.95, count) * (len(order) - 1)
    return list(dict.fromkeys(int(order[int(place)]) for place in places))
