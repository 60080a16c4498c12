"""One image file in, masks and probabilities of the same kind out."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.dataset import require
from keras_proseg.data.npz import read_arrays
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.files import atomic_folder
from keras_proseg.pretrained import load

KINDS = (".npz", ".npy", ".png", ".nii", ".nii.gz")


def sample_file(
    run: str | Path,
    image: str | Path,
    out: str | Path,
    rater: int | str | None = None,
    num_samples: int = 16,
    seed: int = 0,
) -> list[Path]:
    """Samples segmentations of an image file.

    Args:
        run: a run directory.
        image: .npz (`images`), .npy (H, W), (H, W, C) or (N, H, W, C), .png, or .nii(.gz) whose
            third axis is slices.
        out: a new or empty folder for masks, probabilities and samples.png.
        rater: name or index; None draws raters too.
        num_samples: S.
        seed: of the samples.

    Returns:
        The files written: masks (0/1) and probabilities (N, S, H, W, K) and the picture.

    Raises:
        UsageError: no such file, an unknown kind, a used `out`.
        ProSegError: the file is damaged or does not fit the run.
    """
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"`--out` must be a new or empty folder. Received: {out}")
    images, kind, affine = read_image(image)
    model = load(run)
    try:
        probabilities = model.sample(images, rater, num_samples, seed)
    except ProSegError as error:
        raise type(error)(f"{image}: {error}") from error
    with atomic_folder(out) as folder:
        _write(folder, "probabilities", probabilities, kind, affine)
        _write(folder, "masks", (probabilities > 0.5).astype(np.uint8), kind, affine)
        _picture(model, images, folder / "samples.png")
        names = sorted(path.name for path in folder.iterdir())
    return [out / name for name in names]


def read_image(path: str | Path) -> tuple[np.ndarray, str, Any]:
    """Reads an image file as (N, H, W, C), its kind and, for NIfTI, its affine.

    Raises:
        UsageError: no such file or an unknown kind.
        ProSegError: the file is damaged or of a wrong shape.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"IMAGE must be an existing file. Received: {path}")
    kind = next((k for k in KINDS if path.name.lower().endswith(k)), None)
    if kind is None:
        raise UsageError(f"IMAGE must end in one of {', '.join(KINDS)}. Received: {path.name}")
    try:
        array, affine = _READERS[kind](path)
    except ProSegError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ProSegError(f"{path} must be a whole {kind} file. Received: {reason}") from error
    array = array[..., None] if array.ndim == 2 else array
    array = array[None] if array.ndim == 3 else array
    require(array.ndim == 4, str(path), "(H, W), (H, W, C) or (N, H, W, C)", array.shape)
    return array, kind, affine


def _read_npz(path: Path) -> tuple[np.ndarray, Any]:
    arrays = read_arrays(path, ("images",))
    require("images" in arrays, str(path), "an npz with an array `images`", "none of that name")
    return arrays["images"], None


def _read_npy(path: Path) -> tuple[np.ndarray, Any]:
    return np.load(path, allow_pickle=False), None


def _read_png(path: Path) -> tuple[np.ndarray, Any]:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture), None


def _read_nifti(path: Path) -> tuple[np.ndarray, Any]:
    import nibabel

    volume = nibabel.load(path)
    array = np.asarray(volume.dataobj)
    require(array.ndim in (2, 3), str(path), "a 2-D or 3-D NIfTI", f"shape {array.shape}")
    slices = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
    return slices[..., None], volume.affine


_READERS = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".png": _read_png,
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
}


def _write(folder: Path, name: str, values: np.ndarray, kind: str, affine: Any) -> None:
    """Writes (N, S, H, W, K) values in the input's kind."""
    if kind == ".npz":
        np.savez_compressed(folder / f"{name}.npz", **{name: values})  # type: ignore[arg-type]
    elif kind == ".npy":
        np.save(folder / f"{name}.npy", values)
    elif kind == ".png":
        _write_pngs(folder, name, values)
    else:
        _write_niftis(folder, name, values, kind, affine)


def _write_pngs(folder: Path, name: str, values: np.ndarray) -> None:
    from PIL import Image

    for where in np.ndindex(values.shape[1], values.shape[4]):
        pixels = np.round(values[0, where[0], :, :, where[1]] * 255.0).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}_{_label(where, values)}.png")


def _write_niftis(folder: Path, name: str, values: np.ndarray, kind: str, affine: Any) -> None:
    import nibabel

    for where in np.ndindex(values.shape[1], values.shape[4]):
        volume = np.moveaxis(values[:, where[0], :, :, where[1]], 0, 2)
        file = folder / f"{name}_{_label(where, values)}{kind}"
        nibabel.save(nibabel.Nifti1Image(volume, affine), file)


def _label(where: tuple[int, ...], values: np.ndarray) -> str:
    label = f"sample{where[0] + 1:03d}"
    return label if values.shape[4] == 1 else f"{label}_class{where[1] + 1}"


def _picture(model: Any, images: np.ndarray, path: Path) -> None:
    from keras_proseg.plotting import draw_grid, image_cells

    chosen = np.unique(np.linspace(0, len(images) - 1, min(4, len(images))).astype(int))
    draw_grid([image_cells(model, images[k]) for k in chosen], path, "")
