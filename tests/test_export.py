import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_proseg.errors import UsageError
from keras_proseg.export import export_saved_model


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    return export_saved_model(tiny_run.path, tmp_path_factory.mktemp("served") / "proseg", 4)


def test_it_agrees_with_the_model_at_any_size(exported, tiny_model):
    served = tf.saved_model.load(exported).signatures["serving_default"]
    for shape in [(2, 32, 32, 1), (1, 45, 61, 1)]:
        image = np.random.default_rng(0).normal(0, 30, shape).astype("float32")
        answer = served(image=tf.constant(image))
        maps = tiny_model.uncertainty(image)
        np.testing.assert_allclose(answer["probability"], maps["mean"], atol=1e-5)
        for name in ("total", "between_rater", "boundary"):
            np.testing.assert_allclose(answer[name], maps[name], atol=1e-5)


def test_samples_are_repeatable_and_alone(exported):
    served = tf.saved_model.load(exported).signatures["sample"]
    image = np.random.default_rng(0).normal(0, 30, (3, 32, 40, 1)).astype("float32")

    def sample(images, raters, seeds):
        arrays = [tf.constant(raters, tf.int32), tf.constant(seeds, tf.int32)]
        return served(image=tf.constant(images), rater=arrays[0], seed=arrays[1])["samples"].numpy()

    together = sample(image, [-1, 0, 2], [5, 6, 7])
    assert together.shape == (3, 4, 32, 40, 1)
    np.testing.assert_allclose(sample(image[1:2], [0], [6])[0], together[1], atol=1e-6)
    assert (sample(image[1:2], [0], [8])[0] != together[1]).any()
    with pytest.raises(tf.errors.InvalidArgumentError, match="rater must be"):
        sample(image[:1], [3], [0])


def test_it_loads_without_this_package(exported):
    code = (
        "import sys, tensorflow as tf; m = tf.saved_model.load(sys.argv[1]);"
        "print(m.signatures['serving_default'](image=tf.zeros((1, 24, 24, 1)))['total'].shape);"
        "assert 'keras_proseg' not in sys.modules and 'tensorflow_probability' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(exported)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1, 24, 24, 1)" in done.stdout


def test_an_existing_version_is_kept(exported, tiny_run):
    with pytest.raises(UsageError, match="version 1"):
        export_saved_model(tiny_run.path, exported.parent)
