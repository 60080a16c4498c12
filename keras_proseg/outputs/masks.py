"""Predicted masks in the users' own files: in place, with the geometry of what they came from."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import Dataset, structure_names
from keras_proseg.data.places import Place, Volume
from keras_proseg.errors import require
from keras_proseg.files import atomic_folder, check_new_folder
from keras_proseg.outputs.writers import plain_names, write_nifti, write_png
from keras_proseg.progress import progress_bar

MOST_BYTES = 255  # of a name, on the file systems in use


def save_masks(model: Any, dataset: Dataset, out: str | Path) -> list[Path]:
    """Writes, for every case, the mask that each of the model's raters is predicted to draw.

    NIfTI and PNG cases get `CASE/mask-RATER.*` (of several structures `CASE/mask-RATER-NAME.*`)
    with the affine and the size of their image, a DICOM series one `CASE/masks.dcm` (DICOM-SEG,
    one segment per rater). Whatever else the cases came from, they are in `masks.npz`: `masks`
    (N, R, H, W, K) as the network saw them, `case_ids`, `rater_ids` and, of slices that files held,
    `shapes` (N, 2) there, `sizes` (N, 2) after resampling and `offsets` (N, 2) of the first pixel
    in that, negative in padding.

    Args:
        model: a `ProSeg`.
        dataset: the cases. Slices of a volume that it does not hold are empty in the file.
        out: a new or empty folder.

    Returns:
        The files written.
    """
    out = Path(out)
    check_new_folder(out, "--save-masks")
    volumes, rest = _by_volume(dataset)
    for volume in volumes:
        _check_name(volume.case_id)
    with atomic_folder(out) as folder:
        for volume in progress_bar(list(volumes), "Writing masks"):
            _write_volume(model, dataset, volume, volumes[volume], folder)
        if rest:
            _write_rest(model, dataset, np.array(rest), folder / "masks.npz")
        names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return [out / name for name in names]


def _by_volume(dataset: Dataset) -> tuple[dict[Volume, list[int]], list[int]]:
    volumes: dict[Volume, list[int]] = defaultdict(list)
    rest = []
    for row in range(len(dataset)):
        place = None if dataset.places is None else dataset.places[row]
        if place is not None and place.volume.kind in (".nii", ".nii.gz", ".png", "dicom"):
            volumes[place.volume].append(row)
        else:
            rest.append(row)
    return volumes, rest


def _check_name(case: str) -> None:
    """Raises unless a folder of that name can be made, in the folder of masks."""
    inside = not Path(case).is_absolute() and ".." not in Path(case).parts and "\0" not in case
    require(inside, "case", "a plain name", repr(case))
    longest = max(len(os.fsencode(part)) for part in Path(case).parts)
    require(longest <= MOST_BYTES, "case", f"a name of {MOST_BYTES} bytes at most", case)


def _write_volume(
    model: Any, dataset: Dataset, volume: Volume, rows: list[int], folder: Path
) -> None:
    masks = _restored(model, dataset, rows)
    case = folder / volume.case_id
    case.mkdir(parents=True, exist_ok=True)
    if volume.kind == "dicom":
        _write_dicom(_labels(model, dataset, ", "), volume, masks, case)
        return
    names = plain_names(_labels(model, dataset, "-"))
    for name, (r, k) in zip(names, np.ndindex(len(model.raters), dataset.num_classes), strict=True):
        file = case / f"mask-{name}{volume.kind}"
        whole = np.zeros(volume.shape, np.uint8)
        for index, mask in masks.items():
            whole[index] = mask[r, ..., k]
        if volume.kind == ".png":
            write_png(file, whole[0])
        else:
            write_nifti(file, whole, volume, volume.flat)


def _labels(model: Any, dataset: Dataset, joint: str) -> list[str]:
    """Of each rater's mask of each structure, one after the other."""
    if dataset.num_classes == 1:
        return list(model.raters)
    structures = structure_names(dataset.notes.get("structures"), dataset.num_classes)
    return [f"{rater}{joint}{name}" for rater in model.raters for name in structures]


def _restored(model: Any, dataset: Dataset, rows: list[int]) -> dict[int, np.ndarray]:
    """{slice of the file: masks (R, H, W, K) uint8}; several rows on a slice are united."""
    masks: dict[int, np.ndarray] = {}
    for row in rows:
        place: Place = dataset.places[row]  # type: ignore[index]
        means = model.rater_moments(np.asarray(dataset.images[row])[None])[0][0]
        planes = np.moveaxis(means, (0, 3), (2, 3))
        whole = np.stack([
            [place.restore(planes[:, :, r, k]) > 0.5 for k in range(planes.shape[3])]
            for r in range(planes.shape[2])
        ])  # fmt: skip
        mask = np.moveaxis(whole, 1, 3).astype(np.uint8)
        masks[place.index] = np.maximum(mask, masks.get(place.index, 0))
    return masks


def _write_dicom(
    labels: list[str], volume: Volume, masks: dict[int, np.ndarray], case: Path
) -> None:
    from keras_proseg.data.findings import Findings
    from keras_proseg.data.formats.dicom_series import datasets, read_series
    from keras_proseg.outputs.dicom_seg import write_segmentation

    series = read_series(volume.path, Findings(volume.path))
    require(series.shape == tuple(volume.shape), volume.path, f"{volume.shape}", series.shape)
    indices = sorted(masks)
    planes = np.stack([masks[index] for index in indices])  # (Z, R, H, W, K)
    segments = np.moveaxis(planes, 1, 3).reshape(*planes.shape[:1], *planes.shape[2:4], -1)
    source = datasets(series, indices)
    write_segmentation(case / "masks.dcm", source, segments, labels)


def _write_rest(model: Any, dataset: Dataset, rows: np.ndarray, path: Path) -> None:
    masks = [
        model.rater_moments(np.asarray(dataset.images[rows[k : k + 16]]))[0] > 0.5
        for k in range(0, len(rows), 16)
    ]
    np.savez_compressed(
        path,
        masks=np.concatenate(masks).astype(np.uint8),
        case_ids=dataset.case_ids[rows],
        rater_ids=np.array(model.raters),
        **_fitted(dataset, rows),
    )


def _fitted(dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
    if dataset.places is None:
        return {}
    places = dataset.places[rows]
    names = {"shapes": [place.volume.shape[1:] for place in places]}
    names |= {"sizes": [p.size for p in places], "offsets": [p.offset for p in places]}
    return {name: np.array(values) for name, values in names.items()}
