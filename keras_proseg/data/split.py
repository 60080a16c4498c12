"""Splits by group: no patient (image, case) is ever on two sides."""

import warnings
from dataclasses import replace

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.errors import UsageError, require

NAMES = ("train", "val", "test")
FRACTIONS = (0.7, 0.1, 0.2)
LEAST_GROUPS = 3  # one for each


def split_dataset(dataset: Dataset, seed: int = 0) -> Dataset:
    """Gives `dataset` a split: its own when it has one, else 70/10/20 by group, seeded.

    Raises:
        ProSegError: a group is in two splits, an unknown name, or fewer than three groups to draw a
            split of.
    """
    if dataset.split is None:
        dataset = replace(dataset, split=_draw(dataset.patients, seed))
        if dataset.group_by == "case_ids":
            warnings.warn(
                "No patient_ids: every case counts as a patient of its own.", stacklevel=2
            )
    assert dataset.split is not None
    unknown = sorted(set(dataset.split.tolist()) - set(NAMES))
    require(not unknown, "split", f"of {', '.join(NAMES)}", unknown)
    pairs = {(p, s) for p, s in zip(dataset.patients, dataset.split, strict=True)}
    repeated = len(pairs) - len({p for p, _ in pairs})
    require(not repeated, "split", "disjoint by group", f"{repeated} group(s) in two splits")
    return dataset


def subset(dataset: Dataset, name: str) -> Dataset:
    """The cases of split `name`, or all.

    Raises:
        UsageError: the data has no such split.
    """
    return dataset if name == "all" else dataset.take(split_rows(dataset, name))


def split_rows(dataset: Dataset, name: str) -> np.ndarray:
    """Row numbers of split `name`, without a copy of the cases.

    Raises:
        UsageError: the data has no such split.
    """
    assert dataset.split is not None
    rows = np.flatnonzero(dataset.split == name)
    if not rows.size:
        present = ", ".join(sorted(set(dataset.split.tolist())))
        raise UsageError(f"`split` must be one that the data has: {present}. Received: {name}")
    return rows


def unlearnt_raters(dataset: Dataset) -> list[str]:
    """Raters without a mask in train, whose manner no training can learn."""
    there = dataset.annotated[split_rows(dataset, "train")].any(axis=0)
    return [name for name, is_there in zip(dataset.raters, there, strict=True) if not is_there]


def _draw(groups: np.ndarray, seed: int) -> np.ndarray:
    names = np.unique(groups)
    wanted = f"of at least {LEAST_GROUPS} groups to split them"
    require(len(names) >= LEAST_GROUPS, "cases", wanted, len(names))
    order = np.random.default_rng(seed).permutation(len(names))
    held = [max(1, round(fraction * len(names))) for fraction in FRACTIONS[1:]]
    sides = np.full(len(names), "train", dtype="<U5")
    sides[order[: held[0]]] = "val"
    sides[order[held[0] : sum(held)]] = "test"
    return sides[np.searchsorted(names, groups)]
