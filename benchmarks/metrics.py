"""Times the metrics of one case: 52 samples against 4 annotations of 128 x 128 pixels.

Run as `python benchmarks/metrics.py`; set OPENBLAS_NUM_THREADS=1 to time one core. Compares all of
`case_metrics` with a plain NumPy loop over pairs that computes the energy distance alone. Then what
the metrics cost at least: the products of all pairs in the box around the masks at the speed of a
matrix product, and each input read once from memory. And which parts take the time.
"""

import cProfile
import pstats
import time
from collections.abc import Callable

import numpy as np
from speed import gflops

from keras_proseg.metrics import case_metrics
from keras_proseg.metrics.overlap import bounding_box

REPEATS = 11
PROFILED = 100
PARTS = {
    "checks of the arguments": ("_check_masks", "_check_probabilities"),
    "overlaps of all pairs": ("pairwise_iou",),
    "connected components": ("fragments",),
    "mean and variance of the samples": ("mean_and_variance",),
    "zone of `brier` and `ece`": ("boundary_zone",),
    "`dice_soft`": ("dice_soft",),
    "assignment": ("dice_match",),
}


def make_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Annotations (4, 128, 128) and probabilities (52, 128, 128) of discs that differ."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:128, :128]

    def logits() -> np.ndarray:
        row, column = 64 + rng.normal(0, 2, 2)
        return 20 + rng.normal(0, 3) - np.hypot(rows - row, columns - column)

    masks = np.stack([logits() > 0 for _ in range(4)])
    probabilities = np.stack([1 / (1 + np.exp(-logits())) for _ in range(52)])
    return masks.astype(np.uint8), probabilities.astype(np.float32)


def ged_by_loop(masks: np.ndarray, probabilities: np.ndarray) -> float:
    """The energy distance alone, pair by pair."""

    def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([1 - (x & y).sum() / max((x | y).sum(), 1) for x in a for y in b]))

    samples, annotations = probabilities > 0.5, masks > 0
    cross = mean_distance(samples, annotations)
    within = mean_distance(samples, samples) + mean_distance(annotations, annotations)
    return 2 * cross - within


def least(masks: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """What one case takes at this machine's best."""
    samples, annotations = probabilities > 0.5, masks > 0
    box = bounding_box(samples.any(axis=0) | annotations.any(axis=0))
    pixels = np.prod([side.stop - side.start for side in box])
    s, r = len(samples), len(annotations)
    operations = 2 * pixels * (s * r + s * s + r * r) / 1e9
    size = (masks.nbytes + probabilities.nbytes) / 1e9
    times = {"products, ms": 1e3 * operations / gflops(), "reading, ms": 1e3 * size / gigabytes()}
    return {"GFLOP": operations, "MB": 1e3 * size} | times


def gigabytes() -> float:
    """10^9 bytes a second, read by the sum of an array of 512 MB on one core."""
    values = np.ones(2**27, np.float32)
    return values.nbytes / min(seconds(values.sum) for _ in range(3)) / 1e9


def shares(case: Callable[[], object]) -> dict[str, float]:
    """Share of the time of `case` that each of `PARTS` takes."""
    profile = cProfile.Profile()
    profile.runcall(lambda: [case() for _ in range(PROFILED)])
    spent = pstats.Stats(profile).stats
    of_name = {name: values[3] for (_, _, name), values in spent.items()}
    total = of_name["measure_case"]
    return {part: sum(of_name[n] for n in names) / total for part, names in PARTS.items()}


def seconds(function, *arguments) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def report(name: str, values: list[float], unit: str) -> None:
    """Prints one line of minimum, median and maximum."""
    low, middle, high = min(values), float(np.median(values)), max(values)
    print(f"{name:44s} min {low:7.2f}  median {middle:7.2f}  max {high:7.2f} {unit}")


def main() -> None:
    """Times both in turn, so that a busy machine slows both alike."""
    smooth = make_case()
    noise = smooth[0], np.random.default_rng(1).random(smooth[1].shape, dtype=np.float32)
    assert abs(ged_by_loop(*smooth) - case_metrics(*smooth)["ged"]) < 1e-9
    for name, case in (("smooth masks", smooth), ("pure noise (worst case)", noise)):
        pairs = [
            (seconds(case_metrics, *case), seconds(ged_by_loop, *case)) for _ in range(REPEATS)
        ]
        report(f"{name}: case_metrics", [1e3 * ours for ours, _ in pairs], "ms")
        report(f"{name}: ged by loop", [1e3 * loop for _, loop in pairs], "ms")
        report(f"{name}: ratio", [loop / ours for ours, loop in pairs], "x")
    print("at least: " + ", ".join(f"{v:.3g} {name}" for name, v in least(*smooth).items()))
    parts = shares(lambda: case_metrics(*smooth)).items()
    print(", ".join(f"{part} {100 * share:.0f} %" for part, share in parts))


if __name__ == "__main__":
    main()
