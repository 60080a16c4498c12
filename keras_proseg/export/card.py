"""The model card: what a person should know before using the export."""

from typing import Any

import numpy as np

from keras_proseg.text_files import with_nan

PHANTOM = (
    "**Its training pixels are simulated** around real contours: its figures are no results on CT."
)
ABOUT = (
    "Segmentation from many raters (ProSeg, arXiv 2512.00748): the mean probability over raters, "
    "what each rater would draw, samples, and maps of uncertainty. **Not a medical device.** "
    "Images unlike those it was trained on (another organ, scanner, pixel spacing or scale of "
    "intensities) are answered all the same; nothing in the answer warns of them."
)
OUTPUTS = {
    "probability": "that a pixel is inside the outline, 0 to 1: the mean over raters, or of one",
    "samples": "the same for one outline that somebody might draw, each; above 0.5 is inside",
    "between_rater": "variance because raters differ: large where they disagree",
    "boundary": "variance because the image is unclear to any one of them",
    "total": "their sum",
}
IMAGES = {"given": "as the source gives them", "ct": "real CT, in HU", "phantom": "SIMULATED"}
ENCODERS = {
    "imagenet": "ImageNet weights of EfficientNet-Lite0 (Apache-2.0)",
    "none": "random weights",
}
NAMED = "named as in the training data"
RANKS = (
    "no persons: each image's outlines are sorted by area, {} draws the smallest and {} the largest"
)
ADDED = "; {} named as in the data they were added from"
UNSCORED = "None: the run was stopped before it was scored."
UNSCORED_SINCE = "None: the model was not scored since a rater was added."
LEGEND = (
    "`dice_...` is overlap, from 0 to 1: of samples with outlines, of each rater's prediction with "
    "the outline of that rater (`dice_rater`). `ged` is the distance between how samples and how "
    "outlines vary, `brier` and `ece` are errors of the probability: 0 is best."
)
CHOSEN = " The training stopped at the weights that did best on them: expect less on others."


def model_card(metadata: dict[str, Any]) -> str:
    """Markdown of `metadata`, as `keras_proseg.export.metadata` makes it."""
    data = metadata["training"]["data"]
    parts = [
        f"# {metadata['name']}, version {metadata['version']}",
        ABOUT,
        PHANTOM if data.get("images") == "phantom" else "",
        "## Input",
        _table(_input(metadata, data)),
        "## Output",
        _table(OUTPUTS),
        "## Training",
        _table(_training(metadata, data)),
        "## Metrics",
        _metrics(metadata["metrics"], data),
        "## Versions",
        _table(_versions(metadata["versions"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _input(metadata: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    given = metadata["input"]
    scaling = given["intensity"]
    low, high = map(_numbers, scaling["range"])
    details = ", ".join(
        f"{k} {_numbers(v)}" for k, v in scaling.items() if k not in ("mode", "range")
    )
    size = "any height and width"
    if given["height"]:
        size = f"height {given['height']} and width {given['width']}, no other"
    names = data.get("notes", {})
    channels = f"{given['channels']} channel(s){_listed(names.get('channels'))}"
    rows = {
        "image": f"{size}, {channels}, raw intensities, float32",
        "scale": given["scale"],
        "scaling (inside the graph)": f"{scaling['mode']}: {details}",
        "typical intensities": f"{low} to {high}",
        "classes": f"{metadata['num_classes']}{_listed(names.get('structures'))}",
        "raters": ", ".join(metadata["raters"]),
        "raters are": _meaning(metadata["raters"], data),
        "samples per call": metadata["num_samples"] or "as many as tau and noise are given for",
    }
    return rows | {"format": f"{metadata['format']}, weights {metadata['precision']}"}


def _listed(names: list[str] | None) -> str:
    return f", in order: {', '.join(names)}" if names else ""


def _meaning(raters: list[str], data: dict[str, Any]) -> str:
    """Who the raters are."""
    added = [one["rater"] for one in data.get("added", [])]
    if (data.get("origin") or data).get("rater_order") != "area":
        return NAMED
    ranks = [name for name in raters if name not in added]
    return RANKS.format(ranks[0], ranks[-1]) + (ADDED.format(", ".join(added)) if added else "")


def _numbers(given: Any) -> str:
    """One number, or one for each channel."""
    return " / ".join(f"{value:g}" for value in np.ravel(given))


def _training(metadata: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    split = ", ".join(f"{name} {count}" for name, count in data["split"].items())
    images = data.get("images", "unknown")
    rows = {
        "data": data["source"],
        "images": IMAGES.get(images, images),
        "cases": split or "unknown",
        "never split between them": data.get("group_by", "unknown"),
        "fingerprint of the data": data.get("fingerprint", "unknown"),
        "steps": metadata["training"]["steps"],
        "the encoder started with": ENCODERS[metadata["training"]["encoder_weights"]],
    }
    added = [
        f"{one['rater']} from {one['cases']} cases of {one['source']}"
        for one in data.get("added", [])
    ]
    rows |= {"raters added afterwards": "; ".join(added)} if added else {}
    spacing = metadata["training"]["settings"].get("spacing")
    return rows | ({"pixel spacing": f"{spacing} mm"} if spacing else {})


def _metrics(metrics: dict[str, Any] | None, data: dict[str, Any]) -> str:
    if metrics is None:
        return UNSCORED_SINCE if data.get("added") else UNSCORED
    from keras_proseg.metrics.table import table

    rows = [
        f"| {_cell(name)} | {_known(value)} | {_known(interval)} |"
        for name, value, interval in table(with_nan(metrics))
    ]
    counts = f"{metrics.get('num_cases')} cases of {metrics.get('num_patients')} patients"
    source = metrics.get("source", data["source"])
    about = f"On {counts} ({metrics.get('split')}) of {source}."
    about += CHOSEN if metrics.get("split") == "val" and source == data["source"] else ""
    head = [about, "", LEGEND, "", "| metric | mean | 95 % interval |", "|---|---|---|"]
    return "\n".join([*head, *rows])


def _known(text: str) -> str:
    return "unknown" if "nan" in text else text


def _versions(versions: dict[str, Any]) -> dict[str, Any]:
    return {
        when: ", ".join(f"{name} {version}" for name, version in (found or {}).items())
        for when, found in versions.items()
    }


def _table(rows: dict[str, Any]) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")
