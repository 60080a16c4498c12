"""Brings records to one pixel spacing and one size, by the settings and never silently."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from keras_proseg.config import DataConfig
from keras_proseg.data.findings import Findings
from keras_proseg.data.places import Place, paste, resize
from keras_proseg.data.records import Record
from keras_proseg.errors import UsageError, require

Settings = TypeVar("Settings", bound=DataConfig)
MOST_PIXELS = 2**24  # of a slice that is resampled: more are a spacing in another unit
SCALE = ("spacing", "fit", "size")
WINDOW = ("window_center", "window_width")
LOSSES = {
    "cut": ("are cut by --fit {fit}", "choose --fit pad, or a larger --size"),
    "gone": ("vanish by --fit {fit}", "choose --fit pad, or a larger --size"),
    "scale": ("vanish at the new scale", "choose a finer --spacing, or a larger --size"),
}


@dataclass(frozen=True)
class Slice:
    """One row of a dataset to be: `image` (H, W, C), `masks` {rater: (H, W, K)}."""

    image: np.ndarray
    masks: dict[str, np.ndarray]
    place: Place
    spacing: tuple[float, float] | None


def fit_records(
    records: Sequence[Record], config: DataConfig, findings: Findings
) -> list[list[Slice]]:
    """The slices of every record, of one size.

    Args:
        records: at least one.
        config: `spacing`, `fit`, `size` and `slices`.
        findings: told when sizes differ and `fit` is `"exact"`, when an outline is cut or lost.
    """
    if config.fit in ("crop", "resample") and config.size is None:
        raise UsageError(f"`fit` {config.fit} must come with `size`. Received: size None")
    scaled = [_scaled_size(record, config, findings) for record in records]
    if None in scaled:
        return []
    sizes = Counter(scaled)
    if config.fit == "exact" and len(sizes) > 1:
        shown = ", ".join(f"{h}x{w} ({n} cases)" for (h, w), n in sizes.most_common(5))
        shown += ", ..." if len(sizes) > 5 else ""
        remedy = "choose --fit pad, or --fit crop or resample with --size"
        findings.add(f"images of {len(sizes)} sizes: {shown}", remedy)
        return []
    target = tuple(np.max(list(sizes), axis=0).tolist())
    if config.fit in ("crop", "resample"):
        target = (config.size, config.size)
    fitted = [
        _fit(record, size, target, config, findings)
        for record, size in zip(records, scaled, strict=True)
    ]
    return [[s for s in own if config.slices == "all" or _drawn(s)] for own in fitted]


class OtherScale(UsageError):
    """Data are at one scale, and another is asked for."""


def scale_of(config: DataConfig) -> dict[str, Any]:
    """The settings of `config` by which images are brought to one scale."""
    return {name: getattr(config, name) for name in SCALE}


def at_scale(config: Settings, notes: dict[str, Any]) -> Settings:
    """`config` with the scale that data were brought to, and the window they were prepared for.

    Args:
        config: the settings asked for.
        notes: of the dataset.

    Raises:
        OtherScale: it asks for another one.
    """
    usual = scale_of(DataConfig())
    scale = usual | notes.get("scale", {}) | notes.get("window", {})
    for name, value in scale.items():
        given = getattr(config, name)
        if given not in (value, usual.get(name)):
            text = f"`{name}` must be {value}, as of the data, or be left out."
            raise OtherScale(f"{text} Received: {given}")
    return replace(config, **scale)


def scaled_size(
    size: tuple[int, ...], spacing: tuple[float, float] | None, config: DataConfig
) -> tuple[int, int]:
    """Height and width at which an image of `size` is seen.

    Args:
        size: its height and width.
        spacing: its mm per pixel; None leaves the setting `spacing` out.
        config: `spacing`, `fit` and `size`.

    Raises:
        ProSegError: more pixels than any image has.
    """
    scaled = np.array(size)
    if config.spacing is not None and spacing is not None:
        sides = np.maximum(1, np.rint(scaled * spacing / config.spacing))
        wanted = f"of at most {MOST_PIXELS} pixels at {config.spacing} mm (look at its spacing)"
        fits = bool((sides == scaled).all() or sides.prod() <= MOST_PIXELS)
        require(fits, "images", wanted, f"{sides[0]:.9g}x{sides[1]:.9g}")
        scaled = sides.astype(int)
    if config.fit == "resample" and config.size is not None:
        scaled = np.maximum(1, np.rint(scaled * config.size / scaled.max())).astype(int)
    return int(scaled[0]), int(scaled[1])


def _scaled_size(record: Record, config: DataConfig, findings: Findings) -> Any:
    """Height and width; None with a fatal finding."""
    if config.spacing is not None and record.spacing is None:
        text = "no pixel spacing is known, which --spacing needs"
        findings.add(text, "leave --spacing out, or use files that state it", _name(record))
    size, remedy = record.image.shape[1:3], "mend its spacing, or choose a coarser --spacing"
    return findings.attempt(remedy, scaled_size, size, record.spacing, config, file=_name(record))


def _fit(
    record: Record,
    size: tuple[int, int],
    target: tuple[int, ...],
    config: DataConfig,
    findings: Findings,
) -> list[Slice]:
    offset = ((size[0] - target[0]) // 2, (size[1] - target[1]) // 2)
    before = record.image.shape[1:3]
    spacing = None
    if record.spacing is not None:
        (rows, columns), ratio = record.spacing, np.divide(before, size)
        spacing = (float(rows * ratio[0]), float(columns * ratio[1]))
    slices = []
    lost: Counter[str] = Counter()
    for index, image in enumerate(record.image):
        masks = {}
        for rater, mask in record.masks.items():
            whole = mask[index] if size == before else resize(mask[index], size, False) >= 0.5
            masks[rater] = _fit_mask(whole, target, offset)
            lost["scale"] += int(bool(mask[index].any()) and not whole.any())
            lost["cut"] += int(masks[rater].sum() < whole.sum())
            lost["gone"] += int(bool(whole.any()) and not masks[rater].any())
        place = Place(record.volume, index, size, offset)
        slices.append(Slice(_fit_image(image, size, target, offset), masks, place, spacing))
    for why, (text, remedy) in LOSSES.items():
        if lost[why]:
            text = text.format(fit=config.fit)
            findings.note(f"{lost[why]} outlines {text}", remedy, _name(record))
    return slices


def _fit_image(
    image: np.ndarray, size: tuple[int, int], target: tuple[int, ...], offset: tuple[int, int]
) -> np.ndarray:
    scaled = resize(image, size)
    if size == target:
        return scaled
    darkest = image.min(axis=(0, 1)).astype(scaled.dtype)  # of each channel, as air around a CT
    canvas = np.broadcast_to(darkest, (*target, image.shape[2])).copy()
    return paste(canvas, scaled, (-offset[0], -offset[1]))


def _fit_mask(scaled: np.ndarray, target: tuple[int, ...], offset: tuple[int, int]) -> np.ndarray:
    if scaled.shape[:2] == target:
        return scaled.astype(np.uint8)
    canvas = np.zeros((*target, scaled.shape[2]), np.uint8)
    return paste(canvas, scaled, (-offset[0], -offset[1]))


def _drawn(part: Slice) -> bool:
    return any(mask.any() for mask in part.masks.values())


def _name(record: Record) -> str:
    return record.volume.path
