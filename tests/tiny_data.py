"""Tiny data and settings for the tests."""

import numpy as np

SMALL = {"width": 4, "depth": 2, "ambiguity_stride": 4, "mean_samples": 3, "views": 2}
# Of a training: one view, whose graphs take half the time to make.
TINY = SMALL | {"val_cases": 4, "val_samples": 3, "num_samples": 4, "views": 1}


def tiny_arrays(count=24, size=32, raters=3, seed=0):
    """Bright discs; rater k draws a radius of its own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    images = rng.normal(0, 10, (count, size, size, 1)).astype(np.float32)
    masks = np.zeros((count, raters, size, size), np.uint8)
    for case in range(count):
        y, x = rng.uniform(size * 0.35, size * 0.65, 2)
        distance = np.hypot(rows - y, columns - x)
        images[case, ..., 0] += 100 * (distance < 7)
        for rater in range(raters):
            masks[case, rater] = distance < 4.5 + 2.5 * rater
    return {"images": images, "masks": masks}
