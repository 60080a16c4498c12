"""DICOM-SEG: masks that a viewer lays over the series they were predicted from."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from keras_proseg import __version__
from keras_proseg.errors import ProSegError, reason_of
from keras_proseg.extras import import_extra
from keras_proseg.names import short_names

ALGORITHM = "ProSeg (keras_proseg)"
DESCRIPTION = "ProSeg"
TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT", "SQ")  # kinds of elements that hold letters
MOST_CHARACTERS = 64  # of a label
SERIES_NUMBER = 900  # beyond what scanners count to
MAY_BE_EMPTY = (  # of type 2: an empty value says that it is not known
    "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "StudyDate",
    "StudyTime",
)  # fmt: skip


def write_segmentation(path: Path, source: list[Any], masks: np.ndarray, labels: list[str]) -> None:
    """Writes one DICOM-SEG object with one segment per label.

    Args:
        path: the new file.
        source: the Z slices' pydicom datasets; what the standard lets them leave out is added.
        masks: (Z, H, W, L) 0/1, in the order of `source`.
        labels: L names, such as raters.

    Raises:
        UsageError: highdicom is not installed.
        ProSegError: the series lacks what a segmentation needs.
    """
    highdicom = import_extra("highdicom", "DICOM-SEG", "data")
    with _one_line(source, path):
        _complete(source)
        _segmentation(highdicom, source, masks, labels).save_as(path)


@contextmanager
def _one_line(source: list[Any], path: Path) -> Iterator[None]:
    """What a header lacks or garbles shows in many ways."""
    try:
        yield
    except Exception as error:
        where = Path(getattr(source[0], "filename", None) or path).parent
        text = f"{where} must have whole headers of one series, for a DICOM-SEG."
        lacking = isinstance(error, AttributeError) and error.name
        reason = f"no {lacking}" if lacking else reason_of(error)
        raise ProSegError(f"{text} Received: {reason}") from error


def _complete(source: list[Any]) -> None:
    """Adds what may be left out of an image, but not of a segmentation of it.

    Texts become UTF-8, which holds any rater's name, and in which none are refused.
    """
    for image, name in product(source, MAY_BE_EMPTY):
        image.setdefault(name, None)
    for image in source:
        _to_utf8(image)
        image.pop("SpacingBetweenSlices", None)  # a header may contradict the positions
    if len(source) > 1 and any(image.get("SliceThickness") is None for image in source):
        apart = np.diff([np.array(image.ImagePositionPatient, float) for image in source], axis=0)
        for image in source:
            image.SliceThickness = round(float(np.median(np.linalg.norm(apart, axis=1))), 6)


def _to_utf8(image: Any) -> None:
    from pydicom.charset import decode_element
    from pydicom.datadict import dictionary_VR

    letters = image.get("SpecificCharacterSet") or "ISO_IR 6"
    for tag in list(image.keys()):
        with suppress(Exception):  # garbled, and perhaps of no concern
            if (image.get_item(tag).VR or dictionary_VR(tag)) in TEXTS:
                decode_element(image[tag], letters)
    image.SpecificCharacterSet = "ISO_IR 192"


def check_segmentable(source: list[Any]) -> None:
    """Raises as `write_segmentation` would for masks of these slices.

    Args:
        source: their pydicom datasets.
    """
    from highdicom.seg import segread

    shape = (len(source), source[0].Rows, source[0].Columns, 1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "masks.dcm"
        write_segmentation(path, source, np.zeros(shape, np.uint8), ["none"])
        with _one_line(source, path):
            segread(path)


def _segmentation(highdicom: Any, source: list[Any], masks: np.ndarray, labels: list[str]) -> Any:
    segments = [_segment(n, label) for n, label in enumerate(short_labels(labels), 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of how the patient's name is written
        return highdicom.seg.Segmentation(
            source_images=source,
            pixel_array=masks.astype(np.uint8, copy=False),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="keras_proseg",
            manufacturer_model_name=ALGORITHM,
            software_versions=__version__,
            device_serial_number="0",
            series_description=DESCRIPTION,
            omit_empty_frames=bool(masks.any()),  # highdicom warns where all are
        )


def short_labels(labels: Sequence[str]) -> list[str]:
    """Labels as a segment may have them: short, without a backslash, each another."""
    return short_names([label.replace("\\", "/") for label in labels], MOST_CHARACTERS)


def _segment(number: int, label: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.Tissue,  # what it is, the raters know
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=ALGORITHM, family=codes.cid7162.ArtificialIntelligence, version=__version__
        ),
    )
