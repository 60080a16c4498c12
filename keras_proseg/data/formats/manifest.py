"""A CSV manifest: `case, patient, image, rater, mask`, one row per annotation."""

import csv
from pathlib import Path

from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.tables import Row
from keras_proseg.data.records import NAMELESS, split_of

REQUIRED = ("case", "image", "rater", "mask")
OPTIONAL = ("patient", "split", "structure")
CHANNELS = ";"  # between the files of an image's channels


def read_manifest(path: str | Path, findings: Findings) -> tuple[list[Row], str]:
    """Reads a manifest.

    Args:
        path: UTF-8 CSV with a header; files are relative to its folder. `image` holds one file, or
            one per channel separated by `;`. Optional columns: `patient`, `split` and `structure`
            (names of overlapping structures). A row whose `rater` and `mask` are empty names an
            image that nobody annotated.
        findings: collects what is wrong.

    Returns:
        The rows, and what they are grouped by.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, strict=True)
            lines = [
                (reader.line_num, {k and _name(k): v for k, v in line.items()})
                for line in reader
                if any(line.values())  # tables are saved with empty rows at their end
            ]
            names = [_name(name) for name in reader.fieldnames or []]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        findings.add(f"no CSV in UTF-8 ({error})", "save it as comma-separated UTF-8 text")
        return [], "case_ids"
    if not _check_columns(names, bool(lines), findings):
        return [], "case_ids"
    group_by = "patient_ids" if "patient" in names else "case_ids"
    rows = [_row(number, line, path, findings) for number, line in lines]
    return [row for row in rows if row is not None], group_by


def _check_columns(names: list[str], any_rows: bool, findings: Findings) -> bool:
    """Whether the columns `names` can be read as a manifest's."""
    wanted = f"columns {', '.join(REQUIRED)}, optionally {', '.join(OPTIONAL)}"
    missing = [name for name in REQUIRED if name not in names]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if missing or not any_rows:
        text = f"no column {', '.join(missing)}" if missing else "no rows"
        findings.add(text, f"{wanted}; one row per annotation")
    elif twice:
        text = f"more than one column {', '.join(twice)}"
        findings.add(text, "one row per annotation, each column once")
    for name in sorted({*names} - {*REQUIRED, *OPTIONAL, ""}):
        findings.note(f"a column {name} that is not read", f"{wanted}, or leave it")
    return not (missing or twice) and any_rows


def _name(column: str) -> str:
    return column.strip().lower()


def _row(number: int, line: dict, path: Path, findings: Findings) -> Row | None:
    where = f"{path}, row {number}"
    if None in line or None in line.values():
        findings.add("more or fewer fields than columns", "quote names with commas", where)
        return None
    cells = {name: str(value).strip() for name, value in line.items()}
    if not cells["case"] or not cells["image"] or bool(cells["rater"]) != bool(cells["mask"]):
        remedy = "fill in case and image, and rater and mask (or neither of these two)"
        findings.add("an empty case or image, or a rater without a mask", remedy, where)
        return None
    split = cells.get("split") or None
    if split is not None and split_of(split) is None:
        findings.add(f"unknown split {split}", "use train, val or test", where)
        return None
    patient = cells.get("patient", cells["case"])
    names = {"case": cells["case"], "patient": patient, "rater": cells["rater"] or "any"}
    for what, name in names.items():
        if name.lower() in NAMELESS:
            remedy = f"name the {what}" + (", or drop the column" if what == "patient" else "")
            text = f"{name} for a {what}" if name else f"an empty {what}"
            findings.add(text, remedy, where)
            return None
    return Row(
        case=cells["case"],
        patient=patient,
        images=tuple(path.parent / name.strip() for name in cells["image"].split(CHANNELS)),
        rater=cells["rater"] or None,
        mask=path.parent / cells["mask"] if cells["mask"] else None,
        structure=cells.get("structure", ""),
        split=None if split is None else split_of(split),
    )
