"""Training batches for backends that TensorFlow's input pipeline does not feed."""

from typing import Any

import keras

from keras_proseg.data.pipeline import BatchReader


class TrainingSequence(keras.utils.PyDataset):
    """Endless batches from `first_step` on, the same as `training_pipeline` gives.

    Args:
        reader: of the training cases.
        first_step: number of the first batch.
        augmented: whether to augment.
    """

    def __init__(self, reader: BatchReader, first_step: int, augmented: bool) -> None:
        super().__init__(workers=1)
        self.reader, self.first_step, self.augmented = reader, first_step, augmented

    @property
    def num_batches(self) -> None:
        """None: as many as are asked for."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.reader.training_batch(self.first_step + index, self.augmented)
