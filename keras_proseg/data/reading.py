"""Reads whatever kind of source the user names, by its name and by what lies in it."""

from dataclasses import replace
from pathlib import Path

from keras_proseg.config import DataConfig, check_not_lidc
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.findings import Findings
from keras_proseg.data.fit import scale_of
from keras_proseg.data.prepared import is_prepared, load_prepared
from keras_proseg.data.records import check_name
from keras_proseg.data.verify import check_spacing
from keras_proseg.errors import UsageError

SOURCES = (
    "`lidc`, FILE.npz, MANIFEST.csv, FILE.pickle, a prepared file, or a folder of cases (PNG, "
    "NIfTI, QUBIQ), HDF5 files, pickles or prepared shards"
)


def read_source(source: str, config: DataConfig, findings: Findings) -> Dataset | None:
    """The dataset in `source`, raters in the order of the files; None with a fatal finding.

    Args:
        source: what the user names.
        config: how it is read.
        findings: collects what is wrong with the files.

    Raises:
        UsageError: an unknown kind of source, or its name is not UTF-8.
        ProSegError: the name of a file in it is not.
    """
    if source == "lidc":
        return _read_lidc(config)
    check_not_lidc(config)
    if not source:  # a variable of a shell that is not set
        raise UsageError(f"Data must be {SOURCES}. Received: an empty name")
    path = Path(source)
    check_name(path, UsageError)
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
    check_spacing(dataset, findings)  # sizes are made of it
    if findings.fatal:
        return None
    records, order = records_of(dataset), dataset.raters
    fitted = build_dataset(records, config, findings, source, dataset.group_by, order)
    return None if fitted is None else replace(fitted, dropped=dataset.dropped)


def _read_folder(path: Path, config: DataConfig, findings: Findings) -> Dataset | None:
    from keras_proseg.data.build import build_dataset
    from keras_proseg.data.formats import folders, hdf5, pickles

    shards = sorted(path.glob("shard-*-of-*"))
    if shards:
        return findings.attempt("prepare the data again", load_prepared, shards)
    stored = [hdf5.files_of(path), pickles.files_of(path)]
    if not _one_kind(path, [files[0] for files in stored if files], findings):
        return None
    if stored[0]:
        records = hdf5.read_hdf5(path, findings)
        return build_dataset(records, config, findings, str(path), "patient_ids")
    if stored[1]:
        return _read_pickle(path, config, findings)
    rows = folders.find_rows(path, findings)
    dataset = _from_rows(rows, path, config, findings) if rows else None
    if dataset is not None and dataset.images.shape[-1] == len(rows[0].images) > 1:
        dataset.notes["channels"] = folders.channels_of(rows[0])
    return dataset


def _one_kind(path: Path, files: list[Path], findings: Findings) -> bool:
    """Whether `path` holds either cases or one kind of `files`."""
    from keras_proseg.data.formats import folders

    found = [str(file.relative_to(path)) for file in files]
    if files and folders.has_layout(path):
        found.append("folders of cases")
    if len(found) > 1:
        text = f"{' beside '.join(found)}: which of them are meant is not known"
        findings.add(text, "keep every kind of data in a folder of its own")
    return len(found) <= 1


def _read_manifest(path: Path, config: DataConfig, findings: Findings) -> Dataset | None:
    from keras_proseg.data.formats.manifest import read_manifest

    rows, group_by = read_manifest(path, findings)
    return _from_rows(rows, path, config, findings, group_by) if rows else None


def _from_rows(
    rows: list, path: Path, config: DataConfig, findings: Findings, group_by: str = "case_ids"
) -> Dataset | None:
    from keras_proseg.data.build import build_dataset
    from keras_proseg.data.formats.tables import read_rows, structures_of

    dataset = build_dataset(read_rows(rows, findings), config, findings, str(path), group_by)
    if dataset is not None and dataset.num_classes > 1:
        dataset.notes["structures"] = structures_of(rows)
    return dataset


def _read_pickle(path: Path, config: DataConfig, findings: Findings) -> Dataset | None:
    from keras_proseg.data.build import build_dataset
    from keras_proseg.data.formats.pickles import group_of, read_pickle

    dataset = build_dataset(read_pickle(path, findings), config, findings, str(path))
    if dataset is None:
        return None
    group_by = group_of(dataset.patients, dataset.case_ids, path, findings)
    return replace(dataset, rater_order="area", group_by=group_by)


def _read_lidc(config: DataConfig) -> Dataset:
    from keras_proseg.data.lidc.load import load_lidc

    dataset = load_lidc(config)
    dataset.notes["scale"] = {"spacing": config.spacing}  # each crop is of the size asked for
    return dataset
