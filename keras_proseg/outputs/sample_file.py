"""One image file or DICOM series in, masks and probabilities of the same kind out.

What is drawn goes to disk slice by slice, so that a whole CT needs the memory of a few slices; but
a DICOM-SEG is made of all masks at once.
"""

import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_proseg.config import NUM_SAMPLES, DataConfig
from keras_proseg.data.dataset import structure_names
from keras_proseg.data.fit import scaled_size
from keras_proseg.data.formats.dicom_series import datasets
from keras_proseg.data.formats.image_file import ImageFile, read_image
from keras_proseg.data.places import resize
from keras_proseg.errors import ProSegError, require
from keras_proseg.files import atomic_folder, check_new_folder
from keras_proseg.intensities import warn_of_other_intensities
from keras_proseg.memory import images_at_once
from keras_proseg.outputs.sample_writing import sample_labels, stored, write_dicom, write_kind
from keras_proseg.pretrained import find_run
from keras_proseg.progress import progress_bar
from keras_proseg.run_data import names_of
from keras_proseg.runs import Run


def sample_file(
    run: str | Path,
    image: str | Path,
    out: str | Path | None = None,
    rater: int | str | None = None,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> list[Path]:
    """Samples segmentations of an image file, seen at the scale that the run was trained at.

    Args:
        run: a run directory.
        image: .npz (`images`), .npy (H, W), (H, W, C) or (N, H, W, C), .png, .nii(.gz) whose
            third axis is slices, a .dcm file or a folder that holds a series of them.
        out: a new or empty folder for masks, probabilities and samples.png; by default
            `samples/<date>-<image>`.
        rater: name or index; None draws raters too.
        num_samples: S.
        seed: of the samples.

    Returns:
        The files written: masks (0/1) and probabilities (N, S, H, W, K) and the picture; of DICOM
        masks.dcm, a DICOM-SEG with one segment per sample.

    Raises:
        UsageError: no such file, an unknown kind, a used `out`.
        ProSegError: the file is damaged or does not fit the run.
    """
    out = Path(out) if out else _dated(image)
    check_new_folder(out, "--out")
    found = find_run(run)
    source = _read(image, found)
    model = found.load_model("best")
    who = None if rater is None else model.raters[model.rater_index(rater)]
    for note in source.notes:
        warnings.warn(str(note), stacklevel=2)
    warn_of_other_intensities(found, source.images, image)
    images = _scaled(source, found.train_config(), image)
    with atomic_folder(out) as folder:
        drawn = _drawn(model, images, source.images.shape[1:3], rater, num_samples, seed)
        try:
            probabilities = stored(folder / "probabilities.npy", drawn, len(images))
        except ProSegError as error:
            raise type(error)(f"{image}: {error}") from error
        binary = ((p > 0.5).astype(np.uint8) for p in probabilities)
        masks = stored(folder / "masks.npy", binary, len(images))
        labels = sample_labels(probabilities, names_of(found).get("structures"))
        _picture(model, images, probabilities, who, found, folder / "samples.png")
        write_kind(folder, "probabilities", probabilities, source, labels)
        if source.series is None:
            write_kind(folder, "masks", masks, source, labels)
        else:
            write_dicom(folder, source.series, masks, who, labels)
        names = sorted(path.name for path in folder.iterdir())
    return [out / name for name in names]


def _read(image: str | Path, run: Run) -> ImageFile:
    """The image, refused if it has other channels, or its samples could not be written."""
    channels = run.model_config().image_channels
    source = read_image(image, channels)
    names = names_of(run).get("channels")
    wanted = f"of {channels} channel(s){': ' + ', '.join(names) if names else ''}"
    require(source.images.shape[-1] == channels, str(image), wanted, source.images.shape[-1])
    if source.series is not None:
        from keras_proseg.outputs.dicom_seg import check_segmentable

        check_segmentable(datasets(source.series, range(len(source.images))))
    return source


def _dated(image: str | Path) -> Path:
    name = Path(image).resolve().name.split(".")[0]
    return Path("samples") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"


def _scaled(source: ImageFile, config: DataConfig, path: str | Path) -> np.ndarray:
    """The images at the scale of the run's training."""
    if config.spacing is not None and source.spacing is None:
        text = f"{path}: no pixel spacing of all is known"
        text += f", but the run was trained at {config.spacing} mm"
        warnings.warn(f"{text} -> use a file that states it", stacklevel=3)
    own = source.images.shape[1:3]
    try:
        size = scaled_size(own, source.spacing, config)
    except ProSegError as error:
        raise ProSegError(f"{path}: {error}") from error
    return _resized(source.images, size, 1)


def _drawn(
    model: Any, images: np.ndarray, size: tuple[int, ...], rater: Any, num_samples: int, seed: int
) -> Iterator[np.ndarray]:
    """Probabilities (S, H, W, K) of one slice after the other, in H and W of `size`."""
    height, width = max(size, images.shape[1:3], key=math.prod)
    step = images_at_once(num_samples, height, width, model.settings.num_classes)
    for k in progress_bar(range(0, len(images), step), "Sampling"):
        yield from _resized(model.sample(images[k : k + step], rater, num_samples, seed), size, 2)


def _resized(values: np.ndarray, size: tuple[int, ...], axis: int) -> np.ndarray:
    """Resamples the two axes from `axis` on, height and width."""
    ahead = np.moveaxis(values, (axis, axis + 1), (0, 1))
    return np.moveaxis(resize(ahead, size), (0, 1), (axis, axis + 1))


def _picture(
    model: Any, images: np.ndarray, drawn: np.ndarray, rater: str | None, run: Run, path: Path
) -> None:
    """Of some slices of `images` (N, H, W, C) what was `drawn` (N, S, h, w, K)."""
    from keras_proseg.plotting import draw_grid, image_cells

    names = structure_names(names_of(run).get("structures"), drawn.shape[4])
    rows = []
    for k in np.unique(np.linspace(0, len(images) - 1, min(4, len(images))).astype(int)):
        samples = _resized(drawn[k], images.shape[1:3], 1)
        rows += image_cells(model, images[k], names, samples, rater)
    draw_grid(rows, path, "", model.raters)
