"""DICOM series written for the tests, with voxels that are known."""

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset

INTERCEPT = -1024


def write_slice(path, pixels, position, number, study="1.2.3", series="1.2.3.4", **fields):
    """One CT slice: `pixels` are stored values, `position` the patient's x, y, z in mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{sum(map(ord, series))}.{number}"
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.SOPClassUID = meta.MediaStorageSOPClassUID
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.FrameOfReferenceUID = "1.2.3.5"
    image.PatientID, image.PatientName, image.PatientBirthDate = "P1", "One", "19700101"
    image.PatientSex, image.StudyID, image.AccessionNumber = "O", "1", "1"
    image.StudyDate, image.StudyTime, image.ReferringPhysicianName = "20000101", "000000", ""
    image.Modality, image.SeriesNumber, image.SliceThickness = "CT", 1, 2.5
    image.ImagePositionPatient, image.InstanceNumber = list(position), number
    image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.6, 0.7]
    image.RescaleSlope, image.RescaleIntercept = 1, INTERCEPT
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = pixels.astype("<u2").tobytes()
    for name, value in fields.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    image.save_as(path, enforce_file_format=True)


def write_series(folder, units, first=-40.0, step=2.5):
    """A series (Z, H, W) of HU whose files' names and numbers run against their positions."""
    for index, pixels in enumerate(units):
        position = (-100.0, -90.0, first + step * index)
        number = len(units) - index
        write_slice(folder / f"{(index * 37) % 101:03d}.dcm", pixels - INTERCEPT, position, number)
    return folder


def write_scan_slice(path, scan, index, pixels):
    """A slice of one of LIDC's scans, stored values; the highest slice has number 0."""
    z = round(float(scan.zvals[index]), 6)
    write_slice(
        path, np.asarray(pixels), (0, 0, z), len(scan.zvals) - index, scan.study_uid,
        scan.series_uid, PixelSpacing=[scan.spacing] * 2, SliceThickness=scan.thickness,
    )  # fmt: skip
