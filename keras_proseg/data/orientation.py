"""Whether volumes lie as they are cut and compared: slices along the third axis, all one way."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from keras_proseg.data.findings import Findings
from keras_proseg.data.records import Record


def check_orientation(records: Sequence[Record], findings: Findings) -> None:
    """Notes NIfTI volumes that seem to lie otherwise than others, or than they are cut.

    Args:
        records: of any source; those without an affine are pictures, whose rows run along y.
        findings: told of what is odd; only a person can say what is right.
    """
    nifti = [record for record in records if record.volume.affine is not None]
    if not nifti:
        return
    if len(nifti) < len(records):
        text = f"{len(nifti)} cases are NIfTI, {len(records) - len(nifti)} are not: the first axis"
        text += " of a NIfTI runs along x, that of a picture along y"
        findings.note(text, "turn the images of one kind, or use one kind")
    _check_cut(nifti, findings)
    _check_axes(nifti, findings)


def slice_axis(shape: Sequence[int]) -> int:
    """The axis of a volume of `shape` that seems to hold slices.

    That whose length differs from the other two, which are alike; of three lengths that of the
    shortest; of one the first.
    """
    first, second, third = shape
    if len({first, second, third}) == 3:
        return int(np.argmin(shape))
    return 2 if first == second != third else 1 if first == third != second else 0


def _check_cut(records: list[Record], findings: Findings) -> None:
    odd = []
    for record in records:
        depth, height, width = record.volume.shape
        if depth > 1 and len({depth, height, width}) > 1 and slice_axis((height, width, depth)) < 2:
            odd.append(record)
    if odd:
        depth, height, width = odd[0].volume.shape
        text = f"{len(odd)} volumes are cut along their third axis, which does not seem to hold the"
        text += f" slices: here, {depth} slices of {height}x{width}"
        findings.note(text, "bring the slices to the third axis if so", odd[0].volume.path)


def _check_axes(records: list[Record], findings: Findings) -> None:
    ways: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if any(record.volume.codes) and record.volume.shape[0] > 1:
            ways[_way(record)].append(record)
    if len(ways) > 1:
        counts = ", ".join(f"{len(own)} {way}" for way, own in ways.items())
        text = f"volumes lie in {len(ways)} ways (nibabel's axis codes): {counts}"
        findings.note(
            text, "bring all to one orientation", min(ways.values(), key=len)[0].volume.path
        )


def _way(record: Record) -> str:
    from nibabel.orientations import aff2axcodes

    return "".join(str(code) for code in aff2axcodes(np.array(record.volume.affine)))
