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

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_proseg.config import IntensityConfig
from keras_proseg.data.dataset import Dataset
from keras_proseg.data.split import split_rows
from keras_proseg.errors import ProSegError
from keras_proseg.runs import Run

ENDS = (0.01, 0.99)
MOST_IMAGES = 500  # looked at, evenly spaced
MOST_PIXELS = 2**15  # of an image, or a quantile takes a tenth of the samples' time
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


@dataclass(frozen=True)
class KnownIntensities:
    """What a training's images were like.

    Args:
        low: the least and the greatest of their `low`.
        high: of their `high`.
        contrast: of their `contrast`.
        scaling: how the network sees them.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    contrast: tuple[float, float]
    scaling: IntensityConfig

    def warn_of(self, images: Any, name: Any, stacklevel: int) -> None:
        """Warns where images are unlike these.

        Args:
            images: N arrays (H, W, C) of raw intensities.
            name: what the warning calls them.
            stacklevel: as `warnings.warn` has it, seen from here.
        """
        ends = _ends(images, np.arange(len(images)))
        contrast = np.quantile(np.diff(_seen(ends, self.scaling)), RICH)
        low, high = np.median(ends, axis=0)
        if self._are_far(*_seen(np.array([low, high]), self.scaling)) or self._is_flat(contrast):
            text = f"{name}: intensities of {low:.4g} to {high:.4g} are far from the training's"
            text += f", {self.low[0]:.4g} to {self.high[1]:.4g}"
            text += " -> bring the image to the same unit and window"
            warnings.warn(text, stacklevel=stacklevel)

    def _are_far(self, low: float, high: float) -> bool:
        margin = BEYOND * (self.high[1] - self.low[0])
        too_low = low < self.low[0] - margin and self.scaling.mode != "window"
        return too_low or low > self.low[1] + margin or high > self.high[1] + margin

    def _is_flat(self, contrast: float) -> bool:
        return 0 < contrast < FLAT * self.contrast[0]


def known_intensities(run: Run) -> KnownIntensities | None:
    """What config.json says of the run's training images; None in older runs.

    Raises:
        ProSegError: config.json was changed into something else.
    """
    if (known := run.section("data").get("intensities")) is None:
        return None
    try:
        pairs = [known[name] for name in ("low", "high", "contrast")]
        low, high, contrast = [(float(least), float(greatest)) for least, greatest in pairs]
    except (LookupError, TypeError, ValueError) as error:
        text = f"{run.config_file} must hold intensities as ranges. Received: {known!r}"
        raise ProSegError(text) from error
    return KnownIntensities(low, high, contrast, run.model_config().intensity)


def warn_of_other_intensities(run: Run, images: Any, name: Any) -> None:
    """Warns where images are unlike those that `run` was trained on; silent if it does not say.

    Args:
        run: the run.
        images: N arrays (H, W, C) of raw intensities.
        name: of their file.

    Raises:
        ProSegError: config.json was changed into something else.
    """
    known = known_intensities(run)
    if known is not None:
        known.warn_of(images, name, 4)


def _ends(images: Any, rows: np.ndarray) -> np.ndarray:
    """(n, 2), of the images in `rows`."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, MOST_IMAGES).astype(int))]
    return np.array([np.quantile(_thinned(images[k]), ENDS) for k in chosen.tolist()])


def _thinned(image: Any) -> np.ndarray:
    """Rows and columns of (H, W, C) at one distance, `MOST_PIXELS` at most."""
    step = max(1, math.ceil(math.sqrt(math.prod(image.shape[:2]) / MOST_PIXELS)))
    return np.asarray(image[::step, ::step], np.float32)


def _seen(ends: np.ndarray, scaling: IntensityConfig) -> np.ndarray:
    if scaling.mode != "window":
        return ends
    half = scaling.width / 2
    return np.clip(ends, scaling.center - half, scaling.center + half)
