"""How well a set of sampled masks stands for a set of annotations.

| symbol | code | meaning |
|---|---|---|
| s, s' | samples | S sampled masks, probability above the threshold |
| y, y' | annotations | R annotations of the raters present |
| d(a, b) | distance | 1 - IoU(a, b) |

Overlaps come in as matrices from `overlap.py`, which holds the rule for empty masks.
"""

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from keras_proseg.metrics.overlap import paired_dice

SOFT_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def ged(cross: np.ndarray, samples: np.ndarray, annotations: np.ndarray) -> dict[str, float]:
    """Generalised energy distance 2 E d(s, y) - E d(s, s') - E d(y, y').

    The V-statistic averages over all ordered pairs, self pairs included: never below 0, and on
    average smaller for larger S. The U-statistic leaves self pairs out of the two within terms: it
    is comparable across S where the draws are independent, and may fall below 0. Where R raters
    take turns at the draws, as in `sample`, it is too small by (R - 1) / (R (S - 1)) of what draws
    of two raters are further apart than draws of one.

    Args:
        cross: (S, R) IoU of every sample with every annotation.
        samples: (S, S) IoU of the samples among themselves.
        annotations: (R, R) IoU of the annotations among themselves.

    Returns:
        `ged`, its terms `ged_cross`, `ged_within_samples`, `ged_within_annotations` and
        `ged_unbiased`, which is nan when S = 1 or R = 1.

    Source: Szekely and Rizzo (2013), "Energy statistics"; Kohl et al. (2018), "A Probabilistic
    U-Net", for d = 1 - IoU.
    """
    between, within_s, within_y = (float(np.mean(1 - iou)) for iou in (cross, samples, annotations))
    return {
        "ged": 2 * between - within_s - within_y,
        "ged_unbiased": 2 * between
        - _unbiased(within_s, samples)
        - _unbiased(within_y, annotations),
        "ged_cross": between,
        "ged_within_samples": within_s,
        "ged_within_annotations": within_y,
    }


def _unbiased(mean: float, pairs: np.ndarray) -> float:
    # Self pairs have distance 0, so leaving them out only changes the divisor n^2 to n (n - 1).
    count = len(pairs)
    return mean * count / (count - 1) if count > 1 else float("nan")


def dice_max(dice: np.ndarray) -> dict[str, float]:
    """Best Dice each way.

    Args:
        dice: (S, R) Dice of every sample with every annotation.

    Returns:
        `dice_max_samples` (each sample's best over raters, averaged), `dice_max_raters` (each
        rater's best over samples, averaged) and `dice_max`, their mean.
    """
    samples, raters = float(dice.max(axis=1).mean()), float(dice.max(axis=0).mean())
    return {
        "dice_max": (samples + raters) / 2,
        "dice_max_samples": samples,
        "dice_max_raters": raters,
    }


def dice_match(dice: np.ndarray) -> float:
    """Mean Dice of the best one-to-one assignment of raters to samples.

    Args:
        dice: (S, R) Dice of every sample with every annotation.

    Returns:
        The mean over the min(S, R) matched pairs.
    """
    return float(dice[linear_sum_assignment(1 - dice)].mean())


def dice_soft(mean_probability: np.ndarray, mean_annotation: np.ndarray) -> float:
    """Dice of the two mean maps, averaged over the thresholds 0.1, 0.3, 0.5, 0.7, 0.9.

    Args:
        mean_probability: (...) mean of the sample probabilities.
        mean_annotation: (...) mean of the annotations, same shape.
    """
    levels = np.reshape(SOFT_THRESHOLDS, (-1,) + (1,) * mean_annotation.ndim)
    return float(paired_dice(mean_probability > levels, mean_annotation > levels).mean())


def fragments(samples: np.ndarray, annotations: np.ndarray) -> float:
    """Connected components per sampled mask minus connected components per annotation.

    Pixels are connected when they touch at a side or a corner (8 neighbours in 2-D, 26 in 3-D), so
    that a thin diagonal line is one piece. An outline a reader would draw has about none to spare;
    speckle has many. An empty mask has none.

    Args:
        samples: (S, ...) bool, any spatial rank.
        annotations: (R, ...) bool.

    Returns:
        The difference of the two means.
    """
    return _mean_components(samples) - _mean_components(annotations)


def _mean_components(masks: np.ndarray) -> float:
    rank = masks.ndim - 1
    touching = ndimage.generate_binary_structure(rank, rank)
    return float(np.mean([ndimage.label(mask, touching)[1] for mask in masks]))
