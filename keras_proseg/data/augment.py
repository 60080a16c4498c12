"""Augmentation: drawn once per image, applied to the image and all its masks."""

from typing import Any

import numpy as np

from keras_proseg.data.warp import warped

GAIN, SHIFT = 0.1, 0.1  # standard deviations: of contrast, and of brightness in image deviations


def draw_augmentation(
    seed: list[int], batch: int, height: int, width: int, rotation: str, zoom: float
) -> dict[str, Any]:
    """Draws flips, a rotation and a zoom about the centre, contrast and brightness.

    Args:
        seed: of NumPy's generator.
        batch: B.
        height: H in pixels.
        width: W in pixels.
        rotation: by `"any"` angle, or by `"quarter"` turns (half turns where H is not W), which
            move pixels and blur none.
        zoom: standard deviation of the log of the zoom factor; 0 for none.

    Returns:
        `transform` (B, 8) for `warped`, `gain` and `shift` (B, 1, 1, 1).
    """
    rng = np.random.default_rng(seed)
    turns = rng.uniform(0, 4, batch) if rotation == "any" else rng.integers(0, 4, batch)
    if rotation == "quarter" and height != width:  # else parts of the image would leave it
        turns = 2 * (turns % 2)
    flip = rng.choice([-1.0, 1.0], batch)
    cosine, sine = np.cos(turns * np.pi / 2), np.sin(turns * np.pi / 2)
    linear = np.stack([cosine * flip, -sine, sine * flip, cosine], axis=-1).reshape(batch, 2, 2)
    linear = linear * np.exp(rng.normal(0, 1, (batch, 1, 1)) * zoom)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - linear @ centre
    zeros = np.zeros((batch, 2))
    rows = np.concatenate([linear, offset[:, :, None]], axis=2).reshape(batch, 6)
    gain, shift = rng.normal(1, GAIN, (batch, 1, 1, 1)), rng.normal(0, SHIFT, (batch, 1, 1, 1))
    columns = {"transform": np.concatenate([rows, zeros], axis=1), "gain": gain, "shift": shift}
    return {name: column.astype(np.float32) for name, column in columns.items()}


def augment(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """Applies the draws in `batch` (`transform`, `gain`, `shift`) to `image` and `masks`.

    One map for everything: what the edge mirrors into the image it mirrors into the masks. A turned
    mask holds at its outline how much of a pixel is inside.
    """
    cases = zip(batch["image"], batch["masks"], batch["transform"], strict=True)
    images, masks = zip(*(warped(*case) for case in cases), strict=True)
    image = np.stack(images)
    # By channel, as they may be of different units.
    middle = image.mean(axis=(1, 2), keepdims=True)
    spread = image.std(axis=(1, 2), keepdims=True)
    return {
        "image": middle + (image - middle) * batch["gain"] + spread * batch["shift"],
        "masks": np.stack(masks),
        "annotated": batch["annotated"],
    }
