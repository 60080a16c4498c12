"""The cases that a run has seen, and those among other data that it has learnt from.

split.csv has a row per case: case_id, patient, split, and digests of the image and of the patient's
name. The digests alone are compared, and all that a shipped model has.
"""

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.data.lazy import CHUNK
from keras_proseg.errors import ProSegError
from keras_proseg.run_config import RunConfig
from keras_proseg.text_files import write_csv

FILE = "split.csv"
DIGESTS = ("image_digest", "patient_digest")
LENGTH = 16  # hexadecimal digits, which two of a billion images do not share


def case_rows(dataset: Dataset) -> list[dict[str, str]]:
    """A row of split.csv for each case; cases without a split are training cases."""
    split = ["train"] * len(dataset) if dataset.split is None else dataset.split.tolist()
    names = zip(dataset.case_ids.tolist(), dataset.patients.tolist(), split, strict=True)
    rows = [{"case_id": c, "patient": p, "split": s} for c, p, s in names]
    digests = zip(*_digests(dataset), strict=True)
    return [
        row | dict(zip(DIGESTS, own, strict=True)) for row, own in zip(rows, digests, strict=True)
    ]


def write_cases(path: Path, rows: list[dict[str, str]]) -> None:
    """Writes split.csv into the folder of a run."""
    write_csv(path / FILE, rows)


def read_cases(run: RunConfig) -> list[dict[str, str]] | None:
    """The rows of a run's split.csv; None of a run from before there was one.

    Raises:
        ProSegError: it was changed into something else.
    """
    file = run.path / FILE
    if not file.is_file():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as handle:
            rows: list[Any] = list(csv.DictReader(handle))
        wanted = {"split", *DIGESTS}
        if not rows or any(not row.keys() >= wanted or None in row.values() for row in rows):
            raise ValueError(f"no rows of {', '.join(sorted(wanted))}")
    except (OSError, ValueError, csv.Error) as error:
        text = f"{file} must hold the split of the run's cases. Received: {error}"
        raise ProSegError(text) from error
    return rows


def unnamed(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """`rows` without the names of cases and patients."""
    return [{name: row[name] for name in ("split", *DIGESTS)} for row in rows]


def learnt_cases(run: RunConfig, dataset: Dataset) -> np.ndarray | None:
    """Which cases (2, N) of `dataset` have an image, and which a patient, of the run's training.

    None where that is not known. Patients are compared by name, where both data have them: two
    hospitals may call theirs alike.

    Raises:
        ProSegError: the run's split.csv was changed into something else.
    """
    rows = read_cases(run)
    if rows is None:
        return None
    learnt = [{r[name] for r in rows if r["split"] == "train"} - {""} for name in DIGESTS]
    found = [
        [digest in known for digest in column]
        for column, known in zip(_digests(dataset), learnt, strict=True)
    ]
    return np.array(found)


def _digests(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Of images, as numbers of whatever type, and of patients.

    Empty for blank images, which are alike in any data, and where no patients are named.
    """
    images, shape = [], dataset.images.shape[1:]
    numbers = np.empty(shape, "<f4")  # one for all: large images are many
    for start in range(0, len(dataset), CHUNK):  # rows of disk are read a chunk at a time
        for image in np.asarray(dataset.images[start : start + CHUNK]):
            numbers[...] = image
            blank = numbers.min() == numbers.max()
            images.append("" if blank else _digest(str(shape).encode(), numbers.data))
    named = dataset.group_by == "patient_ids"
    names = dataset.patients.tolist()
    return images, [_digest(str(name).encode()) if named else "" for name in names]


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:LENGTH]
