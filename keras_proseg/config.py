"""Every default of the package, once; standard library only.

`ModelConfig` is what a saved model carries, `TrainConfig` what a run records beside it.
"""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from keras_proseg.errors import UsageError


@dataclass(frozen=True)
class IntensityConfig:
    """How raw pixels become the network's input.

    Attributes:
        mode: `"divide"` (x / scale), `"window"` (clip to center +- width / 2, onto [-1, 1]) or
            `"zscore"` ((x - mean) / std of the training images).
        scale: divisor of `"divide"`.
        center: middle of the window, in HU.
        width: width of the window, in HU.
        mean: subtracted by `"zscore"`.
        std: divides in `"zscore"`.
    """

    mode: str = "zscore"
    scale: float = 255.0
    center: float = -400.0
    width: float = 1600.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class ModelConfig:
    """The network and its bound.

    Attributes:
        raters: R names.
        num_classes: K, overlapping structures.
        image_channels: C.
        backbone: `"light"` or `"resnet34"`.
        width: channels at full resolution; doubled at each of the levels below.
        depth: number of levels of the light backbone (24 to 96 channels as it stands).
        stem: the light backbone works on the image folded by this factor (1: full resolution).
        preference_size: T; None for 2 R.
        preference_start: raw concentrations at the start, (own slots, other slots).
        preference_mode: tau is concatenated (`"concat"`) or scales and shifts features (`"film"`).
        ambiguity_size: D, channels of z.
        ambiguity_stride: z is drawn on a grid of this stride and upsampled (1: per pixel).
        ambiguity_per_rater: q(z|x,r) as released, instead of q(z|x).
        ambiguity_start_scale: standard deviation of q(z|x) at the start.
        decoder_width: channels of the mask decoder.
        decoder_features: the mask decoder also sees the image features, not z alone.
        image_decoder: `"light"`, `"unet"` or `"none"`.
        image_scale: standard deviation of p(x|z), in scaled intensities.
        reduction: what is minimised are means over pixels (`"mean"`) or nats per image (`"sum"`).
        nll_weight: weight of the Bernoulli term.
        dice_weight: weight of the soft Dice.
        dice_background: soft Dice over foreground and background.
        energy_weight: weight of the energy score of a rater's draws (soft IoU distance).
        image_weight: weight of the image term.
        rater_weight: weight of the rater term (nats).
        beta_tau: weight of KL(q(tau|r) || p(tau)) (nats).
        beta_z: weight of KL(q(z|x) || p(z)).
        mask_l2: L2 penalty on the mask decoder's kernels.
        raters_per_step: annotated raters of an image in one step; None for all.
        draws_per_step: draws of tau and z per image in one step.
        mean_samples: draws behind `predict_rater`, `uncertainty` and the call, per rater.
        diverse: how `rater=None` draws: `"mixture"` (r uniform, tau ~ q(tau|r)) or `"prior"`.
        max_bad_steps: so many non-finite steps in a row stop the training.
        intensity: scaling of raw pixels.
    """

    raters: tuple[str, ...] = ("rater1",)
    num_classes: int = 1
    image_channels: int = 1
    backbone: str = "light"
    width: int = 12
    depth: int = 4
    stem: int = 2
    preference_size: int | None = None
    preference_start: tuple[float, float] = (8.0, 0.1)
    preference_mode: str = "film"
    ambiguity_size: int = 4
    ambiguity_stride: int = 8
    ambiguity_per_rater: bool = False
    ambiguity_start_scale: float = 1.0
    decoder_width: int = 16
    decoder_features: bool = True
    image_decoder: str = "light"
    image_scale: float = 1.0
    reduction: str = "mean"
    nll_weight: float = 12.0
    dice_weight: float = 0.5
    dice_background: bool = False
    energy_weight: float = 0.5
    image_weight: float = 0.01
    rater_weight: float = 0.1
    beta_tau: float = 0.001
    beta_z: float = 0.01
    mask_l2: float = 0.0
    raters_per_step: int | None = None
    draws_per_step: int = 2
    mean_samples: int = 8
    diverse: str = "mixture"
    max_bad_steps: int = 20
    intensity: IntensityConfig = field(default_factory=IntensityConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "raters", tuple(self.raters))
        object.__setattr__(self, "preference_start", tuple(self.preference_start))
        if isinstance(self.intensity, dict):
            object.__setattr__(self, "intensity", IntensityConfig(**self.intensity))
        for name, allowed in CHOICES.items():
            _check_choice(name, getattr(self, name), allowed)
        _check_choice("intensity.mode", self.intensity.mode, ("divide", "window", "zscore"))
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be at least 1. Received: {getattr(self, name)}")
        if not self.raters or len(set(self.raters)) != len(self.raters):
            raise UsageError(f"`raters` must be distinct names. Received: {list(self.raters)}")

    @property
    def tau_size(self) -> int:
        """T."""
        return self.preference_size or 2 * len(self.raters)


