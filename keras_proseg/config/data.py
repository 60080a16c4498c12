"""How a source becomes a data set."""

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from keras_proseg.config.checks import check_above_zero, check_choice, check_types
from keras_proseg.errors import UsageError

MAX_READERS = 4  # of a nodule of LIDC-IDRI
LEAST_CROP, MOST_CROP = 16, 512
OF_LIDC = ("min_raters", "images", "dicom", "limit", "crop", "unit", "workers")


@dataclass(frozen=True)
class DataConfig:
    """How a source becomes a data set.

    Attributes:
        rater_order: `"area"` or `"given"`; by default area for lidc and pickles of it, else given.
        spacing: resample images to this pixel spacing, in mm; left out, that of the files is kept.
        fit: images of different sizes are refused (`"exact"`), padded to the largest (`"pad"`),
            cut or padded about their centre to `size` (`"crop"`), or resampled to it, their
            proportions kept (`"resample"`).
        size: height and width in pixels, of `fit` crop and resample.
        window_center: middle of the window that intensities are clipped to, in HU; with
            `window_width`. lidc has one by default (-400, 1600); other sources none, CT or not.
        window_width: its width, in HU.
        slices: of volumes, `"all"` slices or the ones `"drawn"` on by any rater.
        min_raters: (lidc) nodules outlined by fewer readers are left out, 1 to 4.
        images: (lidc) `"ct"` (real, and nothing else), `"phantom"` (simulated) or `"auto"`: real
            where DICOM files are configured and present.
        dicom: (lidc) folder of the DICOM download; by default the one in the user's ~/.pylidcrc.
        limit: (lidc) only so many nodules, for quick trials.
        crop: (lidc) height and width of the images in pixels, 16 to 512.
        unit: (lidc) the `"slices"` somebody drew on, or whole nodules as `"volumes"`: with
            `spacing` isotropic, and two slices more at either end.
        workers: (lidc) processes that read scans.
    """

    rater_order: str | None = None
    spacing: float | None = None
    fit: str = "exact"
    size: int | None = None
    window_center: float | None = None
    window_width: float | None = None
    slices: str = "all"
    min_raters: int = 4
    images: str = "auto"
    dicom: str | None = None
    limit: int | None = None
    crop: int = 128
    unit: str = "slices"
    workers: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("rater_order", self.rater_order, (*DATA_CHOICES["rater_order"], None))
        for name in ("fit", "slices", "images", "unit"):
            check_choice(name, getattr(self, name), DATA_CHOICES[name])
        check_above_zero(self, ("spacing", "size", "limit", "workers", "window_width"))
        if (self.window_center is None) != (self.window_width is None):
            raise UsageError(
                "`window_center` and `window_width` must come together. "
                f"Received: {self.window_center}, {self.window_width}"
            )
        if self.size is not None and self.fit not in ("crop", "resample"):
            text = "`size` must come with `fit` crop or resample."
            raise UsageError(f"{text} Received: {self.size} with fit {self.fit}")
        if not 1 <= self.min_raters <= MAX_READERS:
            text = f"`min_raters` must be 1 to {MAX_READERS}."
            raise UsageError(f"{text} Received: {self.min_raters}")
        if not LEAST_CROP <= self.crop <= MOST_CROP:
            text = f"`crop` must be {LEAST_CROP} to {MOST_CROP} pixels."
            raise UsageError(f"{text} Received: {self.crop}")
        if not math.isfinite(self.window_center or 0):
            raise UsageError(f"`window_center` must be finite. Received: {self.window_center}")


Settings = TypeVar("Settings", bound=DataConfig)

DATA_CHOICES: dict[str, tuple[str, ...]] = {
    "rater_order": ("area", "given"),
    "fit": ("exact", "pad", "crop", "resample"),
    "slices": ("all", "drawn"),
    "images": ("auto", "ct", "phantom"),
    "unit": ("slices", "volumes"),
}


def check_not_lidc(config: DataConfig) -> None:
    """Raises where a setting is asked for that other sources than lidc know nothing of.

    Raises:
        UsageError: with the setting.
    """
    for name in OF_LIDC:
        if getattr(config, name) != getattr(DataConfig, name):
            text = f"`{name}` must be left out: it is a setting of lidc."
            raise UsageError(f"{text} Received: {getattr(config, name)}")


def without_lidc(config: Settings) -> Settings:
    """`config` with the settings of lidc as they are by default."""
    return replace(config, **{name: getattr(DataConfig, name) for name in OF_LIDC})


def as_stored(config: Settings) -> Settings:
    """`config` with raters as the files have them, unless it says otherwise.

    Ranks are drawn from the stored masks at each reading, so that either order can be had later.
    """
    return replace(config, rater_order=config.rater_order or "given")


def default_rater_order(source: str | None) -> str:
    """`"area"` for lidc, whose readers are anonymous: their slots mean nothing across scans."""
    return "area" if source == "lidc" else "given"
