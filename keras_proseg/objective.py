"""The bound: its terms in nats per image, and what is minimised.

elbo = -(nll_mask + nll_image + nll_rater + kl_tau + kl_z), every term a (B,) vector here.
"""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_proseg.config import ModelConfig

LOG_2PI = math.log(2 * math.pi)


class ElboTerms(NamedTuple):
    """Per-image terms, each (B,), but the numbers at their end.

    Attributes:
        nll_mask: -log p(y|z,tau), Bernoulli, nats, mean over annotated raters.
        nll_image: -log p(x|z), Gaussian, nats.
        nll_rater: -log p(r|tau), nats, mean over annotated raters.
        kl_tau: KL(q(tau|r) || p(tau)), nats, mean over annotated raters.
        kl_z: KL(q(z|x) || p(z)), nats.
        dice_loss: soft Dice loss, no unit, mean over annotated raters.
        energy_score: `energy_score`, no unit, mean over annotated raters.
        num_pixels: H W of the image.
        num_latents: h w D of z.
    """

    nll_mask: Any
    nll_image: Any
    nll_rater: Any
    kl_tau: Any
    kl_z: Any
    dice_loss: Any
    energy_score: Any
    num_pixels: Any
    num_latents: Any

    def elbo(self) -> Any:
        """The bound with all weights 1, (B,) nats."""
        return -(self.nll_mask + self.nll_image + self.nll_rater + self.kl_tau + self.kl_z)


def joined(parts: list[ElboTerms]) -> ElboTerms:
    """The terms of a batch from those of its parts, in order."""
    if len(parts) == 1:
        return parts[0]
    together = {
        name: ops.concatenate([getattr(part, name) for part in parts])
        for name in ElboTerms._fields
        if not name.startswith("num_")
    }
    return parts[0]._replace(**together)


def objective(terms: ElboTerms, config: ModelConfig) -> Any:
    """What is minimised, (B,): the weighted sum of `terms` as `config` says."""
    pixels = latents = classes = channels = 1.0
    if config.reduction == "mean":
        pixels = ops.cast(terms.num_pixels, "float32")
        latents = ops.cast(terms.num_latents, "float32")
        classes, channels = config.num_classes, config.image_channels
    # The Gaussian's constant moves no weight, and would drown the rest of the loss.
    constant = 0.0
    if config.image_decoder != "none":
        constant = terms.num_pixels * config.image_channels * _image_constant(config)
    return (
        config.nll_weight * terms.nll_mask / (pixels * classes)
        + config.dice_weight * terms.dice_loss
        + config.energy_weight * terms.energy_score
        + config.image_weight * (terms.nll_image - constant) / (pixels * channels)
        + config.rater_weight * terms.nll_rater
        + config.beta_tau * terms.kl_tau
        + config.beta_z * terms.kl_z / latents
    )


def bernoulli_nll(mask: Any, logits: Any) -> Any:
    """-log p(mask|logits), (B, M) nats summed over (B, M, H, W, K)."""
    return ops.sum(ops.softplus(logits) - logits * mask, axis=(2, 3, 4))


def soft_dice_loss(mask: Any, probability: Any, background: bool, smooth: float = 1.0) -> Any:
    """1 - soft Dice of (B, M, H, W, K), averaged over classes (and background), (B, M)."""
    overlap = _area(mask * probability)
    total = _area(mask) + _area(probability)
    dice = (2 * overlap + smooth) / (total + smooth)
    if background:
        pixels = ops.cast(ops.prod(ops.shape(mask)[2:4]), "float32")
        rest = (2 * (pixels - total + overlap) + smooth) / (2 * pixels - total + smooth)
        dice = (dice + rest) / 2
    return 1 - ops.mean(dice, axis=-1)


def energy_score(mask: Any, draws: list[Any]) -> Any:
    """E d(s, y) - E d(s, s') / 2 over draws s, s' of a rater and the rater's mask y, (B, M).

    The expectation of it is least where the draws are distributed as the masks (Gneiting and
    Raftery 2007, doi 10.1198/016214506000001437); d is `soft_iou_distance`.

    Args:
        mask: (B, M, H, W, K), 0 to 1.
        draws: J tensors of probabilities of the same shape; with one, E d(s, y) alone.
    """
    count = len(draws)
    # Of a mask of 0 and 1 the product is the minimum, and the Dice needs it anyway. Where a turned
    # mask is in between, it is the overlap to expect of a pixel that is inside by that chance.
    score = sum(_iou_distance(draw, mask, draw * mask) for draw in draws) / count
    pairs = [(a, b) for k, a in enumerate(draws) for b in draws[:k]]
    if not pairs:
        return score
    return score - sum(soft_iou_distance(a, b) for a, b in pairs) / (2 * len(pairs))


def soft_iou_distance(a: Any, b: Any, smooth: float = 1.0) -> Any:
    """1 - sum(min(a, b)) / sum(max(a, b)) of (B, M, H, W, K), averaged over classes, (B, M).

    A metric on [0, 1]^n (Ruzicka), and 1 - IoU for masks; `smooth` pixels are added to both sums.
    """
    return _iou_distance(a, b, ops.minimum(a, b), smooth)


def gaussian_nll(image: Any, mean: Any, scale: float) -> Any:
    """-log N(image; mean, scale^2), (N,) nats summed over (N, H, W, C)."""
    squares = ops.sum(ops.square((image - mean) / scale), axis=(1, 2, 3)) / 2
    count = ops.cast(ops.prod(ops.shape(mean)[1:]), "float32")
    return squares + count * (math.log(scale) + LOG_2PI / 2)


def annotated_mean(values: Any, annotated: Any) -> Any:
    """Mean of (B, M) over the raters present, exactly 0 influence of the others; (B,)."""
    values = ops.where(annotated, values, 0.0)
    count = ops.sum(ops.cast(annotated, "float32"), axis=1)
    return ops.sum(values, axis=1) / ops.maximum(count, 1.0)


def _iou_distance(a: Any, b: Any, least: Any, smooth: float = 1.0) -> Any:
    overlap = _area(least)
    union = _area(a) + _area(b) - overlap
    return ops.mean(1 - (overlap + smooth) / (union + smooth), axis=-1)


def _area(values: Any) -> Any:
    """Sum over the pixels of (B, M, H, W, K), (B, M, K)."""
    return ops.sum(values, axis=(2, 3))


def _image_constant(config: ModelConfig) -> float:
    return math.log(config.image_scale) + LOG_2PI / 2
