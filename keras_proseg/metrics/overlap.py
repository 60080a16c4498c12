"""Overlap of binary masks, and the one rule for empty masks.

    IoU(a, b)  = |a and b| / |a or b|
    Dice(a, b) = 2 |a and b| / (|a| + |b|) = 2 IoU / (1 + IoU)

Two empty masks agree: IoU = Dice = 1. One empty and one not share nothing: IoU = Dice = 0. Nothing
else in the package treats empty masks; every overlap passes through `iou_from_counts`.
"""

import numpy as np

# Float32 products count exactly up to 2^24 pixels; chunks far below that also bound the memory.
_CHUNK = 2**18


def iou_from_counts(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """IoU of pixel counts, by the one rule: an empty union is full agreement.

    Args:
        intersection: pixels in both masks, any shape.
        union: pixels in either mask, same shape.

    Returns:
        IoU in [0, 1], float64, same shape.
    """
    empty = union == 0
    return np.where(empty, 1.0, intersection / np.where(empty, 1, union))


def dice_from_iou(iou: np.ndarray) -> np.ndarray:
    """Dice of the same masks as `iou`, any shape; keeps the rule (1 stays 1, 0 stays 0)."""
    return 2 * iou / (1 + iou)


def pairwise_intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels shared by every mask of one stack with every mask of another.

    Args:
        a: (A, ...) bool.
        b: (B, ...) bool, same spatial shape.

    Returns:
        (A, B) float64 counts, exact for any number of pixels.
    """
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    counts = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        counts += a[:, part].astype(np.float32) @ b[:, part].astype(np.float32).T
    return counts


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every mask of `a` (A, ...) bool with every mask of `b` (B, ...) bool: (A, B)."""
    shared = pairwise_intersections(a, b)
    return iou_from_counts(shared, _areas(a)[:, None] + _areas(b)[None, :] - shared)


def pairwise_dice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dice of every mask of `a` (A, ...) bool with every mask of `b` (B, ...) bool: (A, B)."""
    return dice_from_iou(pairwise_iou(a, b))


def paired_dice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dice of each mask of `a` (A, ...) bool with the one at its place in `b` (A, ...): (A,)."""
    return dice_from_iou(iou_from_counts(_areas(a & b), _areas(a | b)))


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box around the foreground of one mask, as an index.

    Args:
        mask: (...) bool, any spatial rank.
        margin: pixels to add on every side, as far as the image goes.

    Returns:
        One slice per axis; the whole image when the mask is empty.
    """
    if not mask.any():
        return (slice(None),) * mask.ndim
    axes = range(mask.ndim)
    hits = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    return tuple(slice(max(hit[0] - margin, 0), hit[-1] + 1 + margin) for hit in hits)


def _areas(masks: np.ndarray) -> np.ndarray:
    return np.count_nonzero(masks.reshape(len(masks), -1), axis=1)
