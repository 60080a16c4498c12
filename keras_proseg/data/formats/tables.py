"""From a table of files (one row per annotation) to records, with every finding on the way."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.pixels import Pixels, kind_of
from keras_proseg.data.formats.table_masks import WHOLE, check_affine, read_mask
from keras_proseg.data.formats.volumes import read_pixels
from keras_proseg.data.places import Volume
from keras_proseg.data.records import USABLE, Record, as_float32, natural, plain_name, unusable


@dataclass(frozen=True)
class Row:
    """One annotation: files of one case's image (one per channel) and of one rater's mask.

    `rater` and `mask` are None for an image that nobody annotated.
    """

    case: str
    patient: str
    images: tuple[Path, ...]
    rater: str | None
    mask: Path | None
    structure: str = ""
    split: str | None = None


def read_rows(rows: list[Row], findings: Findings) -> Iterator[Record]:
    """Reads the files of `rows`, case by case; a case with a fatal finding is left out."""
    cases: dict[str, list[Row]] = {}
    rows = [_named(row) for row in rows]
    for row in rows:
        if row.rater == "":
            findings.add("a mask of a rater without a name", "name the rater", row.mask)
        cases.setdefault(row.case, []).append(row)
    structures = structures_of(rows)
    _check_shared(cases, findings)
    for own in cases.values():
        record = _read_case(own, structures, findings)
        if record is not None:
            yield record


def _check_shared(cases: dict[str, list[Row]], findings: Findings) -> None:
    """A mask in the rows of two cases is a slip, or the empty one of both."""
    owners: dict[Path, str] = {}
    for case, rows in cases.items():
        for file in dict.fromkeys(row.mask for row in rows if row.mask):
            first = owners.setdefault(file, case)
            if first != case:
                text = f"case {case} has a mask of case {first}"
                findings.note(text, "give each case a mask of its own, if it has one", file)


def structures_of(rows: list[Row]) -> list[str]:
    """Names of the structures, in the order of the masks' last axis."""
    return sorted({plain_name(row.structure) for row in rows if row.mask}, key=natural)


def _named(row: Row) -> Row:
    """`row`, in which a name has one spelling: else one person is two."""
    return replace(
        row,
        case=plain_name(row.case),
        patient=plain_name(row.patient),
        rater=None if row.rater is None else plain_name(row.rater),
        structure=plain_name(row.structure),
    )


def _read_case(rows: list[Row], structures: list[str], findings: Findings) -> Record | None:
    before = len(findings.fatal)
    _check_agreement(rows, findings)
    files = [_read(path, findings) for path in rows[0].images]
    masks = {
        (row.rater, row.structure): _read(row.mask, findings)
        for row in rows
        if row.mask is not None
    }
    if len(findings.fatal) > before:
        return None
    image = _stack_channels(files, list(masks.values()), findings)
    if image is None:
        return None
    drawn = {key: read_mask(mask, files[0], image, findings) for key, mask in masks.items()}
    if len(findings.fatal) > before:
        return None
    first, pixels = rows[0], files[0]
    affine = None if pixels.affine is None else tuple(map(tuple, pixels.affine.tolist()))
    volume = Volume(
        path=str(pixels.path),
        kind=pixels.kind,
        shape=image.shape[:3],
        case_id=first.case,
        affine=affine,
        codes=pixels.codes,
        unit=pixels.unit,
        flat=pixels.kind == ".png" or _flat(pixels, image),
    )
    by_rater = _by_rater(first, drawn, structures, findings)
    return Record(first.case, first.patient, image, by_rater, volume, pixels.spacing, first.split)


def _read(path: Path, findings: Findings) -> Any:
    remedy = WHOLE if kind_of(path) else "save it as one of these kinds"
    return findings.attempt(remedy, read_pixels, path, file=path)


def _check_agreement(rows: list[Row], findings: Findings) -> None:
    first = rows[0]
    for name, remedy in (
        ("patient", "give every row of a case the same patient"),
        ("images", "give every row of a case the same image"),
        ("split", "give every row of a case the same split"),
    ):
        values = {getattr(row, name) for row in rows}
        if len(values) > 1:
            shown = ", ".join(sorted(_shown(value) for value in values))
            what = name.removesuffix("s")
            findings.add(f"case {first.case} has more than one {what}: {shown}", remedy)
    keys = Counter((row.rater, row.structure) for row in rows if row.rater)
    for (rater, structure), count in keys.items():
        if count > 1:
            text = f"case {first.case} has {count} masks of rater {rater} {structure}".rstrip()
            findings.add(text, "leave one mask per case, rater and structure")
    files = Counter(row.mask for row in rows if row.mask)
    for file, count in files.items():
        if count > 1:
            text = f"case {first.case} has it as {count} masks"
            findings.note(text, "give each rater and structure a file, if they drew one", file)


def _shown(value: Any) -> str:
    """A patient, a split, or the files of an image; "none" of what is not given."""
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return str(value or "none")


def _flat(pixels: Pixels, image: np.ndarray) -> bool:
    return pixels.array.ndim == 2 or (
        pixels.array.ndim == 3 and len(image) != pixels.array.shape[2]
    )


def _stack_channels(
    files: list[Pixels], masks: list[Pixels], findings: Findings
) -> np.ndarray | None:
    """The image (Z, H, W, C); a third axis that no mask has holds channels."""
    parts = []
    for pixels in files:
        flat = bool(masks) and all(m.array.ndim == 2 or m.array.shape[2:] == (1,) for m in masks)
        channels = pixels.array.shape[2] if flat and pixels.array.ndim == 3 else None
        part = findings.attempt(WHOLE, pixels.slices, channels, file=pixels.path)
        if part is None:
            return None
        part = as_float32(part)
        if count := int(unusable(part).sum()):
            text = f"{count} values are not {USABLE}"
            findings.add(text, "mend the image, or leave the case out", pixels.path)
        parts.append(part)
    if len({part.shape[:3] for part in parts}) > 1:
        shapes = ", ".join(
            f"{p.path.name} {part.shape[:3]}" for p, part in zip(files, parts, strict=True)
        )
        text = f"the channels' sizes (slices, H, W) differ: {shapes}"
        findings.add(text, "resample the channels to one grid", files[0].path)
        return None
    for pixels in files[1:]:
        check_affine(pixels, files[0], parts[0].shape, findings)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _by_rater(
    first: Row, drawn: dict, structures: list[str], findings: Findings
) -> dict[str, np.ndarray]:
    by_rater = {}
    for rater in sorted({rater for rater, _ in drawn}, key=natural):
        missing = [s for s in structures if (rater, s) not in drawn]
        if missing:
            named = ", ".join(name or "the mask without a structure" for name in missing)
            text = f"case {first.case}: rater {rater} lacks {named}"
            findings.note(text, "add the mask; until then the rater counts as missing here")
            continue
        by_rater[rater] = np.stack([drawn[rater, s] for s in structures], axis=-1)
    return by_rater
