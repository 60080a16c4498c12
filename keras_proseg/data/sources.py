"""From what the user names (`lidc`, a file, a folder) to a dataset with raters in order, split.

A source is known by its name and by what lies in it; each has a module of its own.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_proseg.config import DataConfig, TrainConfig, check_not_lidc
from keras_proseg.data.dataset import Dataset, mask_areas, rank_by_area
from keras_proseg.data.findings import Findings
from keras_proseg.data.fit import WINDOW, at_scale, scale_of
from keras_proseg.data.prepared import is_prepared, load_prepared
from keras_proseg.data.split import split_dataset
from keras_proseg.data.verify import check_dataset, check_sides
from keras_proseg.errors import UsageError, require

SOURCES = (
    "`lidc`, FILE.npz, MANIFEST.csv, FILE.pickle, a prepared file, or a folder of cases (PNG, "
    "NIfTI, QUBIQ), HDF5 files, pickles or prepared shards"
)


def load_dataset(source: str, config: TrainConfig | None = None) -> Dataset:
    """Loads a source, orders its raters and splits it.

    Args:
        source: `"lidc"`, or the path of a file or folder.
        config: its `seed` and the settings of `DataConfig` apply.

    Raises:
        UsageError: an unknown kind of source.
        DataError: what is wrong with the files, all of it at once.
    """
    config = config or TrainConfig()
    dataset = read_dataset(source, config)
    return split_dataset(dataset, config.seed)


def read_dataset(source: str, config: DataConfig | None = None) -> Dataset:
    """Loads a source and orders its raters; its split is its own, or None.

    Raises:
        UsageError: an unknown kind of source, or another scale than that of prepared data.
        DataError: what is wrong with the files, all of it at once.
    """
    config = config or DataConfig()
    findings = Findings(source)
    dataset = _read(source, config, findings)
    findings.check()
    assert dataset is not None
    config = at_scale(config, dataset.notes)
    if config.window_center is not None:
        dataset.notes["window"] = {name: getattr(config, name) for name in WINDOW}
    check_dataset(dataset, findings)
    findings.check()
    return as_asked(dataset, config)


def as_asked(dataset: Dataset, config: DataConfig) -> Dataset:
    """`dataset` with the `slices` of `config`, and raters in its `rater_order` or the data's own.

    Raises:
        ProSegError: `slices` is `"drawn"` and nothing is.
    """
    if config.slices == "drawn":
        drawn = np.flatnonzero(mask_areas(dataset).any(axis=1))
        require(bool(len(drawn)), "masks", "of at least one slice that is drawn on", "none")
        dataset = dataset if len(drawn) == len(dataset) else dataset.take(drawn)
    order = config.rater_order or dataset.rater_order
    return rank_by_area(dataset) if order == "area" else dataset


def verify_source(source: str, config: DataConfig | None = None) -> tuple[Findings, Dataset | None]:
    """Everything that is wrong with a source, and what could be read of it.

    Raises:
        UsageError: an unknown kind of source.
    """
    config, findings = config or DataConfig(), Findings(source)
    dataset = findings.attempt("mend it and verify again", _read, source, config, findings)
    if dataset is not None:
        config = replace(at_scale(config, dataset.notes), rater_order=config.rater_order or "given")
        remedy = "choose --slices all, or look at the masks"
        dataset = findings.attempt(remedy, as_asked, dataset, config)
    if dataset is not None:
        check_dataset(dataset, findings)
        check_sides(dataset, findings)
    return findings, dataset


def _read(source: str, config: DataConfig, findings: Findings) -> Dataset | None:
    if source == "lidc":
        return _read_lidc(config, findings)
    check_not_lidc(config)
    path = Path(source)
    suffix = path.suffix.lower()
    if path.is_file() and is_prepared(path):
        return findings.attempt("prepare the data again", load_prepared, [path])
    if suffix == ".npz":
        return _read_npz(source, config, findings)
    if not path.exists():
        raise UsageError(f"Data must be {SOURCES}. Received: {source}, which does not exist")
    if path.is_dir():
        return _read_folder(path, config, findings)
    if suffix == ".csv":
        return _read_manifest(path, config, findings)
    if suffix in (".pickle", ".pkl"):
        return _read_pickle(path, config, findings)
    raise UsageError(f"Data must be {SOURCES}. Received: {source}")


def _read_npz(source: str, config: DataConfig, findings: Findings) -> Dataset | None:
    from keras_proseg.data.build import build_dataset
    from keras_proseg.data.formats.npz import load_npz, records_of

    dataset = load_npz(source, findings)
    if dataset is None or scale_of(config) == scale_of(DataConfig()):
        return dataset
    if config.spacing is not None and dataset.spacing is None:
        remedy = "leave --spacing out, or give an array `spacing` (N, 2) of mm per pixel"
        findings.add("no pixel spacing is known, which --spacing needs", remedy)
        return None
    records, order = records_of(dataset), dataset.raters
    fitted = build_dataset(records, config, findings, source, dataset.group_by, order)
    return None if fitted is None else replace(fitted, dropped=dataset.dropped)


def _read_folder(path: Path, config: DataConfig, findings: Findings) -> Dataset | None:
    from keras_proseg.data.build import build_dataset
    from keras_proseg.data.formats import folders, hdf5
    from keras_proseg.data.formats.tables import read_rows

    shards = sorted(path.glob("shard-*-of-*"))
    if shards:
        return findings.attempt("prepare the data again", load_prepared, shards)
    if hdf5.has_layout(path):
        records = hdf5.read_hdf5(path, findings)
        return build_dataset(records, config, findings, str(path), "patient_ids")
    if any(path.glob("*.pickle")) or any(path.glob("*.pkl")):
        return _read_pickle(path, config, findings)
    rows = folders.find_rows(path, findings)
    return build_dataset(read_rows(rows, findings), config, findings, str(path)) if rows else None


def _read_manifest(path: Path, config: DataConfig, findings: Findings) -> Dataset | None:
    from keras_proseg.data.build import build_dataset
    from keras_proseg.data.formats.manifest import read_manifest
    from keras_proseg.data.formats.tables import read_rows

    rows, group_by = read_manifest(path, findings)
    if not rows:
        return None
    return build_dataset(read_rows(rows, findings), config, findings, str(path), group_by)


def _read_pickle(path: Path, config: DataConfig, findings: Findings) -> Dataset | None:
    from keras_proseg.data.build import build_dataset
    from keras_proseg.data.formats.pickles import read_pickle

    records = read_pickle(path, findings)
    dataset = build_dataset(records, config, findings, str(path), "patient_ids")
    return None if dataset is None else replace(dataset, rater_order="area")


def _read_lidc(config: DataConfig, findings: Findings) -> Dataset:
    from keras_proseg.data.lidc.load import load_lidc

    dataset = load_lidc(config)
    dataset.notes["scale"] = {"spacing": config.spacing}  # each crop is of the size asked for
    for file, what, remedy in dataset.notes.get("findings", []):
        findings.note(what, remedy, file)
    return dataset
