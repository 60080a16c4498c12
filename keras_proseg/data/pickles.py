"""The LIDC pickles that the field passes around, read without running what is in them."""

import importlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import require
from keras_proseg.data.findings import Findings
from keras_proseg.data.places import Volume
from keras_proseg.data.records import Record
from keras_proseg.errors import ProSegError

SUFFIXES = (".pickle", ".pkl")
# All that arrays and plain containers need; nothing here runs code of the file's choosing.
ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}


class PlainUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and plain containers; refuses every other name before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """The few admitted names.

        Raises:
            pickle.UnpicklingError: any other.
        """
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name}, which is neither array nor container")
        if (module, name) == ("numpy", "dtype"):
            return _plain_dtype
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)

    def persistent_load(self, pid: Any) -> Any:
        """Refused.

        Raises:
            pickle.UnpicklingError: always.
        """
        raise pickle.UnpicklingError("a persistent reference")


def _plain_dtype(*arguments: Any) -> np.dtype:
    kind = np.dtype(*arguments)
    if kind.kind not in "biufSU":
        raise pickle.UnpicklingError(f"an array of {kind.name}")
    return kind


def read_pickle(path: str | Path, findings: Findings) -> Iterator[Record]:
    """Reads a pickle, or a folder of them: a dict of items with `image` (H, W), `masks` (R of
    (H, W)) and `series_uid`.

    Raters are slots (`reader1` ...), not persons; the group is the scan (`series_uid`).
    """
    path = Path(path)
    if path.is_dir():
        for file in sorted(p for p in path.iterdir() if p.suffix in SUFFIXES):
            yield from read_pickle(file, findings)
        return
    remedy = "use a whole pickle {name: {image, masks, series_uid}} of arrays and plain containers"
    items = findings.attempt(remedy, _load, path, file=path)
    while items:
        name = next(iter(items))
        item = items.pop(name)  # a gigabyte pickle is not held twice
        record = findings.attempt(remedy, _record, path, str(name), item, file=f"{path}: {name}")
        if record is not None:
            yield record


def _load(path: Path) -> dict:
    try:
        with path.open("rb") as handle:
            items = PlainUnpickler(handle, encoding="latin1").load()
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ProSegError(
            f"{path} must be a pickle of arrays and plain containers only. Received: {reason}"
        ) from error
    good = isinstance(items, dict) and bool(items)
    require(good, str(path), "a pickled dict of items, not empty", type(items).__name__)
    return items


def _record(path: Path, name: str, item: Any) -> Record:
    good = isinstance(item, dict) and {"image", "masks"} <= set(item)
    require(good, name, "a dict with image and masks", type(item).__name__)
    image = np.asarray(item["image"])
    good = image.ndim == 2 and image.size > 0 and image.dtype.kind in "biuf"
    require(good, f"{name}: image", "(H, W) numbers", f"{image.shape}, dtype {image.dtype}")
    require(bool(np.isfinite(image).all()), f"{name}: image", "finite", "NaN or infinity")
    masks = item["masks"]
    require(isinstance(masks, (list, tuple, np.ndarray)) and len(masks) > 0, f"{name}: masks",
            "a list of masks (H, W)", type(masks).__name__)  # fmt: skip
    by_rater = {f"reader{k}": _mask(m, image, f"{name}: mask {k}") for k, m in enumerate(masks, 1)}
    scan = item.get("series_uid", name)
    require(isinstance(scan, (str, bytes)) and bool(scan), f"{name}: series_uid", "a name", scan)
    scan = scan.decode("latin1") if isinstance(scan, bytes) else scan
    volume = Volume(str(path), ".pickle", (1, *image.shape), name, None, True)
    image = image.astype(np.float32) if image.dtype == np.float64 else image
    return Record(name, scan, image[None, :, :, None], by_rater, volume)


def _mask(mask: Any, image: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(mask)
    require(array.shape == image.shape, name, f"of the image's size {image.shape}", array.shape)
    good = array.dtype.kind in "biuf" and bool(np.isin(np.unique(array), (0, 1)).all())
    require(good, name, "0/1", f"dtype {array.dtype}, highest {array.max()}" if good else "others")
    return array.astype(np.uint8)[None, :, :, None]
