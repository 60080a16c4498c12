"""The audit as a report in Markdown."""

from pathlib import Path
from typing import Any

from keras_proseg.audit.measure import SIGNIFICANT, audit_dataset
from keras_proseg.audit.plots import draw_agreement, draw_disputed, draw_sizes
from keras_proseg.data.dataset import Dataset
from keras_proseg.files import atomic_folder, check_new_folder
from keras_proseg.plotting import PHANTOM
from keras_proseg.text_files import write_json

DISPUTES = (
    "Lowest mean pairwise Dice first; one colour per rater, from blue (first) to red (last).",
    "",
    "![disputed](disputed.png)",
    "",
)
PATTERNS = 12  # lines of the table of missing raters


def write_audit(dataset: Dataset, out: str | Path) -> Path:
    """Audits a data set and writes audit.md, audit.json and the plots.

    Args:
        dataset: the cases.
        out: a new or empty folder.

    Returns:
        The report.

    Raises:
        UsageError: a used `out`, or SimpleITK is not installed.
    """
    out = Path(out)
    check_new_folder(out, "--out")
    audit = audit_dataset(dataset)
    with atomic_folder(out) as folder:
        write_json(folder / "audit.json", audit.summary)
        draw_agreement(audit.summary, dataset.raters, folder / "agreement.png")
        draw_sizes(audit.summary, folder / "size.png")
        draw_disputed(dataset, audit, folder / "disputed.png")
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
        f"near the outlines, means over {_span(summary['raters'])} cases with an outline. Of "
        "several structures all of these, and the Dice, are means.",
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
        alike = "look exchangeable"
        if identity["p_value"] <= SIGNIFICANT:
            alike = "differ surely, but by too little to name persons"
        return (
            f"**Apparently not.** {known}By size the slots {alike}: {share}. Unless you "
            f"know that they are the same persons throughout, {rank}."
        )
    return f"**Yes, as far as size tells:** {share}. {known}If they are no persons, {rank}."


def _span(raters: dict[str, dict[str, Any]]) -> str:
    counts = sorted({row["staple_cases"] for row in raters.values()})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"


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
