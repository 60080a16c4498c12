"""The network and its bound: what a saved model carries."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from keras_proseg.config.checks import (
    as_tuple,
    check_above_zero,
    check_choice,
    check_each,
    check_least,
    check_types,
    is_positive,
    rater_names,
)
from keras_proseg.config.intensity import IntensityConfig, intensity_of
from keras_proseg.errors import UsageError

EFFICIENTNET = "efficientnet-lite0"
EFFICIENTNET_DEPTHS = (2, 3, 4, 5)
VIEWS = (1, 2, 4)
LOG_SCALE_BOUND = 5.0  # of q(z|x)
LEAST_CONCENTRATION = 1e-3  # of a Dirichlet: below it float32 gamma draws underflow to 0 / 0


@dataclass(frozen=True)
class ModelConfig:
    """The network and its bound.

    Attributes:
        raters: R names.
        num_classes: K, overlapping structures.
        image_channels: C.
        backbone: `"light"`, `"efficientnet-lite0"` (its encoder) or `"resnet34"`.
        encoder_weights: EfficientNet's encoder starts with those of `"imagenet"`, or with `"none"`;
            the others always start with none.
        width: channels at full resolution; doubled at each of the levels below, up to 8 times as
            many. For EfficientNet the decoder's: its encoder's widths are fixed, as are all of
            ResNet-34.
        fine_width: channels of the light backbone's levels finer than `ambiguity_stride`, as a part
            of what `width` gives them, rounded to a multiple of 8.
        shortcut: past a block that halves its map goes the `"mean"` of each 2x2 pixels or their
            `"first"`, as released; not of EfficientNet's encoder.
        depth: number of levels: strides 2 to 16 as it stands; 2 to 5 with EfficientNet; not of
            ResNet-34, which has 5.
        stem: the light backbone works on the image folded by this factor (1: full resolution).
        preference_size: T; None for 2 R.
        preference_start: raw concentrations at the start, (own slots, other slots).
        preference_mode: tau is concatenated (`"concat"`) or scales and shifts features (`"film"`).
        ambiguity_size: D, channels of z.
        ambiguity_stride: z is drawn on a grid of this stride and upsampled (1: per pixel).
        ambiguity_per_rater: q(z|x,r) as released, instead of q(z|x).
        ambiguity_start_scale: standard deviation of q(z|x) at the start.
        ambiguity_temperature: answers (not the bound) draw z with so many times the standard
            deviations of q(z|x), which is too sure of images it was not trained on.
        decoder_width: channels of the mask decoder at full resolution; it works on the image folded
            by `stem`, with as many times more.
        decoder_features: the mask decoder also sees the image features, not z alone.
        image_decoder: `"light"`, `"unet"` or `"none"`.
        image_scale: standard deviation of p(x|z), in scaled intensities.
        reduction: the loss holds means over pixels (`"mean"`), or nats per image (`"sum"`: another
            meaning of the weights below).
        nll_weight: weight of the Bernoulli term.
        dice_weight: weight of the soft Dice.
        dice_background: soft Dice over foreground and background.
        energy_weight: weight of the energy score of a rater's draws (soft IoU distance).
        image_weight: weight of the image term.
        rater_weight: weight of the rater term (nats).
        beta_tau: weight of KL(q(tau|r) || p(tau)) (nats).
        beta_z: weight of KL(q(z|x) || p(z)).
        mask_l2: L2 penalty on the mask decoder's kernels.
        raters_per_step: annotated raters of an image in one step; left out, or R or more, all.
        draws_per_step: draws of tau and z per image in one step.
        mean_samples: draws behind `predict_rater`, `uncertainty` and the call, per rater.
        views: answers share their draws among so many mirrored views of the image: 1, 2 (left to
            right) or 4 (upside down as well). More than 1 is for a network that learnt from
            mirrored images: so `train` takes 4 with `augment` (`published` 1), and a `ProSeg` of
            one's own 1.
        diverse: how anyone, no rater in particular, draws: `"mixture"` (r uniform, tau ~ q(tau|r))
            or `"prior"`.
        max_bad_steps: so many non-finite steps in a row stop the training.
        intensity: scaling of raw pixels.
    """

    raters: tuple[str, ...] = ("rater1",)
    num_classes: int = 1
    image_channels: int = 1
    backbone: str = "light"
    encoder_weights: str = "imagenet"
    width: int = 12
    fine_width: float = 0.66
    shortcut: str = "mean"
    depth: int = 4
    stem: int = 2
    preference_size: int | None = None
    preference_start: tuple[float, float] = (8.0, 0.1)
    preference_mode: str = "film"
    ambiguity_size: int = 4
    ambiguity_stride: int = 8
    ambiguity_per_rater: bool = False
    ambiguity_start_scale: float = 1.0
    ambiguity_temperature: float = 1.5
    decoder_width: int = 8
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
    views: int = 1
    diverse: str = "mixture"
    max_bad_steps: int = 20
    intensity: IntensityConfig = field(default_factory=IntensityConfig)

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "raters", rater_names(self.raters))
        object.__setattr__(self, "preference_start", as_tuple(self.preference_start))
        object.__setattr__(self, "intensity", intensity_of(self.intensity))
        self.intensity.check_channels(self.image_channels)
        for name, allowed in MODEL_CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        check_choice("views", self.views, VIEWS)
        check_least(self, _LEAST_1, 1)
        check_least(self, _WEIGHTS, 0)
        check_above_zero(self, _SCALES)
        if self.image_decoder == "unet" and self.ambiguity_stride != 1:
            text = "`ambiguity_stride` must be 1 for `image_decoder` unet."
            raise UsageError(f"{text} Received: {self.ambiguity_stride}")
        if self.backbone == EFFICIENTNET:
            check_choice("depth", self.depth, EFFICIENTNET_DEPTHS)
        check_least(self, ("depth", "preference_size"), 2)
        if not 0 < self.fine_width <= 1:
            text = "`fine_width` must be above 0 and at most 1."
            raise UsageError(f"{text} Received: {self.fine_width}")
        if abs(math.log(self.ambiguity_start_scale)) >= LOG_SCALE_BOUND:
            low, high = math.exp(-LOG_SCALE_BOUND), math.exp(LOG_SCALE_BOUND)
            text = f"`ambiguity_start_scale` must be between {low:.2g} and {high:.3g}."
            raise UsageError(f"{text} Received: {self.ambiguity_start_scale}")
        start = self.preference_start
        if not isinstance(start, tuple) or len(start) != 2:
            raise UsageError(f"`preference_start` must be two numbers above 0. Received: {start}")
        check_each("preference_start", start, "two numbers above 0", is_positive)

    @property
    def encoder_start(self) -> str:
        """`encoder_weights` where the backbone has any, else `"none"`."""
        return self.encoder_weights if self.backbone == EFFICIENTNET else "none"

    @property
    def tau_size(self) -> int:
        """T."""
        return self.preference_size or 2 * len(self.raters)

    def views_of(self, draws: int) -> int:
        """How many views so many draws are shared among: none is left without a draw."""
        return min(self.views, draws)


_LEAST_1 = (
    "num_classes", "image_channels", "width", "stem", "ambiguity_size",
    "ambiguity_stride", "decoder_width", "raters_per_step", "draws_per_step", "mean_samples",
    "max_bad_steps",
)  # fmt: skip
_SCALES = ("ambiguity_start_scale", "ambiguity_temperature", "image_scale")
_WEIGHTS = (
    "nll_weight", "dice_weight", "energy_weight", "image_weight", "rater_weight", "beta_tau",
    "beta_z", "mask_l2",
)  # fmt: skip
MODEL_CHOICES = {
    "backbone": ("light", EFFICIENTNET, "resnet34"),
    "encoder_weights": ("imagenet", "none"),
    "shortcut": ("mean", "first"),
    "preference_mode": ("concat", "film"),
    "image_decoder": ("light", "unet", "none"),
    "reduction": ("mean", "sum"),
    "diverse": ("mixture", "prior"),
}


# What models did before these were fields.
_BEFORE = {"fine_width": 1.0, "shortcut": "first", "views": 1}


def of_saved(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a saved model, with those that are younger than its file."""
    return _BEFORE | values


def with_intensity(config: ModelConfig, **changes: Any) -> ModelConfig:
    """`config` with fields of its intensity scaling replaced."""
    return replace(config, intensity=replace(config.intensity, **changes))
