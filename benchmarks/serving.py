"""The export against Keras: latency and throughput of the same answers, loading time, file size.

    python benchmarks/serving.py RUN [--sizes 128 512] [--batches 1 8] [--seconds 12]

Each pair of calls is taken in turns, Keras then the export, in one process with one set of threads,
so that a busy machine slows both. Medians with 10 to 90 % by wall clock; the ratios are medians
over pairs of export / Keras, by wall clock and by CPU seconds, which a busy machine hardly touches.
S = 16. Loading is the median of three processes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

NUM_SAMPLES = 16
LOAD = """
import sys, time
import tensorflow as tf
begin = time.perf_counter()
model = tf.saved_model.load(sys.argv[1])
print(time.perf_counter() - begin)
"""


def main() -> None:
    """Exports the run and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=12.0, help="Of each row.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from keras_proseg.export import export_saved_model

        path = export_saved_model(options.run, Path(folder) / "proseg", num_samples=NUM_SAMPLES)
        _print_files(path)
        _print_speed(options, path)


def _print_files(path: Path) -> None:
    sizes = {file.name: file.stat().st_size / 1e6 for file in path.rglob("*") if file.is_file()}
    command = [sys.executable, "-c", LOAD, str(path)]
    seconds = [float(subprocess.check_output(command, text=True).split()[-1]) for _ in range(3)]
    print(
        f"size {sum(sizes.values()):.2f} MB, of which graph {sizes['saved_model.pb']:.2f};", end=""
    )
    print(f" loaded in {np.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})\n")


def _print_speed(options: argparse.Namespace, path: Path) -> None:
    import tensorflow as tf

    from keras_proseg import load

    model, served = load(options.run), tf.saved_model.load(path).signatures
    print("| signature | pixels | batch | Keras, ms | export, ms | ratio | by CPU | images/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ("serving_default", "sample"):
        for size in options.sizes:
            for batch in options.batches:
                pair = _calls(name, model, served, (batch, size, size))
                taken = _in_turns(*pair, options.seconds)
                keras, export = taken[0]
                wall, cpu = np.median(taken[:, 1] / taken[:, 0], axis=-1)
                cells = f"{name} | {size} | {batch} | {_cell(keras)} | {_cell(export)}"
                print(
                    f"| {cells} | {wall:.2f} | {cpu:.2f} | {batch / np.median(export):.2f} |",
                    flush=True,
                )


def _calls(name: str, model: Any, served: Any, shape: Any) -> tuple[Callable, Callable]:
    import tensorflow as tf

    settings = model.settings
    scaling = settings.intensity
    rng = np.random.default_rng(0)
    image = rng.normal(scaling.mean, scaling.std, (*shape, settings.image_channels))
    image = image.astype("float32")
    if name == "serving_default":
        return (
            lambda: model.uncertainty(image),
            lambda: {k: v.numpy() for k, v in served[name](image=tf.constant(image)).items()},
        )
    given = {"rater": tf.fill(shape[:1], -1), "seed": tf.range(shape[0])}
    return (
        lambda: model.sample(image, None, NUM_SAMPLES, seed=0),
        lambda: served[name](image=tf.constant(image), **given)["samples"].numpy(),
    )


def _in_turns(one: Callable, other: Callable, seconds: float) -> Any:
    """Seconds (wall or CPU, one or other, N) of N pairs of calls, after one unmeasured pair."""
    one(), other()
    taken = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 3:
        clocks = [(time.perf_counter(), time.process_time())]
        for call in (one, other):
            call()
            clocks.append((time.perf_counter(), time.process_time()))
        taken.append(np.diff(clocks, axis=0).T)
    return np.stack(taken, axis=-1)


def _cell(seconds: Any) -> str:
    low, middle, high = 1000 * np.percentile(seconds, [10, 50, 90])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
