"""Samples of one image on disk: in the kind of the image, one file or segment per sample."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_proseg.data.dataset import structure_names
from keras_proseg.data.formats.dicom_series import Series, datasets
from keras_proseg.data.formats.image_file import DICOM, ImageFile
from keras_proseg.outputs.writers import plain_names, write_nifti, write_png


def stored(path: Path, slices: Iterable[np.ndarray], num: int) -> np.ndarray:
    """Writes `num` arrays of one shape as one .npy; gives them back, read as they are needed."""
    with path.open("wb") as file:
        for k, part in enumerate(slices):
            if k == 0:
                shape, kind = (num, *part.shape), np.lib.format.dtype_to_descr(part.dtype)
                header = {"descr": kind, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(part).data)
    return np.load(path, mmap_mode="r")


def write_kind(
    folder: Path, name: str, values: np.ndarray, source: ImageFile, labels: list[str]
) -> None:
    """Writes (N, S, H, W, K) values, so far in `name`.npy, in the input's kind (npz of DICOM)."""
    if source.kind == ".npy":
        return
    if source.kind in (".npz", DICOM):
        np.savez_compressed(folder / f"{name}.npz", **{name: values})  # type: ignore[arg-type]
    else:
        for label, (s, k) in zip(plain_names(labels), np.ndindex(*values.shape[1::3]), strict=True):
            file = folder / f"{name}_{label}{source.kind}"
            if source.kind == ".png":
                write_png(file, values[0, s, :, :, k])
            else:
                write_nifti(file, values[:, s, :, :, k], source.pixels, source.flat)
    (folder / f"{name}.npy").unlink()


def write_dicom(
    folder: Path, series: Series, masks: np.ndarray, rater: str | None, labels: list[str]
) -> None:
    """Writes masks (N, S, H, W, K) of a series, so far in masks.npy, as one DICOM-SEG."""
    from keras_proseg.outputs.dicom_seg import write_segmentation

    who = "" if rater is None else f"rater {rater}, "
    segments = np.moveaxis(masks, 1, 3).reshape(len(masks), *masks.shape[2:4], -1)
    source = datasets(series, range(len(masks)))
    write_segmentation(folder / "masks.dcm", source, segments, [who + label for label in labels])
    (folder / "masks.npy").unlink()


def sample_labels(values: np.ndarray, structures: list[str] | None) -> list[str]:
    """Of each sample of each structure of (N, S, H, W, K), one after the other."""
    samples = [f"sample{s + 1:03d}" for s in range(values.shape[1])]
    if values.shape[4] == 1:
        return samples
    names = structure_names(structures, values.shape[4])
    return [f"{sample}_{name}" for sample in samples for name in names]
