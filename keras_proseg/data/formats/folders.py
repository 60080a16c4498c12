"""Folders with one folder per case: `image`, `mask-RATER` (PNG, NIfTI, npy), and QUBIQ's names."""

import re
from collections import Counter
from pathlib import Path

from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.pixels import KINDS, kind_of
from keras_proseg.data.formats.tables import Row
from keras_proseg.data.records import ASIDE, plain_name, split_of, visible

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
    for folder in _subfolders(root, findings):
        split = split_of(folder.name)
        cases = [folder] if split is None else _subfolders(folder, findings)
        if split is not None and any(_is_of_case(path) for path in visible(folder)):
            text = f"files of a case in a folder that is called like the split {split}"
            findings.add(text, "give the case another name, or a folder of its own", folder)
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


def channels_of(row: Row) -> list[str]:
    """Names of the channels of a case, in their order."""
    return [plain_name(_stem(path).removeprefix("image-")) for path in row.images]


def _check_channels(rows: list[Row], root: Path, findings: Findings) -> None:
    """Channels are known by their names: another set of them is another image."""
    by_case = {row.case: tuple(channels_of(row)) for row in rows}
    if not by_case:
        return
    usual = Counter(by_case.values()).most_common(1)[0][0]
    for case, names in by_case.items():
        if len({*names}) < len(names):
            findings.add(f"two files of one channel: {', '.join(names)}", "leave one", root / case)
        if names != usual:
            text = f"channels {', '.join(names)} where most cases have {', '.join(usual)}"
            findings.add(text, "give every case the same channels, image-NAME", root / case)


def _stem(path: Path) -> str:
    return path.name[: -len(kind_of(path) or "")]


def has_layout(root: Path) -> bool:
    """Whether cases lie below `root`."""
    return any(row.mask for row in find_rows(root, Findings()))


def _subfolders(folder: Path, findings: Findings) -> list[Path]:
    found = visible(folder)
    for path in found:
        if path.name[0] == "_" and path.is_dir():
            findings.note("a folder that is passed over", "rename it if it is a case", path)
    found = [path for path in found if path.name[0] != "_"]
    for path in found:
        if not path.exists():
            findings.add("a link that leads nowhere", "mend or remove it", path)
    return [path for path in found if path.is_dir()]


def _case_rows(folder: Path, case: str, split: str | None, findings: Findings) -> list[Row]:
    files = visible(folder)
    named = [(path, _stem(path)) for path in files if path.is_file() and kind_of(path)]
    images = tuple(path for path, stem in named if IMAGE.fullmatch(stem))
    masks = [(path, found) for path, stem in named if (found := _mask(stem))]
    known = {*images, *(path for path, _ in masks)}
    for path, stem in named:
        if path not in known and "majority" not in stem:
            findings.note("a file that is neither image nor mask", f"expected {LAYOUT}", path)
    _check_unread(files, [stem for _, stem in named], findings)
    if not images:
        if masks:
            findings.add("masks without an image", f"expected {LAYOUT}", folder)
        elif not named:
            findings.note("a folder without image or mask", f"expected {LAYOUT}", folder)
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


def _is_of_case(path: Path) -> bool:
    stem = _stem(path)
    return path.is_file() and bool(kind_of(path) and (IMAGE.fullmatch(stem) or _mask(stem)))


def _check_unread(files: list[Path], read: list[str], findings: Findings) -> None:
    """Names files that are called like an image or mask, and of which nothing was read."""
    for path in files:
        name = path.name.split(".")[0]
        beside = any(f"{path.name}.".startswith(f"{stem}.") for stem in read)
        beside |= path.suffix.lower() in ASIDE
        beside |= path.is_dir() and bool(IMAGE.fullmatch(name))  # its source, beside it
        if not beside and (IMAGE.fullmatch(name) or _mask(name)):
            text = "called like an image or mask, but cannot be read as one"
            remedy = f"save it as one of {', '.join(KINDS)}, mend the link, or rename it"
            findings.add(text, remedy, path)


def _mask(stem: str) -> re.Match[str] | None:
    return MASK.fullmatch(stem) or QUBIQ.fullmatch(stem)
