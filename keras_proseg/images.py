"""One image file in, masks and probabilities of the same kind out."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.data.volumes import KINDS, kind_of, read_pixels
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.files import atomic_folder
from keras_proseg.pretrained import load


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
    read_image(image)  # a bad image is refused before the seconds that a model takes
    model = load(run)
    images, kind, affine = read_image(image, model.settings.image_channels)
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


def read_image(path: str | Path, channels: int | None = None) -> tuple[np.ndarray, str, Any]:
    """Reads an image file as (N, H, W, C), its kind and, for NIfTI, its affine.

    Args:
        path: the file.
        channels: that the image must have; a third axis of a NIfTI of this length holds them.

    Raises:
        UsageError: no such file or an unknown kind.
        ProSegError: the file is damaged or of a wrong shape.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"IMAGE must be an existing file. Received: {path}")
    if kind_of(path) is None:
        raise UsageError(f"IMAGE must end in one of {', '.join(KINDS)}. Received: {path.name}")
    pixels = read_pixels(path)
    return pixels.slices(channels), pixels.kind, pixels.affine


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
