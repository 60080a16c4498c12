"""How a new rater is learnt from a few masks."""

from dataclasses import dataclass

from keras_proseg.config.checks import check_above_zero, check_least, check_types, plain_seed


@dataclass(frozen=True)
class NewRaterConfig:
    """How a new rater is learnt from a few masks.

    Attributes:
        steps: optimiser steps.
        batch_size: images per step.
        learning_rate: of q(tau|r), at its peak; a cosine takes it to 0.
        augment: flips, quarter turns, intensity; by default where the model's answers are of
            mirrored views, as one trained without them has never seen any.
        seed: of order, augmentation and latents.
    """

    steps: int = 200
    batch_size: int = 6
    learning_rate: float = 0.1
    augment: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_least(self, ("steps", "batch_size"), 1)
        plain_seed(self.seed)
        check_above_zero(self, ("learning_rate",))
