"""How fast the input pipeline is, beside the training step that it feeds.

KERAS_BACKEND=jax python benchmarks/pipeline.py SOURCE
"""

import sys
import time

import keras
import numpy as np

from keras_proseg.config import TrainConfig
from keras_proseg.data.pipeline import BatchReader, training_batches
from keras_proseg.data.sources import load_dataset
from keras_proseg.data.split import subset
from keras_proseg.model import ProSeg


def main() -> None:
    """Prints images per second, and the share of a step that waits for its batch."""
    size = TrainConfig().batch_size
    cases = subset(load_dataset(sys.argv[1], TrainConfig()), "train")
    reader = BatchReader(cases, TrainConfig())
    batches = endless(training_batches(reader, 0, True))
    next(batches)
    alone = [_timed(lambda: next(batches))[0] for _ in range(40)]
    rate = size / np.median(alone)
    print(f"{keras.backend.backend()}, pipeline alone: {rate:.0f} images/s")
    model = ProSeg(raters=cases.raters, image_channels=cases.images.shape[-1])
    model.compile()
    model.train_on_batch(next(batches))
    waits, steps = [], []
    for _ in range(20):
        wait, batch = _timed(lambda: next(batches))
        waits.append(wait)
        steps.append(_timed(lambda batch=batch: model.train_on_batch(batch))[0])
    training = size / np.median(steps)
    print(f"training: {training:.0f} images/s; the pipeline gives {rate / training:.0f} times that")
    share = np.array(waits) / (np.array(waits) + np.array(steps))
    low, middle, high = 100 * np.percentile(share, [10, 50, 90])
    print(f"step {np.median(steps):.2f} s; waiting {middle:.1f} % ({low:.1f} to {high:.1f}) of it")


def endless(batches):  # type: ignore[no-untyped-def]
    """Batches of tf.data, or of a PyDataset."""
    if hasattr(batches, "take"):
        yield from batches
    step = 0
    while True:
        yield batches[step]
        step += 1


def _timed(call):  # type: ignore[no-untyped-def]
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


if __name__ == "__main__":
    main()
