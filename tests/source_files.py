"""The same few cases, written as every kind of source."""

import csv
import pickle

import h5py
import nibabel
import numpy as np
from PIL import Image
from tiny_data import tiny_arrays

RATERS = ("ann", "bob", "cy")
AFFINE = np.array([[0, -0.7, 0, 30], [0.6, 0, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])


def cases(count=6):
    """{case: (image (H, W), {rater: mask (H, W)})}; bob has none of case1."""
    arrays = tiny_arrays(count)
    found = {}
    for case in range(count):
        masks = dict(zip(RATERS, arrays["masks"][case], strict=True))
        if case == 1:
            del masks["bob"]
        found[f"case{case}"] = (np.round(arrays["images"][case, ..., 0]) + 50, masks)
    return found


def write_png(root, content):
    for case, (image, masks) in content.items():
        (root / case).mkdir(parents=True)
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / case / "image.png")
        for rater, mask in masks.items():
            Image.fromarray(mask * 255).save(root / case / f"mask-{rater}.png")
    return root


def save_nifti(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def write_nifti(root, content):
    for case, (image, masks) in content.items():
        save_nifti(root / case / "image.nii.gz", image)
        for rater, mask in masks.items():
            save_nifti(root / case / f"mask-{rater}.nii.gz", mask)
    return root


def write_qubiq(root, content, structures=1):
    for number, (image, masks) in enumerate(content.values()):
        folder = root / ("Validation" if number % 3 == 2 else "Training") / f"case{number:02d}"
        save_nifti(folder / "image.nii.gz", image)
        for rater, mask in enumerate(masks.values(), 1):
            for task in range(1, structures + 1):
                save_nifti(folder / f"task{task:02d}_seg{rater:02d}.nii.gz", mask)
    return root


def write_manifest(root, content, volume=1):
    """A manifest of NIfTI files in folders by kind; two cases to a patient."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (case, (image, masks)) in enumerate(content.items()):
        save_nifti(root / "images" / f"{case}.nii.gz", _deep(image, volume))
        for rater, mask in masks.items():
            save_nifti(root / rater / f"{case}.nii.gz", _deep(mask, volume))
            names = (f"images/{case}.nii.gz", rater, f"{rater}/{case}.nii.gz")
            lines.append((case, f"p{number // 2}", *names))
    path = root / "manifest.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows([("case", "patient", "image", "rater", "mask"), *lines])
    return path


def _deep(array, count):
    """(H, W), or a volume (H, W, Z) whose slices differ."""
    if count == 1:
        return array
    return np.stack([np.roll(array, k, axis=0) for k in range(count)], axis=2)


def write_hdf5(root, content):
    for number, (image, masks) in enumerate(content.values()):
        folder = root / ("training_2d", "validation", "testing")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / f"Sample_{number}_slice_7.h5", "w") as file:
            for name in ("t1", "t1c", "t2"):
                file[name] = image
            for rater, mask in enumerate(masks.values(), 1):
                file[f"label_a{rater}"] = mask
    return root


def write_pickle(path, content):
    items = {
        case: {
            "image": image / 255,
            "masks": [mask.astype(float) for mask in masks.values()],
            "series_uid": f"1.2.{number // 2}",
        }
        for number, (case, (image, masks)) in enumerate(content.items())
    }
    path.write_bytes(pickle.dumps(items))
    return path
