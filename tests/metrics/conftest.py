from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def make_case() -> Callable:
    """Annotations and sample probabilities that overlap, differ and have ragged outlines."""

    def make(seed=0, raters=3, samples=5, shape=(14, 11)):
        rng = np.random.default_rng(seed)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)

        def logits(count):
            centres = np.array(shape) / 2 + rng.normal(0, 1, (count, len(shape)))
            distance = np.linalg.norm(grid - centres.reshape(count, *[1] * len(shape), -1), axis=-1)
            return 3.5 - distance + rng.normal(0, 0.8, distance.shape)

        masks = (logits(raters) > 0).astype(np.uint8)
        return masks, (1 / (1 + np.exp(-logits(samples)))).astype(np.float32)

    return make
