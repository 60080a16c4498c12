"""One array as one image file, and names that any file may have."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np


def write_nifti(path: Path, values: np.ndarray, like: Any, flat: bool) -> None:
    """Writes (Z, H, W) as a NIfTI with axes (H, W, Z), or (H, W) where `flat`.

    Args:
        path: the new file.
        values: of one voxel each.
        like: has the geometry: `affine`, `codes` of sform and qform, `unit`.
        flat: leave out the third axis of a single slice.
    """
    import nibabel

    array = values[0] if flat and len(values) == 1 else np.moveaxis(values, 0, 2)
    affine, (sform, qform) = np.asarray(like.affine), like.codes
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, sform)
    # Where there is an sform it holds `affine`; the file's own qform may have been another.
    image.set_qform(affine, 0 if sform else qform)
    image.header.set_xyzt_units(like.unit)
    nibabel.save(image, path)


def write_png(path: Path, values: np.ndarray) -> None:
    """Writes (H, W) in [0, 1] as 8-bit grey."""
    from PIL import Image

    Image.fromarray(np.round(values * 255.0).astype(np.uint8)).save(path)


def plain_names(names: Sequence[str]) -> list[str]:
    """Raters' names as parts of files' names, each another: what is alike gets a number."""
    plain: list[str] = []
    for name in names:
        own = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        tried = (own if n == 1 else f"{own}-{n}" for n in count(1))
        plain.append(next(t for t in tried if t.lower() not in map(str.lower, plain)))
    return plain
