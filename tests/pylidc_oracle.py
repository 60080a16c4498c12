"""pylidc itself, and the crops that are compared with it."""

import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import DataConfig
from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.dicom_series import read_series
from keras_proseg.data.lidc.crops import Crop
from keras_proseg.data.lidc.database import database_file, dicom_root, scan_folder
from keras_proseg.data.lidc.labels import Nodule
from keras_proseg.data.lidc.scans import crop_pixels


def import_pylidc(dicom: str | Path | None = None) -> Any:
    """Imports pylidc so that it works under today's Python and NumPy, changing neither.

    pylidc 0.2.3 uses `np.int`, `np.float`, `np.bool`, `SafeConfigParser` and `pkg_resources`, which
    are gone; its modules alone get stand-ins. It never writes a ~/.pylidcrc when imported so.

    Args:
        dicom: DICOM folder of `Scan.to_volume`; by default the one in the user's ~/.pylidcrc.

    Returns:
        The module.
    """
    missing = importlib.util.find_spec("pkg_resources") is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if missing and "pylidc" not in sys.modules:
            sys.modules["pkg_resources"] = _resources()
        import pylidc
        import pylidc.utils
    if missing:
        sys.modules.pop("pkg_resources", None)
    for name in ("Annotation", "Contour", "utils"):
        sys.modules[f"pylidc.{name}"].np = _AliasedNumpy("numpy")  # type: ignore[attr-defined]
    root = str(dicom or dicom_root() or "")
    sys.modules["pylidc.Scan"]._get_dicom_file_path_from_config_file = (  # type: ignore[attr-defined]
        lambda: root
    )
    return pylidc


def crop_ct(nodule: Nodule, root: Path, crop: int) -> np.ndarray | None:
    """Real Hounsfield units (Z, crop, crop) int16 of a nodule's slices, at native spacing.

    Args:
        nodule: its scan is looked up as <root>/<patient_id>/<study_uid>/<series_uid>/*.dcm.
        root: DICOM folder.
        crop: height and width, px.

    Returns:
        The crops, or None where the scan's folder lacks one of the slices.

    Raises:
        ProSegError: a file is no readable CT slice of 512x512 pixels.
    """
    folder = scan_folder(root, nodule.scan)
    series = read_series(folder, Findings(str(folder)))
    cropped = crop_pixels(Crop(nodule, DataConfig(crop=crop)), series)
    return None if cropped is None else cropped[0]


class _AliasedNumpy(types.ModuleType):
    int, float, bool = int, float, bool

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _resources() -> types.ModuleType:
    module = types.ModuleType("pkg_resources")
    module.resource_filename = lambda _, name: str(database_file().with_name(name))  # type: ignore
    return module
