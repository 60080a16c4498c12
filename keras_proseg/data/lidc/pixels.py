"""Where the pixels of LIDC-IDRI come from: the user's DICOM files, or a simulation."""

from pathlib import Path

from keras_proseg.config import DataConfig
from keras_proseg.data.lidc.database import dicom_root, read_scans, scan_folder
from keras_proseg.errors import ProSegError


def choose_pixels(config: DataConfig) -> tuple[str, dict[str, str]]:
    """Settles what `images` of the config comes to.

    Args:
        config: `images` and `dicom` are read.

    Returns:
        `"ct"` and number, bytes and last change of the files by series found on disk; or
        `"phantom"`, nothing.

    Raises:
        ProSegError: `"ct"` is asked for, or a folder is named, and no scan is found there.
    """
    if config.images == "phantom":
        return "phantom", {}
    root = dicom_folder(config)
    found = {} if root is None else _series(root)
    if found:
        return "ct", found
    if config.images == "ct" or config.dicom is not None:
        where = root or "no folder (neither `dicom` nor [dicom] path in ~/.pylidcrc)"
        wanted = "<patient_id>/<study_uid>/<series_uid>/*.dcm of LIDC-IDRI scans"
        raise ProSegError(f"Real CT needs DICOM files: expected {wanted}. Received: {where}")
    return "phantom", {}


def dicom_folder(config: DataConfig) -> Path | None:
    """The DICOM folder in force, absolute, or None."""
    folder = dicom_root() if config.dicom is None else Path(config.dicom).expanduser()
    return None if folder is None else folder.resolve()


def _series(root: Path) -> dict[str, str]:
    """Number, bytes and last change of the files of every scan found, by series."""
    scans = read_scans() if root.is_dir() else []
    found = {}
    for scan in scans:
        files = [path.stat() for path in scan_folder(root, scan).glob("*.dcm")]
        if files:
            changed = max(file.st_mtime_ns for file in files)  # a slice of equal size, mended
            found[scan.series_uid] = f"{len(files)}-{sum(f.st_size for f in files)}-{changed}"
    return found