_POSITIVE = (
    "num_classes", "image_channels", "width", "depth", "stem", "ambiguity_size",
    "ambiguity_stride", "decoder_width", "draws_per_step", "mean_samples", "max_bad_steps",
)  # fmt: skip
CHOICES = {
    "backbone": ("light", "resnet34"),
    "preference_mode": ("concat", "film"),
    "image_decoder": ("light", "unet", "none"),
    "reduction": ("mean", "sum"),
    "diverse": ("mixture", "prior"),
}

# The released settings (arXiv 2512.00748 and its code), with the defects listed in the docs mended.
PUBLISHED_MODEL: dict[str, Any] = {
    "backbone": "resnet34",
    "preference_start": (1.0, 0.1),
    "preference_mode": "concat",
    "ambiguity_size": 16,
    "ambiguity_stride": 1,
    "ambiguity_per_rater": True,
    "decoder_features": False,
    "width": 16,
    "decoder_width": 16,
    "nll_weight": 0.0,
    "dice_weight": 1.0,
    "energy_weight": 0.0,
    "draws_per_step": 1,
    "dice_background": True,
    "image_weight": 2.0,  # 2 * (x - mean)^2 / 2 at scale 1 is the released MSE
    "rater_weight": 1.0,
    "beta_tau": 0.1,
    "beta_z": 0.1,
    "mask_l2": 1e-5,
    "raters_per_step": 1,
}


