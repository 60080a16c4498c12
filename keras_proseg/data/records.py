"""`Record`: one image file with its raters' masks, as every source hands it over."""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_proseg.data.places import Volume
from keras_proseg.errors import ProSegError

SPLITS = {"train": "train", "val": "val", "test": "test", "valid": "val", "validation": "val"}
SPLITS |= {"training": "train", "testing": "test", "training_2d": "train"}
ASIDE = {".txt", ".md", ".json", ".csv", ".xml", ".yaml", ".yml", ".html", ".log"}  # no pixels
LARGEST = 1e15  # of a pixel: the squares of what is made of larger ones are no float32
USABLE = f"finite and between -{LARGEST:g} and {LARGEST:g}"
NAMELESS = {"", "nan", "na", "n/a", "<na>", "none", "null"}  # as tables write that there is none


@dataclass(frozen=True)
class Record:
    """One image, of one slice or more.

    Attributes:
        case_id: name of the case; slices of a volume add `/z003`.
        patient: the group that never straddles a split.
        image: (Z, H, W, C), raw.
        masks: {rater: (Z, H, W, K) uint8 0/1} of the raters present.
        volume: the image on disk.
        spacing: mm per pixel along rows and columns, or None.
        split: `"train"`, `"val"`, `"test"`, or None.
    """

    case_id: str
    patient: str
    image: np.ndarray
    masks: dict[str, np.ndarray]
    volume: Volume
    spacing: tuple[float, float] | None = None
    split: str | None = None


def unusable(array: np.ndarray) -> np.ndarray:
    """Which numbers are no pixels: NaN, infinite, or as large as marks of what is not known."""
    if array.dtype.kind != "f":
        return np.zeros(array.shape, bool)
    return ~(np.abs(array) < np.float32(LARGEST))  # a float16 knows no such number


def as_float32(array: np.ndarray) -> np.ndarray:
    """`array`, its floats no wider than the network's: what lies beyond them is infinite."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= np.dtype(np.float32).itemsize:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key by which rater2 comes before rater10, and no two names are alike."""
    parts = re.split(r"(\d+)", name)
    # By their length first, as no number of thousands of digits is made.
    digits = [p.lstrip("0") if p.isdecimal() else None for p in parts]
    key = [
        (1, 0, part) if number is None else (0, len(number), number)
        for part, number in zip(parts, digits, strict=True)
        if part
    ]
    return [*key, (-1, 0, name)]  # 1 and 01: sets of names have another order in each process


def plain_name(name: str) -> str:
    """`name` without blanks around it, its accents written in the one way that counts (NFC)."""
    return unicodedata.normalize("NFC", name).strip()


def visible(folder: Path, *patterns: str) -> list[Path]:
    """What lies in `folder` in natural order, but what is hidden: systems leave `._NAME` there.

    Args:
        folder: an existing one.
        patterns: of the paths below it, in lower case and for any; by default of all that lies
            in it.

    Raises:
        ProSegError: a name is not UTF-8.
        OSError: a folder cannot be listed; `Path.glob` would pass over it without a word.
    """
    patterns = patterns or ("*",)
    found = _below(folder, max(pattern.count("/") for pattern in patterns))
    shown = [
        path for path in found if any(Path(str(path).lower()).match(each) for each in patterns)
    ]
    shown.sort(key=lambda path: natural(plain_name(str(path))))
    for path in shown:
        check_name(path)
    return shown


def _below(folder: Path, levels: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name[0] != ".":
            yield path
            if levels and path.is_dir():
                yield from _below(path, levels - 1)


def check_name(path: Path, error: type[ProSegError] = ProSegError) -> None:
    """Raises `error` unless the name of `path` is UTF-8: no other can be printed and stored."""
    raw = os.fsencode(path)
    readable = raw.decode("utf-8", "replace")
    if raw != readable.encode():
        raise error(f"{readable} must be a name in UTF-8. Received: {raw!r}")


def split_of(folder: str) -> str | None:
    """The split that a folder's name means, or None."""
    return SPLITS.get(folder.lower())
