"""One training run: what it records beside its model."""

from dataclasses import dataclass

from keras_proseg.config.checks import check_above_zero, check_choice, check_least, plain_seed
from keras_proseg.config.data import DataConfig
from keras_proseg.config.samples import NUM_SAMPLES
from keras_proseg.errors import UsageError

DEFAULT_MINUTES = 3.0
MOST_ZOOM = 1.0  # a third of all images are enlarged or shrunk by more than 2.7 there
TRAIN_CHOICES = {
    "preset": ("default", "published"),
    "optimizer": ("muon", "adam"),
    "precision": ("float32", "mixed_bfloat16"),
    "rotation": ("quarter", "any"),
}
_ABOVE_ZERO = ("minutes", "learning_rate")
_LEAST_1 = (
    "epochs", "steps", "batch_size", "devices", "validations", "val_cases", "val_samples",
    "num_samples",
)  # fmt: skip
_LEAST_0 = (
    "encoder_learning_rate", "preference_learning_rate", "weight_decay", "warmup", "clip", "zoom",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """One training run, with the settings of its data.

    Attributes:
        preset: `"default"`, or `"published"` (the released configuration), which sets many of the
            other defaults itself.
        epochs: stop after so many passes over the training cases.
        steps: stop after so many optimiser steps.
        minutes: stop after about so many minutes, by the pace at every checkpoint; 3 when no limit
            is given at all.
        batch_size: images per step.
        devices: so many devices share each batch (TensorFlow and JAX).
        precision: `"float32"`, or `"mixed_bfloat16"`: layers compute in bfloat16 while training;
            weights, latents and losses stay in float32, and the saved model computes in float32.
        seed: of weights, order, augmentation and latents.
        split_seed: of the sides train, val and test, where the data name none: runs of all seeds
            have the same.
        optimizer: of the backbone's convolutions but the first and an EfficientNet encoder's:
            `"muon"`, or `"adam"` as of all other weights.
        learning_rate: of the network, at its peak.
        encoder_learning_rate: of an EfficientNet encoder, which starts with trained weights.
        preference_learning_rate: of the rater embedding and classifier.
        weight_decay: decoupled (as in AdamW), of all weights but the rater layers'; of Adam, 0 is
            the plain one.
        warmup: steps over which the learning rate rises; a cosine takes it to 0 at the last step.
        clip: bound on the norm of the gradient of each optimizer's weights; 0 for none.
        augment: flips, rotation, intensity.
        rotation: of the augmentation: `"quarter"` turns, or `"any"` angle.
        zoom: of the augmentation: standard deviation of the log of the factor, at most 1.
        finish: during this last share of the planned steps augmentation is only quarter turns and
            flips, without zoom: pixels and outlines as they are in use, not interpolated.
        validations: how often the validation cases are scored at least during a run; a long one
            scores them after every epoch, or about every 45 seconds of a limit in minutes.
        val_cases: validation cases, of volumes slices, scored during a run (all of them at its
            end, volumes whole).
        val_samples: samples per case of these scores.
        num_samples: samples per case of the final table.
    """

    preset: str = "default"
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 6
    devices: int = 1
    precision: str = "float32"
    seed: int = 0
    split_seed: int = 0
    optimizer: str = "muon"
    learning_rate: float = 2.45e-3
    encoder_learning_rate: float = 1e-4
    preference_learning_rate: float = 1e-2
    weight_decay: float = 0.05
    warmup: int = 40
    clip: float | None = 1.0
    augment: bool = True
    rotation: str = "any"
    zoom: float = 0.15
    finish: float = 0.12
    validations: int = 6
    val_cases: int = 48
    val_samples: int = 8
    num_samples: int = NUM_SAMPLES

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in TRAIN_CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        check_above_zero(self, _ABOVE_ZERO)
        check_least(self, _LEAST_1, 1)
        check_least(self, _LEAST_0, 0)
        plain_seed(self.seed)
        plain_seed(self.split_seed, "split_seed")
        if self.zoom > MOST_ZOOM:
            raise UsageError(f"`zoom` must be at most {MOST_ZOOM}. Received: {self.zoom}")
        if not 0 <= self.finish < 1:
            raise UsageError(f"`finish` must be at least 0 and below 1. Received: {self.finish}")
        if self.batch_size % self.devices:
            text = f"`batch_size` must be a multiple of {self.devices} devices."
            raise UsageError(f"{text} Received: {self.batch_size}")

    @property
    def budget(self) -> dict[str, float]:
        """The limits in force; the first one reached stops."""
        given = {n: getattr(self, n) for n in ("epochs", "steps", "minutes") if getattr(self, n)}
        return given or {"minutes": DEFAULT_MINUTES}
