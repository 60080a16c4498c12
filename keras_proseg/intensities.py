"""Whether an image's intensities are like those of a run's training: another unit is told.

Of an image count its 1 % and 99 % quantiles, `low` and `high`, as far as the network sees them (a
window clips them), and `contrast`, the step between them. config.json has the range of each over
the training images, without the oddest 1 % at either end. An image is unlike these if, with W from
the least `low` to the greatest `high`,

- its `low` is below all by more than W / 2 (but under a window, whose floor is air in any image),
  or above all by more than W / 2 (a CT without its negative values), or its `high` is above all by
  more than W / 2; or
- its `contrast` is above 0 and below a tenth of the least.

Of several slices the median `low` and `high` count, for the first and the last may be empty, and
nearly the greatest contrast, as most may be. Channels count together.
"""

import warnings
from typing import Any

import numpy as np

from keras_proseg.config import IntensityConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.split import split_rows
from keras_proseg.errors import ProSegError
from keras_proseg.runs import Run

ENDS = (0.01, 0.99)
MOST_IMAGES = 500  # looked at, evenly spaced
BEYOND = 0.5
FLAT = 0.1
RICH = 0.9  # quantile of the slices' contrasts


def intensities_of(dataset: Dataset, scaling: IntensityConfig) -> dict[str, list[float]]:
    """What config.json says of the training images.

    Args:
        dataset: the cases and their split.
        scaling: how the network sees them.

    Returns:
        [least, greatest] `low`, `high` and `contrast`.
    """
    ends = _ends(dataset.images, split_rows(dataset, "train"))
    low, high = _seen(ends, scaling).T
    values = {"low": low, "high": high, "contrast": high - low}
    return {name: np.quantile(value, ENDS).tolist() for name, value in values.items()}


def warn_of_other_intensities(run: Run, images: Any, name: Any) -> None:
    """Warns where images are unlike those that `run` was trained on; silent if it does not say.

    Args:
        run: the run.
        images: N arrays of raw intensities.
        name: of their file.

    Raises:
        ProSegError: config.json was changed into something else.
    """
    if (known := run.section("data").get("intensities")) is None:
        return
    (least, brightest_low), (_, most), (least_contrast, _) = _ranges(run, known)
    scaling, ends = run.model_config().intensity, _ends(images, np.arange(len(images)))
    contrast = np.quantile(np.diff(_seen(ends, scaling)), RICH)
    ends = np.median(ends, axis=0)
    low, high = _seen(ends, scaling)
    margin = BEYOND * (most - least)
    too_low = low < least - margin and scaling.mode != "window"
    too_high = low > brightest_low + margin or high > most + margin
    if too_low or too_high or 0 < contrast < FLAT * least_contrast:
        text = f"{name}: intensities of {ends[0]:.4g} to {ends[1]:.4g} are far from the training's"
        text += f", {least:.4g} to {most:.4g} -> bring the image to the same unit and window"
        warnings.warn(text, stacklevel=3)


def _ranges(run: Run, known: Any) -> list[tuple[float, float]]:
    """Of `low`, `high` and `contrast`."""
    try:
        pairs = [known[name] for name in ("low", "high", "contrast")]
        return [(float(least), float(greatest)) for least, greatest in pairs]
    except (LookupError, TypeError, ValueError) as error:
        text = f"{run.config_file} must hold intensities as ranges. Received: {known!r}"
        raise ProSegError(text) from error


def _ends(images: Any, rows: np.ndarray) -> np.ndarray:
    """(n, 2), of the images in `rows`."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, MOST_IMAGES).astype(int))]
    return np.array([np.quantile(np.asarray(images[k], np.float32), ENDS) for k in chosen.tolist()])


def _seen(ends: np.ndarray, scaling: IntensityConfig) -> np.ndarray:
    if scaling.mode != "window":
        return ends
    half = scaling.width / 2
    return np.clip(ends, scaling.center - half, scaling.center + half)
