"""Reads one image or mask file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_proseg.data.formats.nifti import read_nifti
from keras_proseg.data.formats.npz import read_arrays
from keras_proseg.data.formats.pixels import KINDS, Pixels, kind_of
from keras_proseg.errors import ProSegError, reason_of, require


def read_pixels(path: str | Path) -> Pixels:
    """Reads a file of a known kind.

    Raises:
        ProSegError: the file is missing, damaged, or holds no real numbers.
    """
    path, kind = Path(path), kind_of(path)
    require(path.is_file(), str(path), "an existing file", "none there")
    require(kind is not None, str(path), f"one of {', '.join(KINDS)}", path.suffix or "no suffix")
    assert kind is not None
    try:
        pixels = _READERS[kind](path)
    except ProSegError:
        raise
    except Exception as error:
        raise ProSegError(
            f"{path} must be a whole {kind} file. Received: {reason_of(error)}"
        ) from error
    array = pixels.array
    require(array.dtype.kind in "biuf", str(path), "of real numbers", f"dtype {array.dtype}")
    return pixels


def _read_npz(path: Path) -> Pixels:
    arrays = read_arrays(path, ("images", "spacing"))
    require("images" in arrays, str(path), "an npz with an array `images`", "none of that name")
    return Pixels(path, ".npz", arrays["images"], sides=_common_sides(arrays.get("spacing")))


def _common_sides(spacing: np.ndarray | None) -> tuple[float, float] | None:
    """Of all images of an npz, if they are alike and plausible."""
    if spacing is None or spacing.ndim != 2 or spacing.shape[1] != 2 or not len(spacing):
        return None
    height, width = spacing[0].tolist()
    good = 0 < height < np.inf and 0 < width < np.inf and (spacing == spacing[0]).all()
    return (float(height), float(width)) if good else None


def _read_npy(path: Path) -> Pixels:
    return Pixels(path, ".npy", np.load(path, allow_pickle=False))


def _read_png(path: Path) -> Pixels:
    from PIL import Image

    with path.open("rb") as handle:
        header = handle.read(26).ljust(26, b"\0")
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("another kind of file")
    depth, colour = header[24:]
    good = depth <= 8 or colour == 0  # else Pillow keeps the upper 8 bits without a word
    require(good, str(path), "of 8 bits, or of 16 and one channel", f"{depth} bits in colour")
    with Image.open(path, formats=["PNG"]) as picture:
        picture.verify()  # checksums, which decoding passes over
    with Image.open(path, formats=["PNG"]) as picture:
        coloured = picture.convert("RGB") if picture.mode == "P" else picture
        return Pixels(path, ".png", np.asarray(coloured))


_READERS: dict[str, Callable[[Path], Pixels]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".png": _read_png,
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
}
