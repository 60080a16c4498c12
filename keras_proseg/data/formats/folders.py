"""Folders with one folder per case: `image`, `mask-RATER` (PNG, NIfTI, npy), and QUBIQ's names."""

import re
from collections import Counter
from pathlib import Path

from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.tables import Row
from keras_proseg.data.formats.volumes import kind_of
from keras_proseg.data.records import natural, split_of

IMAGE = re.compile(r"image(?:-(?P<channel>.+))?")
MASK = re.compile(r"mask-(?P<rater>.+)")
QUBIQ = re.compile(r"(?P<structure>task\d+)_seg(?P<rater>\d+)")
LAYOUT = (
    "CASE/image.png (or .nii, .nii.gz, .npy; several channels: image-NAME.*) beside "
    "CASE/mask-RATER.*, or QUBIQ's CASE/image.nii.gz and CASE/task01_seg01.nii.gz; CASE folders "
    "may lie in train, val and test folders"
)


def find_rows(root: str | Path, findings: Findings) -> list[Row]:
    """Lists the cases below `root`.

    Args:
        root: holds CASE folders, or folders named by splits (train, Training, Validation, test ...)
            that hold them.
        findings: collects what is wrong.
    """
    root = Path(root)
    rows: list[Row] = []
    for folder in _subfolders(root):
        split = split_of(folder.name)
        cases = [folder] if split is None else _subfolders(folder)
        for case in cases:
            rows += _case_rows(case, case.relative_to(root).as_posix(), split, findings)
    if not any(row.mask for row in rows):
        findings.add("no case with an image and a mask", f"expected {LAYOUT}")
    _check_channels(rows, root, findings)
    sides = {row.split is None for row in rows}
    if len(sides) > 1:
        text = "some cases lie in split folders and some beside them"
        findings.add(text, "put every case in a split folder, or none")
    return rows


def _check_channels(rows: list[Row], root: Path, findings: Findings) -> None:
    """Channels are known by their names: another set of them is another image."""
    by_case = {row.case: tuple(map(_stem, row.images)) for row in rows}
    if not by_case:
        return
    usual = Counter(by_case.values()).most_common(1)[0][0]
    for case, names in by_case.items():
        if names != usual:
            text = f"images {', '.join(names)} where most cases have {', '.join(usual)}"
            findings.add(text, "give every case the same channels, image-NAME", root / case)


def _stem(path: Path) -> str:
    return path.name[: -len(kind_of(path) or "")]


def _subfolders(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"]
    return sorted(found, key=lambda path: natural(path.name))


def _case_rows(folder: Path, case: str, split: str | None, findings: Findings) -> list[Row]:
    files = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: natural(p.name))
    named = [(path, _stem(path)) for path in files if kind_of(path)]
    images = tuple(path for path, stem in named if IMAGE.fullmatch(stem))
    masks = [(path, found) for path, stem in named if (found := _mask(stem))]
    known = {*images, *(path for path, _ in masks)}
    for path, stem in named:
        if path not in known and "majority" not in stem:
            findings.note("a file that is neither image nor mask", f"expected {LAYOUT}", path)
    if not images:
        if masks:
            findings.add("masks without an image", f"expected {LAYOUT}", folder)
        return []
    if len(images) > 1 and any(not path.name.startswith("image-") for path in images):
        text = f"more than one image: {', '.join(p.name for p in images)}"
        findings.add(text, "leave one, or name channels image-NAME", folder)
        return []
    rows = [
        Row(case, case, images, found["rater"], path, found.groupdict().get("structure", ""), split)
        for path, found in masks
    ]
    return rows or [Row(case, case, images, None, None, "", split)]


def _mask(stem: str) -> re.Match[str] | None:
    return MASK.fullmatch(stem) or QUBIQ.fullmatch(stem)
