"""Does each rater's prediction fit that rater best? Predicted areas, and Dice of all against all.

    python benchmarks/manners.py RUN [--data SOURCE] [--split val]

Row: the rater whose masks are the truth. Column: the rater who is predicted. `own - others`: Dice
of the rater's own prediction minus the mean of the others' on the same masks. Cases are averaged
per group of the split (patient or image) first.
"""

import argparse

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.metrics.overlap import pairwise_dice
from keras_proseg.run_data import cases_of_run
from keras_proseg.runs import Run


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    run = Run.open(options.run)
    cases = cases_of_run(run, options.data, options.split)
    model = run.load_model()
    means = np.concatenate(
        [model.rater_moments(cases.images[k : k + 16])[0] for k in range(0, len(cases), 16)]
    )
    predicted = means > 0.5
    print(f"{len(cases)} {options.split} cases of {len(np.unique(cases.patients))} groups")
    _print_areas(predicted, cases)
    _print_table(_dice_table(predicted, cases), cases.raters)


def _print_areas(predicted: np.ndarray, cases: Dataset) -> None:
    areas = predicted.sum(axis=(2, 3, 4)).mean(axis=0)
    drawn = np.asarray(cases.masks).sum(axis=(2, 3, 4)).mean(axis=0)
    for rater, name in enumerate(cases.raters):
        guess, truth = (a[rater] / np.delete(a, rater).mean() for a in (areas, drawn))
        print(f"{name:12s} area / mean of the others: predicted {guess:.3f}, drawn {truth:.3f}")


def _dice_table(predicted: np.ndarray, cases: Dataset) -> np.ndarray:
    """Mean Dice (R, R): truth by row, prediction by column."""
    pairs = zip(np.asarray(cases.masks).astype(bool), predicted, strict=True)
    tables = np.stack([pairwise_dice(masks, guess) for masks, guess in pairs])
    tables[~cases.annotated] = np.nan
    groups = [np.nanmean(tables[cases.patients == p], axis=0) for p in np.unique(cases.patients)]
    return np.nanmean(groups, axis=0)


def _print_table(table: np.ndarray, raters: tuple[str, ...]) -> None:
    print(f"{'':12s}" + "".join(f"{name:>10s}" for name in raters) + f"{'own - others':>14s}")
    gains = [row[k] - np.delete(row, k).mean() for k, row in enumerate(table)]
    for name, row, gain in zip(raters, table, gains, strict=True):
        print(f"{name:12s}" + "".join(f"{v:10.4f}" for v in row) + f"{gain:+14.4f}")
    print(f"mean own - others: {np.mean(gains):+.4f}")


if __name__ == "__main__":
    main()
