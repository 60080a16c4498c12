"""What a model loses on images whose window or spacing is not that of its training images.

    python benchmarks/shifts.py RUN [--data SOURCE] [--split val] [--num-samples 16]

Contrast and brightness of 8-bit images are changed as a wider, narrower or moved window would
(clipped to 0 to 255), then the pixel spacing; masks follow the spacing.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import affine_transform

from keras_proseg.data.dataset import Dataset
from keras_proseg.evaluation import evaluate
from keras_proseg.pretrained import find_run
from keras_proseg.run_data import cases_of_run

NAMES = ("ged", "dice_match", "dice_soft", "dice_rater")


def windowed(gain: float, shift: float) -> Callable[[Dataset], Dataset]:
    """Contrast times `gain` about mid-grey, brightness plus `shift` grey levels."""

    def change(cases: Dataset) -> Dataset:
        grey = (np.asarray(cases.images, np.float32) - 127.5) * gain + 127.5 + shift
        return replace(cases, images=np.clip(grey, 0, 255))

    return change


def zoomed(factor: float) -> Callable[[Dataset], Dataset]:
    """Pixels smaller by `factor`: the nodule covers more of them."""

    def scaled(planes: np.ndarray, order: int) -> np.ndarray:
        """planes (M, H, W)."""
        step = np.array([1, 1 / factor, 1 / factor])
        centre = (np.array(planes.shape) - 1) / 2
        offset = centre - step * centre
        return affine_transform(planes, step, offset, order=order, mode="nearest")

    def change(cases: Dataset) -> Dataset:
        images = scaled(np.asarray(cases.images, np.float32)[..., 0], 1)[..., None]
        masks = np.stack([
            scaled(cases.masks[:, rater, :, :, 0], 0) for rater in range(cases.masks.shape[1])
        ], axis=1)[..., None]  # fmt: skip
        return replace(cases, images=images, masks=masks)

    return change


SHIFTS = {
    "as trained": lambda cases: cases,
    "window a fifth narrower": windowed(1.25, 0),
    "window a quarter wider": windowed(0.8, 0),
    "window half as wide": windowed(2.0, 0),
    "window twice as wide": windowed(0.5, 0),
    "level 10 % higher": windowed(1, -25.5),
    "level 10 % lower": windowed(1, 25.5),
    "pixels 20 % smaller": zoomed(1.25),
    "pixels 25 % larger": zoomed(0.8),
}


def main() -> None:
    """Prints one line per change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--num-samples", type=int, default=16)
    options = parser.parse_args()
    run = find_run(options.run)
    cases = cases_of_run(run, options.data, options.split)
    model = run.load_model()
    print(f"{'':28s}" + "".join(f"{name:>12s}" for name in NAMES))
    for what, change in SHIFTS.items():
        summary, _ = evaluate(model, change(cases), options.num_samples, progress=False)
        print(f"{what:28s}" + "".join(f"{summary[name]:12.3f}" for name in NAMES), flush=True)


if __name__ == "__main__":
    main()
