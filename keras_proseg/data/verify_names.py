"""What is wrong with the names in a data set: cases, patients and the sides they are on."""

import re
from collections import defaultdict

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import Findings
from keras_proseg.data.split import NAMES

SHOWN = 3  # names shown of a long list


def check_names(dataset: Dataset, findings: Findings) -> None:
    """Adds what is wrong with the names in `dataset` to `findings`."""
    _check_cases(dataset, findings)
    _check_patients(dataset, findings)
    _check_splits(dataset, findings)


def some(names: object) -> str:
    """The first few of `names`, for people."""
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _check_cases(dataset: Dataset, findings: Findings) -> None:
    names, counts = np.unique(dataset.case_ids, return_counts=True)
    if (counts > 1).any():
        text = f"{int((counts > 1).sum())} case ids more than once: {some(names[counts > 1])}"
        findings.add(text, "give every case an id of its own")
    volumes = () if dataset.places is None else {place.volume.case_id for place in dataset.places}
    for name in sorted(volumes):
        if not {"", ".", ".."}.isdisjoint(name.split("/")):
            text = f"case id {name} is no plain path, and would be written elsewhere"
            findings.add(text, "leave out empty parts, . and .. of case ids")


def _check_patients(dataset: Dataset, findings: Findings) -> None:
    """Tables turn 1 into 1.0 or 01, and people write p1 as P1: one person under two names."""
    if dataset.group_by != "patient_ids":
        return
    alike = defaultdict(list)
    for name in np.unique(dataset.patients).tolist():
        alike[_essence(name)].append(name)
    for names in [own for own in alike.values() if len(own) > 1][:SHOWN]:
        text = f"patients {' and '.join(names)} differ in capitals, blanks or zeros only"
        remedy = "write each name in one way, or slices of one may fall on two sides of a split"
        findings.note(text, remedy)


def _essence(name: str) -> str:
    """`name` without what tables and hands change."""
    text = "".join(name.casefold().split())
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"(?<=\d)\.0+$", "", text))


def _check_splits(dataset: Dataset, findings: Findings) -> None:
    if dataset.split is None:
        if dataset.group_by == "case_ids":
            text = "no patient_ids: every case counts as a patient of its own"
            findings.note(text, "name patients, or slices of one may fall on two sides of a split")
        return
    unknown = sorted(set(dataset.split.tolist()) - set(NAMES))
    if unknown:
        findings.add(f"unknown splits {some(unknown)}", f"use {', '.join(NAMES)}")
    sides = defaultdict(set)
    for patient, side in zip(dataset.patients.tolist(), dataset.split.tolist(), strict=True):
        sides[patient].add(side)
    twice = sorted(patient for patient, own in sides.items() if len(own) > 1)
    if twice:
        text = f"{len(twice)} patients in two splits (split must be disjoint by group): "
        findings.add(text + some(twice), "keep all cases of a patient on one side")
