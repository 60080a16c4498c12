"""The audit as a report in Markdown with plots."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.audit import Audit, audit_dataset
from keras_proseg.data.dataset import Dataset
from keras_proseg.evaluation import plain
from keras_proseg.files import atomic_folder, check_new_folder, write_json
from keras_proseg.plotting import PHANTOM, draw_grid, rater_colours

DISPUTED, PER_ROW = 12, 4  # cases in the picture
DISPUTES = (
    "Lowest mean pairwise Dice first; one colour per rater, from blue (first) to red (last).",
    "",
    "![disputed](disputed.png)",
    "",
)
PATTERNS = 12  # lines of the table of missing raters
CONTEXT = 1.0  # margin of a picture around the outlines, in their size


def write_audit(dataset: Dataset, out: str | Path) -> Path:
    """Audits a data set and writes audit.md, audit.json and the plots.

    Args:
        dataset: the cases.
        out: a new or empty folder.

    Returns:
        The report.

    Raises:
        UsageError: a used `out`.
        ProSegError: SimpleITK is not installed.
    """
    out = Path(out)
    check_new_folder(out, "--out")
    audit = audit_dataset(dataset)
    with atomic_folder(out) as folder:
        write_json(folder / "audit.json", _json(audit.summary))
        _draw_agreement(audit.summary, dataset.raters, folder / "agreement.png")
        _draw_sizes(audit.summary, folder / "size.png")
        _draw_disputed(dataset, audit, folder / "disputed.png")
        text = report(audit.summary, bool(len(audit.disputed)))
        (folder / "audit.md").write_text(text, encoding="utf-8")
    return out / "audit.md"


def report(summary: dict[str, Any], disputed: bool = True) -> str:
    """The report's text.

    Args:
        summary: of `audit_dataset`.
        disputed: whether there is a picture of cases that two raters or more annotated.
    """
    count, patients = summary["cases"], summary["patients"]
    lines = [
        f"# The raters of {Path(summary['source']).name}",
        "",
        f"{count} cases of {patients} patients (`{summary['group_by']}`), "
        f"{len(summary['raters'])} raters; mean pairwise Dice {summary['mean_dice']:.3f}.",
        "",
        *([f"**{PHANTOM}.**", ""] if summary["images"] == "phantom" else []),
        "## Do the raters' names mean anything?",
        "",
        verdict(summary["identity"]),
        "",
        "## Each rater",
        "",
        "Size is the area over the mean area of a case's raters (1: as large as the others); the "
        "interval is a 95 % bootstrap over patients. Sensitivity and specificity are STAPLE's, "
        "near the outlines.",
        "",
        "| rater | cases | missing | empty | size | 95 % interval | sensitivity | specificity |",
        "|---|---|---|---|---|---|---|---|",
        *[_rater_line(name, row) for name, row in summary["raters"].items()],
        "",
        "![size](size.png)",
        "",
        "## Agreement",
        "",
        "Mean Dice of each two raters over the cases that both annotated; two empty masks agree.",
        "",
        "![agreement](agreement.png)",
        "",
        "## Who annotated what",
        "",
        "| raters | cases |",
        "|---|---|",
        *[f"| {names} | {cases} |" for names, cases in _shown(summary["patterns"])],
        "",
        "## The most disputed cases",
        "",
        *(DISPUTES if disputed else ["No case has two raters, so nothing can be disputed.", ""]),
    ]
    return "\n".join(lines)


def verdict(identity: dict[str, Any]) -> str:
    """What the identity test says, in words."""
    rank = "train with `--rater-order area`, which names masks rank1 (smallest) to rankR"
    if identity["ranked"]:
        return "These are ranks of size (`rank1` the smallest outline), not persons."
    known = "The source has anonymous slots. " if identity["anonymous"] else ""
    if identity["meaningless"] is None:
        return known + "Too few patients with all raters to tell by size."
    share = (
        f"the slot explains {100 * identity['explained']:.0f} % of the differences in size within "
        f"a patient (p = {identity['p_value']:.3f}, {identity['patients']} patients)"
    )
    if identity["meaningless"]:
        return (
            f"**Apparently not.** {known}By size the slots look exchangeable: {share}. Unless you "
            f"know that they are the same persons throughout, {rank}."
        )
    return f"**Yes, as far as size tells:** {share}. {known}If they are no persons, {rank}."


def _rater_line(name: str, row: dict[str, Any]) -> str:
    low, high = row["size_ci"]
    return (
        f"| {_cell_text(name)} | {row['cases']} | {row['missing']} | {100 * row['empty']:.1f} % "
        f"| {row['size']:.3f} | {low:.3f} to {high:.3f} | {row['sensitivity']:.3f} "
        f"| {row['specificity']:.3f} |"
    )


def _shown(patterns: dict[str, int]) -> list[tuple[str, int]]:
    listed = list(patterns.items())
    rest = sum(count for _, count in listed[PATTERNS:])
    more = [(f"{len(listed) - PATTERNS} other sets", rest)] if rest else []
    return [(_cell_text(names or "none"), count) for names, count in listed[:PATTERNS]] + more


def _cell_text(name: str) -> str:
    """A name that is one cell of a Markdown table."""
    return " ".join(name.split()).replace("|", "\\|")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _draw_agreement(summary: dict[str, Any], raters: tuple[str, ...], path: Path) -> None:
    values = np.eye(len(raters))
    for i, one in enumerate(raters):
        for j, two in enumerate(raters[:i]):
            values[i, j] = values[j, i] = summary["pairs"][f"{two} / {one}"]["dice"]
    side = 1.5 + 0.6 * len(raters)
    figure, axis = _figure(side + 1, side)
    shown = axis.imshow(values, vmin=max(0, np.nanmin(values) - 0.1), vmax=1, cmap="viridis")
    figure.colorbar(shown, ax=axis, label="mean Dice")
    axis.set_xticks(range(len(raters)), raters, rotation=45, ha="right")
    axis.set_yticks(range(len(raters)), raters)
    for i, j in np.ndindex(values.shape):
        dark = values[i, j] < (shown.norm.vmin + 1) / 2
        axis.text(
            j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=8,
            color="white" if dark else "black",
        )  # fmt: skip
    figure.savefig(path, dpi=110)


def _draw_sizes(summary: dict[str, Any], path: Path) -> None:
    names = list(summary["raters"])
    rows = list(summary["raters"].values())
    middle = np.array([row["size"] for row in rows])
    low, high = np.array([row["size_ci"] for row in rows]).T
    figure, axis = _figure(5, 1 + 0.35 * len(names))
    axis.errorbar(middle, range(len(names)), xerr=[middle - low, high - middle], fmt="o", capsize=3)
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("area over the mean of the case's raters")
    figure.savefig(path, dpi=110)


def _draw_disputed(dataset: Dataset, audit: Audit, path: Path) -> None:
    cells = [_cell(dataset, row, audit.agreement[row]) for row in audit.disputed[:DISPUTED]]
    if cells:
        grid = [cells[k : k + PER_ROW] for k in range(0, len(cells), PER_ROW)]
        draw_grid(grid, path, PHANTOM if dataset.image_kind == "phantom" else "")


def _cell(dataset: Dataset, row: int, agreement: float) -> tuple[str, np.ndarray, Any]:
    gray = np.asarray(dataset.images[row]).astype(float).mean(axis=-1)
    masks = np.asarray(dataset.masks[row]).max(axis=-1)
    box = _window(masks.max(axis=0))
    colours = rater_colours(len(dataset.raters))
    present = np.flatnonzero(dataset.annotated[row])
    outlines = [(masks[r][box], colours[r]) for r in present]
    return f"{str(dataset.case_ids[row])[-24:]}  Dice {agreement:.2f}", gray[box], outlines


def _window(union: np.ndarray) -> tuple[slice, slice]:
    """A square around the outlines, with context."""
    places = np.argwhere(union)
    if not len(places):
        return slice(None), slice(None)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    half = max(12, int((high - low).max() * (0.5 + CONTEXT)))
    middle = (low + high) // 2
    start = np.maximum(middle - half, 0)
    return slice(start[0], middle[0] + half), slice(start[1], middle[1] + half)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(own) for name, own in value.items()}
    return plain({"value": value})["value"]
