"""What a mask's file must be to lie on its image: size, values, place in space."""

import numpy as np

from keras_proseg.data.findings import Findings
from keras_proseg.data.formats.pixels import Pixels

WHOLE = "replace the file by a whole one, or leave the case out"
AFFINE_MM = 0.1  # corners of image and mask may lie so far apart


def read_mask(
    mask: Pixels, image: Pixels, values: np.ndarray, findings: Findings
) -> np.ndarray | None:
    """A mask (Z, H, W) uint8, or None with a finding.

    Args:
        mask: what was read of its file.
        image: of the image's first file, whose grid the mask must be on.
        values: the image (Z, H, W, C).
        findings: told of what is wrong.
    """
    array = mask.array
    if mask.kind == ".png" and array.ndim == 3:
        grey = bool((array[..., :3] == array[..., :1]).all())
        text = f"a mask with {array.shape[2]} channels" + (", all equal" if grey else "")
        findings.add(text, "save the mask as 8-bit grey, 0 and 255", mask.path)
        return None
    slices = findings.attempt(WHOLE, mask.slices, file=mask.path)
    if slices is None:
        return None
    if slices.shape[:3] != values.shape[:3] or slices.shape[3] != 1:
        text = f"size (slices, H, W) {slices.shape[:3]} where the image has {values.shape[:3]}"
        text += f", and {slices.shape[3]} channels" if slices.shape[3] != 1 else ""
        findings.add(text, f"draw or resample the mask on the grid of {image.path}", mask.path)
        return None
    check_affine(mask, image, values.shape, findings)
    found = np.unique(slices)
    highest = 255 if mask.kind == ".png" and 255 in found else 1
    if not np.isin(found, (0, highest)).all():
        shown = ", ".join(f"{value:.9g}" for value in found[:5])
        shown += ", ..." if len(found) > 5 else ""
        remedy = "make the mask 0/1, or one file (manifest column `structure`) per label"
        findings.add(f"values [{shown}] where 0/1 must be", remedy, mask.path)
        return None
    return (slices[..., 0] == highest).astype(np.uint8)


def check_affine(pixels: Pixels, image: Pixels, shape: tuple[int, ...], findings: Findings) -> None:
    """Compares where two files put the corners of their grid."""
    mine, its = pixels.in_mm, image.in_mm
    if (mine is None) != (its is None):  # NIfTI's first axis runs along x, a picture's along y
        text = f"a {pixels.kind} beside a {image.kind}, whose axes may be meant otherwise"
        findings.note(text, "check one case by eye", pixels.path)
    if mine is None or its is None:
        return
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in (shape[1], shape[2], shape[0])]))
    points = np.vstack([corners.reshape(3, -1), np.ones(8)])
    away = float(np.abs((mine - its)[:3] @ points).max())
    if not pixels.placed or not image.placed:
        if pixels.placed != image.placed:
            text = "it or its image has no position in space (sform and qform are 0)"
            findings.note(text, "only sizes could be compared; check one case by eye", pixels.path)
        return
    if away > AFFINE_MM:
        spacings = " / ".join(_voxel(affine) for affine in (mine, its))
        text = f"its affine puts a corner {away:.2f} mm from the image's (spacing {spacings} mm)"
        remedy = f"resample it to the grid of {image.path}, or mend its affine"
        findings.add(text, remedy, pixels.path)


def _voxel(affine: np.ndarray) -> str:
    return " x ".join(f"{side:.4g}" for side in np.linalg.norm(affine[:3, :3], axis=0))
