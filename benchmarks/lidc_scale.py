"""All 1,018 scans of LIDC-IDRI through `data prepare`, in the shape of the TCIA download.

python benchmarks/lidc_scale.py FOLDER [--workers 2] [--kill-after 60]

The series have the real identifiers, positions and spacing, and 512x512 pixels of zero whose
intercept tells the slice, in sparse files: 125 GB to read that take 1 GB of disk. The preparation
is killed once and run again; then every voxel is compared.
"""

import argparse
import io
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset

from keras_proseg.data.lidc.database import Scan, read_scans, scan_folder
from keras_proseg.data.prepared import load_prepared

UID, NUMBER, Z, INTERCEPT = "1.2.826.0.1.900000.900000", "700007", "-90000.90093", "-70007"
PIXELS = 512 * 512 * 2


def main() -> None:
    """Writes the files, prepares them twice, checks, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", default="2")
    parser.add_argument("--kill-after", type=float, default=60)
    options = parser.parse_args()
    count = sum(write_scan(options.folder / "dicom", n, s) for n, s in enumerate(read_scans()))
    print(f"{count} files")
    out = options.folder / "prepared"
    os.environ["KERAS_PROSEG_CACHE"] = str(options.folder / "cache")
    command = [
        sys.executable, "-m", "keras_proseg_cli.main", "data", "prepare", "lidc", "--min-raters",
        "1", "--dicom", options.folder / "dicom", "--workers", options.workers, "--out", out,
    ]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    time.sleep(options.kill_after)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    print(f"killed; {len(list(options.folder.glob('cache/*.parts/*.npz')))} scans are kept")
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"run again: {seconds:.0f} s; the largest process had {peak:.0f} MB")
    print(f"cases with a wrong voxel: {wrong_cases(out)}")


def write_scan(root: Path, number: int, scan: Scan) -> int:
    """Writes a series whose HU are its slices' index % 1000 - 1000."""
    folder = scan_folder(root, scan)
    folder.mkdir(parents=True, exist_ok=True)
    head = header(scan)
    for index, z in enumerate(scan.zvals):
        own = head
        for mark, value in (
            (UID, f"1.2.826.0.1.{100000 + number}.{100000 + index}"),
            (Z, f"{z:12.4f}"),
            (NUMBER, f"{index + 1:6d}"),
            (INTERCEPT, f"{index % 1000 - 1000:6d}"),
        ):
            own = own.replace(mark.encode(), value.encode())
        with (folder / f"{(index * 37) % 997:03d}-{index:03d}.dcm").open("wb") as file:
            file.write(own)
            file.truncate(len(own) + PIXELS)
    return len(scan.zvals)


def header(scan: Scan) -> bytes:
    """A slice's file up to its pixels, with marks of fixed length to be replaced."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID, meta.MediaStorageSOPClassUID = UID, pydicom.uid.CTImageStorage
    image = FileDataset("slice", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPInstanceUID, image.SOPClassUID, image.Modality = UID, pydicom.uid.CTImageStorage, "CT"
    image.PatientID, image.FrameOfReferenceUID = scan.patient, "1.2.3"
    image.StudyInstanceUID, image.SeriesInstanceUID = scan.study_uid, scan.series_uid
    image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], [scan.spacing] * 2
    image.SliceThickness, image.InstanceNumber = scan.thickness, NUMBER
    image.ImagePositionPatient = ["-150", "-150", Z]
    image.RescaleSlope, image.RescaleIntercept = 1, INTERCEPT
    image.Rows = image.Columns = 512
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 1
    image.PixelData = bytes(PIXELS)
    image.save_as(stream := io.BytesIO(), enforce_file_format=True)
    return stream.getvalue()[:-PIXELS]


def wrong_cases(path: Path) -> str:
    """How many cases hold a voxel other than their slice's number tells."""
    dataset, wrong = load_prepared([path]), 0
    for start in range(0, len(dataset), 512):
        images = np.asarray(dataset.images[start : start + 512])
        index = [int(c.rpartition("z")[2]) for c in dataset.case_ids[start : start + 512]]
        expected = np.array(index) % 1000 - 1000
        wrong += int((images != expected[:, None, None, None]).any(axis=(1, 2, 3)).sum())
    return f"{wrong} of {len(dataset)}"


if __name__ == "__main__":
    main()
