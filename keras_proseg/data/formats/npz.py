"""The npz source: `images`, `masks` and optional columns."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_proseg.data.arrays import check_arrays
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import Findings
from keras_proseg.data.places import Volume
from keras_proseg.data.records import Record
from keras_proseg.errors import ProSegError, UsageError, reason_of

REQUIRED = ("images", "masks")
COLUMNS = (*REQUIRED, "annotated", "case_ids", "split", "spacing")
# What reading a file of our own raises that a kill left half-written.
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
GROUPS = ("patient_ids", "image_ids")


def read_arrays(path: str | Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of an npz that are among `names`; object arrays are never unpickled.

    Raises:
        UsageError: no such file.
        ProSegError: not an npz, truncated, or an object array.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"Data must be an existing .npz file. Received: {path}")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no npz archive")
        with zipfile.ZipFile(path) as archive:
            held = set(archive.namelist())
            return {name: _member(archive, name) for name in names if f"{name}.npy" in held}
    except Exception as error:  # what a damaged archive makes zipfile and NumPy raise is open
        raise ProSegError(
            f"{path} must be a whole .npz of plain arrays. Received: {reason_of(error)}"
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        # The archive's checksum is compared at the end of a member only.
        if member.read(1):
            raise ValueError(f"`{name}` holds more than its header says")
        return array


def load_npz(path: str | Path, findings: Findings | None = None) -> Dataset | None:
    """Reads `FILE.npz` into a `Dataset`.

    Args:
        path: npz with `images` (N, H, W, C) and `masks` (N, R, H, W) or (N, R, H, W, K); optional
            `annotated`, `case_ids`, `rater_ids`, `patient_ids` or `image_ids`, `split`, `spacing`.
            Other arrays are ignored.
        findings: collects what is wrong with the arrays; by default it is raised.

    Returns:
        The dataset, or None with a fatal finding.

    Raises:
        ProSegError: names the file, what was expected and what came.
    """
    collected = findings or Findings(str(path))
    arrays = read_arrays(path, (*COLUMNS, "rater_ids", *GROUPS))
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise ProSegError(
            f"{path} must hold arrays `images` and `masks`. Received: no {', '.join(missing)}"
        )
    groups = next((n for n in GROUPS if n in arrays), None)
    given = {name: arrays.get(name) for name in COLUMNS}
    given |= {"raters": arrays.get("rater_ids"), "patients": arrays.get(groups or "")}
    about = {"group_by": groups or "case_ids", "source": str(path)}
    dataset = check_arrays(Dataset, given | about, collected)
    if findings is None:
        collected.check()
    return dataset


def records_of(dataset: Dataset) -> Iterator[Record]:
    """The cases of an npz as records, to be brought to another size or spacing."""
    for row in range(len(dataset)):
        case = dataset[row]
        image, masks = case.image[None], {name: mask[None] for name, mask in case.masks.items()}
        volume = Volume(dataset.source, ".npz", image.shape[:3], case.case_id)
        split = None if dataset.split is None else str(dataset.split[row])
        yield Record(case.case_id, case.patient, image, masks, volume, case.spacing, split)