@dataclass(frozen=True)
class DataConfig:
    """How a source becomes a data set.

    Attributes:
        rater_order: `"area"`, `"given"`, or None for the source's own default.
        spacing: resample images to this pixel spacing, in mm; None keeps that of the files.
        fit: images of different sizes are refused (`"exact"`), padded to the largest (`"pad"`),
            cut or padded about their centre to `size` (`"crop"`), or resampled to it, their
            proportions kept (`"resample"`).
        size: height and width in pixels, of `fit` crop and resample.
        window_center: middle of the window that intensities are clipped to, in HU; with
            `window_width`. CT has one by default (-400, 1600), other images none.
        window_width: its width, in HU.
        slices: of volumes, `"all"` slices or the ones `"drawn"` on by any rater.
        min_raters: (lidc) nodules outlined by fewer readers are left out.
        images: (lidc) `"auto"`, `"ct"` or `"phantom"`.
        dicom: (lidc) folder of the DICOM download.
        limit: (lidc) only so many nodules, for quick trials.
        crop: (lidc) height and width of the images in pixels.
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
        _check_choice("rater_order", self.rater_order, (*DATA_CHOICES["rater_order"], None))
        for name in ("fit", "slices", "images", "unit"):
            _check_choice(name, getattr(self, name), DATA_CHOICES[name])
        _check_above_zero(self, ("spacing", "size", "limit", "workers", "window_width"))
        if (self.window_center is None) != (self.window_width is None):
            raise UsageError(
                "`window_center` and `window_width` must come together. "
                f"Received: {self.window_center}, {self.window_width}"
            )


DATA_CHOICES: dict[str, tuple[str, ...]] = {
    "rater_order": ("area", "given"),
    "fit": ("exact", "pad", "crop", "resample"),
    "slices": ("all", "drawn"),
    "images": ("auto", "ct", "phantom"),
    "unit": ("slices", "volumes"),
}


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """One training run, with the settings of its data.

    Attributes:
        preset: `"default"` or `"published"`.
        epochs: stop after so many passes over the training cases.
        steps: stop after so many optimiser steps.
        minutes: stop after about so many minutes; 3 when no limit is given at all.
        batch_size: images per step.
        devices: so many devices share each batch (TensorFlow and JAX).
        precision: `"float32"`, or `"mixed_bfloat16"`: layers compute in bfloat16 while training;
            weights, latents and losses stay in float32, and the saved model computes in float32.
        seed: of weights, order, augmentation and latents.
        learning_rate: of the network, at its peak.
        preference_learning_rate: of the rater embedding and classifier.
        weight_decay: decoupled (AdamW); 0 is Adam.
        warmup: steps over which the learning rate rises; a cosine takes it to 0 at the last step.
        clip: bound on the global norm of the gradient; None for none.
        augment: flips, rotation, intensity.
        rotation: of the augmentation: `"quarter"` turns, or `"any"` angle.
        zoom: of the augmentation: standard deviation of the log of the factor.
        validations: how often at least the validation cases are scored during a run.
        val_cases: validation cases scored during a run (all of them at its end).
        val_samples: samples per case of these scores.
        num_samples: samples per case of the final table.
    """

    preset: str = "default"
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    devices: int = 1
    precision: str = "float32"
    seed: int = 0
    learning_rate: float = 2e-3
    preference_learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    warmup: int = 40
    clip: float | None = 1.0
    augment: bool = True
    rotation: str = "quarter"
    zoom: float = 0.0
    validations: int = 6
    val_cases: int = 48
    val_samples: int = 8
    num_samples: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("preset", self.preset, PRESETS)
        _check_choice("rotation", self.rotation, ROTATIONS)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_above_zero(self, _ABOVE_ZERO)
        if self.batch_size % self.devices:
            text = f"`batch_size` must be a multiple of {self.devices} devices."
            raise UsageError(f"{text} Received: {self.batch_size}")

    @property
    def budget(self) -> dict[str, float]:
        """The limits in force; the first one reached stops."""
        given = {n: getattr(self, n) for n in ("epochs", "steps", "minutes") if getattr(self, n)}
        return given or {"minutes": DEFAULT_MINUTES}


@dataclass(frozen=True)
class ExportConfig:
    """One export of a run.

    Attributes:
        format: `"saved_model"` (TensorFlow Serving), `"onnx"` or `"litert"`.
        version: of the model; None for the one after the highest there is.
        num_samples: S of the signature `sample`.
        precision: of the weights: `"float32"`, or (litert) `"float16"` or `"int8"`.
        height: (litert) of every image; (saved_model) of the images that warm the server up.
        width: likewise.
    """

    format: str = "saved_model"
    version: int | None = None
    num_samples: int = 16
    precision: str = "float32"
    height: int = 128
    width: int = 128

    def __post_init__(self) -> None:
        for name, allowed in EXPORT_CHOICES.items():
            _check_choice(name, getattr(self, name), allowed)
        for name in ("version", "num_samples", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"`{name}` must be at least 1. Received: {value}")
        if self.precision != "float32" and self.format != "litert":
            text = "`precision` must be float32 unless the format is litert."
            raise UsageError(f"{text} Received: {self.precision}")


EXPORT_CHOICES = {
    "format": ("saved_model", "onnx", "litert"),
    "precision": ("float32", "float16", "int8"),
}


def default_rater_order(source: str | None) -> str:
    """`"area"` for lidc, whose readers are anonymous: their slots mean nothing across scans."""
    return "area" if source == "lidc" else "given"


_ABOVE_ZERO = ("epochs", "steps", "minutes", "batch_size", "devices", "learning_rate")
DEFAULT_MINUTES = 3.0
LEAST_CONCENTRATION = 1e-3  # of a Dirichlet: below it float32 gamma draws underflow to 0 / 0
PRECISIONS = ("float32", "mixed_bfloat16")
ROTATIONS = ("quarter", "any")
PRESETS = ("default", "published")
PUBLISHED_TRAIN: dict[str, Any] = {
    "batch_size": 16,
    "learning_rate": 5e-5,
    "preference_learning_rate": 2e-3,
    "weight_decay": 0.0,
    "warmup": 0,
    "clip": None,
}


def preset_configs(preset: str, **changes: Any) -> tuple[ModelConfig, TrainConfig]:
    """The preset's two configurations, with `changes` by field name on top (None keeps the preset).

    Raises:
        UsageError: an unknown preset, field or choice.
    """
    _check_choice("preset", preset, PRESETS)
    published = preset == "published"
    changes = {name: value for name, value in changes.items() if value is not None}
    model_names = {f.name for f in fields(ModelConfig)}
    train_names = {f.name for f in fields(TrainConfig)}
    unknown = sorted(set(changes) - model_names - train_names)
    if unknown:
        raise UsageError(f"Settings must be known fields. Received: {', '.join(unknown)}")
    model = {k: v for k, v in changes.items() if k in model_names}
    train = {k: v for k, v in changes.items() if k in train_names}
    return (
        ModelConfig(**((PUBLISHED_MODEL if published else {}) | model)),
        TrainConfig(**({"preset": preset} | (PUBLISHED_TRAIN if published else {}) | train)),
    )


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    plain = asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def with_intensity(config: ModelConfig, **changes: Any) -> ModelConfig:
    """`config` with fields of its intensity scaling replaced."""
    return replace(config, intensity=replace(config.intensity, **changes))


def _check_above_zero(config: Any, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise UsageError(f"`{name}` must be above 0. Received: {value}")


def _check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        shown = ", ".join(str(a) for a in allowed if a is not None)
        raise UsageError(f"`{name}` must be one of {shown}. Received: {value}")
