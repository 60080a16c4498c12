"""An image and its masks, moved by one affine map: pixels moved whole, or bilinear."""

import numpy as np
from scipy.sparse import csr_array

WHOLE = 1e-6  # how far a cosine of a quarter turn may be from 0 or 1


def warped(
    image: np.ndarray, masks: np.ndarray, transform: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, C) and masks (R, H, W, K) moved by one map, in float32.

    As `keras.ops.image.affine_transform(..., "bilinear", "reflect")` moves them, to float32
    rounding, in less than half of its time under TensorFlow. Quarter turns of square images
    interpolate nothing.

    Args:
        image: (H, W, C).
        masks: (R, H, W, K).
        transform: (8,), from places in the result to places in `image`.
    """
    height, width, channels = image.shape
    layers = np.moveaxis(masks, 0, -2).reshape(height, width, -1)
    together = np.concatenate([image, layers], axis=-1, dtype=np.float32)
    linear = transform[[0, 1, 3, 4]]
    whole = np.rint(linear).astype(int)
    turns = np.abs(whole).sum() == 2 and np.abs(linear - whole).max() < WHOLE
    if height == width and turns:
        moved = _turned(together, *whole)
    else:
        pixels = together.reshape(height * width, -1)
        moved = (_interpolation(transform, height, width) @ pixels).reshape(together.shape)
    drawn = moved[..., channels:].reshape(height, width, len(masks), -1)
    return moved[..., :channels], np.moveaxis(drawn, 2, 0)


def _turned(array: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """array (H, H, ...) moved by x' = a x + b y, y' = c x + d y with a, b, c, d of 0 and +-1."""
    return array[::d, ::a] if a else array.swapaxes(0, 1)[::b, ::c]


def _interpolation(transform: np.ndarray, height: int, width: int) -> csr_array:
    """The matrix from the pixels of an image to those of the moved one: four shares in a row."""
    a, b, across, c, d, down = transform[:6]
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    x = _mirrored(a * columns + (b * rows + across), width)
    y = _mirrored(c * columns + (d * rows + down), height)
    left = np.minimum(np.floor(x), max(width - 2, 0))
    top = np.minimum(np.floor(y), max(height - 2, 0))
    right, lower = x - left, y - top
    both = right * lower
    shares = np.stack([1 - right - lower + both, right - both, lower - both, both], axis=-1)
    first = top.astype(np.int32) * width + left.astype(np.int32)
    beside, below = min(1, width - 1), width * min(1, height - 1)
    sources = np.stack([first, first + beside, first + below, first + (beside + below)], axis=-1)
    starts = np.arange(0, sources.size + 1, 4, dtype=np.int32)
    count = height * width
    return csr_array((shares.ravel(), sources.ravel(), starts), shape=(count, count))


def _mirrored(place: np.ndarray, size: int) -> np.ndarray:
    """Coordinates beyond the image, mirrored at its outermost edges into [0, size - 1]."""
    place = place + np.float32(0.5)
    place = place - 2 * size * np.floor(place / (2 * size))
    return np.clip(size - 0.5 - np.abs(place - size), 0, size - 1)
