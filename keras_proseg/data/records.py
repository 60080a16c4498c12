"""`Record`: one image file with its raters' masks, as every source hands it over."""

import re
from dataclasses import dataclass

import numpy as np

from keras_proseg.data.places import Volume

SPLITS = {"train": "train", "val": "val", "test": "test", "valid": "val", "validation": "val"}
SPLITS |= {"training": "train", "testing": "test", "training_2d": "train"}


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


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key by which rater2 comes before rater10, and no two names are alike."""
    parts = re.split(r"(\d+)", name)
    key = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]
    return [*key, (-1, 0, name)]  # 1 and 01: sets of names have another order in each process


def split_of(folder: str) -> str | None:
    """The split that a folder's name means, or None."""
    return SPLITS.get(folder.lower())
