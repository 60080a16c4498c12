"""Whether the mean probability says how many raters would mark a pixel.

| symbol | code | meaning |
|---|---|---|
| p | probability | mean of the sample probabilities, per pixel |
| y | annotation | mean of the annotations, per pixel |
| | zone | pixels within 5 px of any annotation or of p > 0.1 |

`brier` and `ece` look at the zone alone: over whole images an empty mask would look calibrated.
Where no rater marks a pixel and p nowhere exceeds 0.1 the zone is empty, there is nothing to
calibrate, and both are nan. `ncc` compares whole maps.
"""

import numpy as np
from scipy import ndimage

from keras_proseg.metrics.overlap import bounding_box

ZONE_RADIUS = 5
ZONE_PROBABILITY = 0.1
NUM_BINS = 15
# Variances lie in [0, 0.25]; a map that varies less than this only shows rounding.
_CONSTANT = 1e-12


def mean_and_variance(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and (biased) variance of a stack (N, ...) over its first axis, float64 maps (...)."""
    mean = stack.mean(axis=0, dtype=np.float64)
    variance = np.zeros_like(mean)
    # One map at a time: a float64 copy of all samples of a volume would not fit.
    for layer in stack:
        variance += (layer - mean) ** 2
    return mean, variance / len(stack)


def boundary_zone(probability: np.ndarray, annotation: np.ndarray) -> np.ndarray:
    """Pixels at Euclidean distance <= 5 px of any annotation or of a mean probability > 0.1.

    Args:
        probability: (...) mean probability, any spatial rank.
        annotation: (...) mean annotation, same shape.

    Returns:
        (...) bool; all false when there is neither.
    """
    seed = (annotation > 0) | (probability > ZONE_PROBABILITY)
    zone = np.zeros(seed.shape, bool)
    if seed.any():
        # Exact: whatever lies within the radius lies in the box, and so does its nearest seed.
        box = bounding_box(seed, margin=ZONE_RADIUS)
        zone[box] = ndimage.distance_transform_edt(~seed[box]) <= ZONE_RADIUS
    return zone


def brier(probability: np.ndarray, annotation: np.ndarray, zone: np.ndarray) -> float:
    """Mean squared difference of mean probability and mean annotation over the zone.

    Args:
        probability: (...) mean probability.
        annotation: (...) mean annotation.
        zone: (...) bool.

    Returns:
        A value in [0, 1]; nan when the zone is empty.

    Source: Brier (1950), with the share of raters in place of a 0/1 outcome.
    """
    return float(np.mean((probability - annotation)[zone] ** 2)) if zone.any() else float("nan")


def ece_bins(probability: np.ndarray, annotation: np.ndarray, zone: np.ndarray) -> np.ndarray:
    """Sums over the zone from which `ece` is computed; sums of cases add up, so pooling is exact.

    Bins are [k/15, (k + 1)/15) of the mean probability; the last one includes 1.

    Args:
        probability: (...) mean probability.
        annotation: (...) mean annotation.
        zone: (...) bool.

    Returns:
        (3, 15): pixels, sum of probabilities and sum of annotations in each bin.
    """
    p, y = probability[zone], annotation[zone]
    index = np.minimum((p * NUM_BINS).astype(int), NUM_BINS - 1)
    return np.stack([np.bincount(index, w, NUM_BINS) for w in (np.ones_like(p), p, y)])


def ece(bins: np.ndarray) -> np.ndarray:
    """Expected calibration error of bin sums, 15 equal-width bins weighted by their pixels.

    Args:
        bins: (..., 3, 15) from `ece_bins`, or a sum of such.

    Returns:
        (...) values in [0, 1]; nan where there is no pixel.

    Source: Naeini et al. (2015); Guo et al. (2017), with the share of raters as the outcome.
    """
    pixels = bins[..., 0, :].sum(axis=-1)
    gaps = np.abs(bins[..., 1, :] - bins[..., 2, :]).sum(axis=-1)
    return np.where(pixels > 0, gaps / np.where(pixels > 0, pixels, 1), np.nan)


def ncc(predicted: np.ndarray, annotated: np.ndarray) -> float:
    """Correlation of the predicted variance map with the annotations' variance map, whole maps.

    Args:
        predicted: (...) variance of the sample probabilities.
        annotated: (...) variance of the annotations.

    Returns:
        A value in [-1, 1]; nan when either map is constant (as with one sample or one rater).

    Source: Baumgartner et al. (2019), "PHiSeg", on variance instead of cross-entropy maps.
    """
    if min(np.ptp(predicted), np.ptp(annotated)) < _CONSTANT:
        return float("nan")
    a, b = predicted - predicted.mean(), annotated - annotated.mean()
    return float(np.clip(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)), -1, 1))
