"""One export of the tiny run, shared by these tests."""

import numpy as np
import pytest

NUM_SAMPLES = 4


@pytest.fixture(scope="session")
def exported(tiny_run, once):
    from keras_proseg.export import export_saved_model

    def make(folder):
        options = {"num_samples": NUM_SAMPLES, "height": 32, "width": 32}
        export_saved_model(tiny_run.path, folder / "proseg", **options)

    return once("exported", make) / "proseg" / "1"


@pytest.fixture(scope="session")
def served(exported):
    import tensorflow as tf

    return tf.saved_model.load(exported).signatures


@pytest.fixture(scope="session")
def images():
    """Raw pixels of three images, 40 by 45: no multiple of the backbone's stride."""
    image = np.random.default_rng(0).normal(0, 30, (3, 40, 45, 1)).astype("float32")
    image[:, 12:25, 14:30] += 100
    return image
