"""How fast a prepared file is read, and what preparing costs.

python benchmarks/prepared.py [--cases 15000] [--batch 32]
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_proseg.data.dataset import Dataset
from keras_proseg.data.prepared import load_prepared
from keras_proseg.data.preparing import write_prepared

SIZE, RATERS, REPEATS = 128, 4, 7


def main() -> None:
    """Prints size, seconds, rates and peak memory, on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=15000)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prepared"
        dataset = crops(options.cases)
        begin = time.perf_counter()
        write_prepared(dataset, path)
        seconds, size = time.perf_counter() - begin, path.stat().st_size / 1e6
        print(f"write: {seconds:.1f} s, {size:.0f} MB, peak {peak():.0f} MB with the arrays")
        del dataset
        sys.stdout.flush()
        reading = os.fork()
        if not reading:
            read(path, options.batch)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(reading, 0)


def crops(count: int) -> Dataset:
    """Noise in HU and discs of random radius."""
    rng = np.random.default_rng(0)
    images = rng.integers(-1000, 400, (count, SIZE, SIZE, 1), dtype=np.int16)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(rows - SIZE / 2, columns - SIZE / 2)
    discs = np.stack([distance < radius for radius in range(40)]).astype(np.uint8)
    masks = discs[rng.integers(0, 40, (count, RATERS))][..., None]
    return Dataset.from_arrays(images, masks, patients=np.arange(count) // 6)


def read(path: Path, batch: int) -> None:
    """Times opening, and shuffled batches of raw image and unpacked masks."""
    begin = time.perf_counter()
    dataset = load_prepared([path])
    print(f"open, with checksums: {time.perf_counter() - begin:.2f} s")
    order = np.random.default_rng(0).permutation(len(dataset))
    rates = np.array([rate(dataset, order, batch) for _ in range(REPEATS)])
    for name, own in zip(("by the clock", "of CPU time"), rates.T, strict=True):
        low, middle, high = np.percentile(own, [10, 50, 90])
        print(f"read and unpack: {middle:,.0f} cases/s {name} ({low:,.0f} to {high:,.0f})")
    own = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]
    print(
        f"reader: {peak():.0f} MB at its peak, of which {int(own) / 1024:.0f} MB are not file pages"
    )


def peak() -> float:
    """Peak resident memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rate(dataset: Dataset, order: np.ndarray, batch: int) -> tuple[float, float]:
    """Cases per second of one pass in shuffled order: of the clock, of CPU time."""
    begin, busy = time.perf_counter(), time.process_time()
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        image, masks = dataset.images[rows], dataset.masks[rows]
        assert len(image) == len(masks)
    count = len(order)
    return count / (time.perf_counter() - begin), count / (time.process_time() - busy)


if __name__ == "__main__":
    main()
