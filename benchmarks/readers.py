"""What other raters' masks tell of a rater's: how far `dice_rater` might go.

    python benchmarks/readers.py DATA [--rater-order area] [--split val]

Each mask is predicted from the other masks of its image, which no model sees: by the mean of the
Dice with each of them, by the one of them that fits best (chosen with the answer at hand), and by
their consensus, smoothed and cut at as many pixels as the mask to predict has (counted in it).
Cases are averaged per group of the split (patient or image) first.
"""

import argparse

import numpy as np
from scipy.ndimage import gaussian_filter

from keras_proseg.config import TrainConfig
from keras_proseg.data.sources import load_dataset
from keras_proseg.data.split import split_rows
from keras_proseg.metrics.overlap import paired_dice, pairwise_dice

SMOOTHING = 1.0  # standard deviation, pixels: else the consensus has few levels to cut at
ROWS = ("any other", "the best other", "consensus, area known")


def main() -> None:
    """Prints one row per predictor: mean over raters, and each of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--rater-order")
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    dataset = load_dataset(options.data, TrainConfig(rater_order=options.rater_order))
    cases = dataset.take(split_rows(dataset, options.split))
    tables = np.stack([_table(*case) for case in zip(cases.masks, cases.annotated, strict=True)])
    groups = [np.nanmean(tables[cases.patients == p], axis=0) for p in np.unique(cases.patients)]
    print(f"{len(cases)} {options.split} cases of {len(groups)} groups")
    print(f"{'':24s}{'mean':>8s}" + "".join(f"{name:>10s}" for name in cases.raters))
    for name, row in zip(ROWS, np.nanmean(groups, axis=0), strict=True):
        print(f"{name:24s}{np.nanmean(row):8.3f}" + "".join(f"{value:10.3f}" for value in row))


def _table(masks: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """Dice (rows, R) of masks (R, H, W, K) predicted from the others; nan where there are none."""
    table = np.full((len(ROWS), len(masks)), np.nan)
    present = np.flatnonzero(annotated)
    for rater in present if len(present) > 1 else ():
        others = masks[present[present != rater]].astype(bool)
        own = masks[rater : rater + 1].astype(bool)
        dice = pairwise_dice(others, own)
        table[:, rater] = dice.mean(), dice.max(), paired_dice(_consensus(others, own), own)[0]
    return table


def _consensus(others: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The pixels that most of `others` hold, as many as `own` (1, H, W, K) has; (1, H, W, K)."""
    share = gaussian_filter(others.mean(axis=0), (SMOOTHING, SMOOTHING, 0))
    count = np.count_nonzero(own)
    least = np.sort(share, axis=None)[-count] if count else np.inf
    return ((share >= least) & (share > 0))[None]


if __name__ == "__main__":
    main()
