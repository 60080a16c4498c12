"""HDF5 in the layout of the NPC release (MMIS-2024): one file a case, `t1`, `label_a1` ..."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.findings import Findings
from keras_proseg.data.orientation import slice_axis
from keras_proseg.data.places import Volume
from keras_proseg.data.records import (
    USABLE,
    Record,
    as_float32,
    natural,
    split_of,
    unusable,
    visible,
)
from keras_proseg.errors import ProSegError, reason_of, require

CHANNELS = ("t1", "t1c", "t2")
LABEL = re.compile(r"label_(?P<rater>a\d+)")
SLICE = re.compile(r"(?:^|[_-])(?:slice|z)[_-]?\d+(?:_of_\d+)?(?=$|[_-])", re.IGNORECASE)
NUMBER = re.compile(r"(?P<patient>.*\d.*?)[_-]\d+")
LAYOUT = (
    "training_2d/*.h5, validation/*.h5 and testing/*.h5 with t1, t1c, t2 and label_a1, label_a2 ..."
)


def files_of(root: Path) -> list[Path]:
    """The .h5 files in `root` and its folders."""
    return visible(root, "*.h5", "*/*.h5")


def _note_unread(root: Path, findings: Findings) -> None:
    """Files of the kind that lie deeper, or have another suffix, are no cases."""
    read = set(files_of(root))
    for path in visible(root, "*.h5", "*.hdf5", "*.hdf", "*/*/*.h5"):  # the last for its depth
        if path not in read:
            findings.note("a file that is not read", f"expected {LAYOUT}", path)


def read_hdf5(root: str | Path, findings: Findings) -> Iterator[Record]:
    """Reads the release's folders; raters are `a1`, `a2` ... and the same persons throughout.

    2-D files are slices (H, W): the patient is the file's name without its `slice7` or `z7`, or
    else without its last number, which is noted. 3-D arrays are volumes, their slices along the
    axis whose length differs from the other two, which are alike; of three lengths along the
    shortest, which is noted and must be one axis for all; of one along the first.
    """
    root = Path(root)
    remedy = f"mend the file, or leave it out; expected {LAYOUT}"
    slices: dict[str, list[str]] = defaultdict(list)
    oblong: dict[Path, tuple[int, ...]] = {}
    unread: dict[str, list[Path]] = defaultdict(list)
    _note_unread(root, findings)
    for path in files_of(root):
        split = split_of(path.parent.name) if path.parent != root else None
        record = findings.attempt(remedy, _read, path, root, split, oblong, unread, file=path)
        if record is not None:
            if record.volume.flat:
                slices[record.patient].append(path.stem)
            yield record
    for name, paths in unread.items():
        text = f"{name} of {len(paths)} file(s) not read, here the first"
        findings.note(text, "name the raters' masks label_a1, label_a2 ...", paths[0])
    _check_patients(slices, root, findings)
    if oblong:
        _check_axes(oblong, root, findings)


def _check_patients(slices: dict[str, list[str]], root: Path, findings: Findings) -> None:
    """Names of files by patient: what they say of patients may be a guess."""
    remedy = "name files PATIENT_slice1.h5, PATIENT_slice2.h5 ..."
    if len(slices) > 1 and max(map(len, slices.values())) == 1:
        text = f"{len(slices)} slices of as many patients: no two names say that they are of one"
        findings.note(text, remedy, root)
        return
    for patient, stems in slices.items():
        if not SLICE.search(stems[0]) and patient != stems[0]:
            text = f"patients are file names without their last number: {stems[0]} is of {patient}"
            findings.note(text, f"{remedy} if that is wrong", root)
            return


def _check_axes(oblong: dict[Path, tuple[int, ...]], root: Path, findings: Findings) -> None:
    """Of volumes of three different sides: which axis holds the slices is a guess."""
    remedy = "save slices as files (H, W)"
    if len({slice_axis(shape) for shape in oblong.values()}) > 1:
        text = f"{len(oblong)} volumes of three different sides, the shortest not the same in all"
        findings.add(text, remedy, root)
        return
    path, sides = next(iter(oblong.items()))
    height, width = (side for side in sides if side != min(sides))
    text = f"{len(oblong)} volumes of three different sides are cut along the shortest:"
    text += f" here, {min(sides)} slices of {height}x{width}"
    findings.note(text, f"{remedy} if that is wrong", path)


def _read(
    path: Path,
    root: Path,
    split: str | None,
    oblong: dict[Path, tuple[int, ...]],
    unread: dict[str, list[Path]],
) -> Record:
    """One file; a volume of three different sides is entered into `oblong`, labels that are not
    known into `unread`.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            arrays = {name: _array(file[name], name) for name in file if _wanted(name)}
            others = [name for name in file if name.lower().startswith("label")]
    except ProSegError as error:
        raise ProSegError(f"{path}: {error}") from error
    except Exception as error:
        raise ProSegError(
            f"{path} must be a whole HDF5 file. Received: {reason_of(error)}"
        ) from error
    for name in others:
        if name not in arrays:
            unread[name].append(path)
    channels = [name for name in CHANNELS if name in arrays]
    require(channels == list(CHANNELS), str(path), f"with {', '.join(CHANNELS)}", sorted(arrays))
    shapes = {array.shape for array in arrays.values()}
    require(len(shapes) == 1, str(path), "of arrays of one shape", sorted(shapes))
    (shape,) = shapes
    if len({*shape}) == 3:
        oblong[path] = shape
    image = np.stack([_slices(arrays[name]) for name in channels], axis=-1)
    require(not unusable(image).any(), str(path), f"of an image {USABLE}", "other values")
    masks = {
        found["rater"]: _mask(_slices(array), name, path)
        for name, array in sorted(arrays.items(), key=lambda item: natural(item[0]))
        if (found := LABEL.fullmatch(name))
    }
    stem, flat = path.stem, len(image) == 1
    patient = _patient(stem) if flat else stem
    case = path.relative_to(root).with_suffix("").as_posix()
    volume = Volume(str(path), ".h5", image.shape[:3], case, None, flat)
    return Record(case, patient, image, masks, volume, None, split)


def _patient(stem: str) -> str:
    """Whose slice a file of this name is."""
    if SLICE.search(stem):
        return SLICE.sub("", stem, count=1).strip("_-") or stem
    found = NUMBER.fullmatch(stem)
    return found["patient"] if found else stem


def _wanted(name: str) -> bool:
    return name in CHANNELS or LABEL.fullmatch(name) is not None


def _array(item: Any, name: str) -> np.ndarray:
    array = np.asarray(item)
    good = array.ndim in (2, 3) and array.size > 0 and array.dtype.kind in "biuf"
    require(good, name, "numbers (H, W) or a volume", f"shape {array.shape}, dtype {array.dtype}")
    return as_float32(array)


def _slices(array: np.ndarray) -> np.ndarray:
    """(Z, H, W)."""
    if array.ndim == 2:
        return array[None]
    return np.moveaxis(array, slice_axis(array.shape), 0)


def _mask(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    values = np.unique(array)
    good = bool(np.isin(values, (0, 1)).all())
    require(good, f"{path}: {name}", "0/1", f"values {values[:5].tolist()}")
    return array.astype(np.uint8)[..., None]
