"""The model card: what a person should know before using the export."""

from typing import Any

PHANTOM = (
    "**Its training pixels are simulated** around real contours: its figures are no results on CT."
)


def model_card(metadata: dict[str, Any]) -> str:
    """Markdown of `metadata`, as `keras_proseg.export.metadata` makes it."""
    data = metadata["training"]["data"]
    parts = [
        f"# {metadata['name']}, version {metadata['version']}",
        "Segmentation from many raters (ProSeg, arXiv 2512.00748): the mean probability over "
        "raters, what each rater would draw, samples, and maps of uncertainty. "
        "**Not a medical device.**",
        PHANTOM if data.get("images") == "phantom" else "",
        "## Input and output",
        _table(_input(metadata)),
        "## Training",
        _table(_training(metadata, data)),
        "## Metrics",
        _metrics(metadata["metrics"]),
        "## Versions",
        _table(_versions(metadata["versions"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _input(metadata: dict[str, Any]) -> dict[str, Any]:
    given = metadata["input"]
    scaling = given["intensity"]
    low, high = scaling["range"]
    details = ", ".join(f"{k} {v:g}" for k, v in scaling.items() if k not in ("mode", "range"))
    return {
        "image": f"any height and width, {given['channels']} channel(s), raw intensities, float32",
        "scaling (inside the graph)": f"{scaling['mode']}: {details}",
        "typical intensities": f"{low:g} to {high:g}",
        "classes": metadata["num_classes"],
        "raters": ", ".join(metadata["raters"]),
        "samples per call": metadata["num_samples"],
    }


def _training(metadata: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    split = ", ".join(f"{name} {count}" for name, count in data.get("split", {}).items())
    return {
        "data": data["source"],
        "images": data.get("images", "unknown"),
        "cases": split or "unknown",
        "kept together": data.get("group_by", "unknown"),
        "fingerprint": data.get("fingerprint", "unknown"),
        "steps": metadata["training"]["steps"],
    }


def _metrics(metrics: dict[str, Any] | None) -> str:
    if metrics is None:
        return "None: the run was stopped before it was scored."
    from keras_proseg.evaluation import table

    known = {name: _number(value) for name, value in metrics.items()}
    rows = [f"| {name} | {value} | {interval} |" for name, value, interval in table(known)]
    about = f"On {metrics.get('num_cases')} {metrics.get('split')} cases of the training source."
    return "\n".join([about, "", "| metric | mean | 95 % interval |", "|---|---|---|", *rows])


def _number(value: Any) -> Any:
    """What JSON calls null is not a number."""
    if isinstance(value, list):
        return [_number(v) for v in value]
    return float("nan") if value is None else value


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
