"""Training batches as a pure function of (seed, step): a resumed run sees what it would have.

`BatchReader` is the one reader; `training_batches` feeds it to the backend in use: to TensorFlow
through tf.data (`training_pipeline`), to the others as a `keras.utils.PyDataset`.
"""

import atexit
import math
import threading
import time
from typing import Any

import numpy as np

from keras_proseg.config import TrainConfig
from keras_proseg.data.augment import augment, draw_augmentation
from keras_proseg.data.dataset import COLUMNS, Dataset

_READING, _ENDING = threading.Lock(), threading.Event()


class BatchReader:
    """Batch number `step` of an endless run of shuffled epochs; always full batches.

    Args:
        dataset: the cases.
        config: batch size, seed (of order and augmentation), rotation and zoom.
        rows: the cases to read; all by default. Others are never copied.

    Attributes:
        exact_from: from this step on the augmentation moves pixels and interpolates none.
    """

    def __init__(
        self, dataset: Dataset, config: TrainConfig, rows: np.ndarray | None = None
    ) -> None:
        self.dataset, self.config = dataset, config
        self.rows = np.arange(len(dataset)) if rows is None else rows
        self.exact_from = math.inf

    def __len__(self) -> int:
        return len(self.rows)

    def indices(self, step: int) -> np.ndarray:
        """Rows (B,) of the cases in batch `step`."""
        size = self.config.batch_size
        places, count = np.arange(step * size, (step + 1) * size), len(self)
        epochs, rows = np.divmod(places, count)
        orders = {
            epoch: np.random.default_rng([self.config.seed, epoch]).permutation(self.rows)
            for epoch in sorted(set(epochs.tolist()))
        }
        return np.array([orders[e][row] for e, row in zip(epochs.tolist(), rows, strict=True)])

    def training_batch(self, step: int, augmented: bool) -> dict[str, np.ndarray]:
        """What a step is fed: `batch`, moved and changed by `augmentation` where `augmented`."""
        batch = self.batch(step)
        return augment(batch | self.augmentation(step)) if augmented else batch

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """`image` (B, H, W, C), `masks` (B, R, H, W, K), `annotated` (B, R), not augmented."""
        rows = self.indices(step)
        # Not booleans, which Keras cannot average over the devices of a MirroredStrategy.
        annotated = self.dataset.annotated[rows].astype(np.uint8)
        return {
            "image": self.dataset.images[rows].astype(np.float32),
            "masks": self.dataset.masks[rows],
            "annotated": annotated,
        }

    def augmentation(self, step: int) -> dict[str, np.ndarray]:
        """The augmentation's draws for batch `step`."""
        height, width = self.dataset.images.shape[1:3]
        c = self.config
        seed = [c.seed, step, 1]
        rotation, zoom = ("quarter", 0.0) if step >= self.exact_from else (c.rotation, c.zoom)
        return draw_augmentation(seed, c.batch_size, height, width, rotation, zoom)


def training_batches(reader: BatchReader, first_step: int, augmented: bool) -> Any:
    """Endless training batches from `first_step` on, for `fit` on the backend in use."""
    import keras

    if keras.backend.backend() == "tensorflow":
        return training_pipeline(reader, first_step, augmented)
    from keras_proseg.data.sequence import TrainingSequence

    return TrainingSequence(reader, first_step, augmented)


def training_pipeline(reader: BatchReader, first_step: int, augmented: bool) -> Any:
    """An endless tf.data.Dataset of batches from `first_step` on."""
    import tensorflow as tf

    def arrays_of(step: int) -> list[np.ndarray]:
        batch = reader.training_batch(step, augmented)
        return [batch[name] for name in COLUMNS]

    example = arrays_of(0)

    def read(step: Any) -> list[np.ndarray]:
        with _READING:
            return example if _ENDING.is_set() else arrays_of(int(step))

    def load(step: Any) -> dict[str, Any]:
        types = [array.dtype for array in example]
        arrays = tf.numpy_function(read, [step], types, stateful=False)
        for array, like in zip(arrays, example, strict=True):
            array.set_shape(like.shape)
        return dict(zip(COLUMNS, arrays, strict=True))

    steps = tf.data.Dataset.counter(first_step)
    options = tf.data.Options()
    # There is nothing to tune, and the tuner's thread delays the end of an iterator, at which every
    # chunk of a training ends, by up to a minute.
    options.autotune.enabled = False
    batches = steps.map(load, num_parallel_calls=1, deterministic=True).prefetch(2)
    return batches.with_options(options)


@atexit.register
def _end_reading() -> None:
    """Lets no thread of tf.data be in Python while the interpreter ends: either may hang then."""
    _ENDING.set()
    with _READING:
        pass
    time.sleep(0.01)  # what is still fetched ahead is read by then
