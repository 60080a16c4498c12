"""Two devices give the weights of one."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from on_backend import environment_outside

from keras_proseg import UsageError
from keras_proseg.config import TrainConfig
from keras_proseg.runtime import data_parallel

pytestmark = pytest.mark.backend
BACKEND = keras.backend.backend()
SCRIPT = """
import os, sys
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
sys.path.insert(0, r"{tests}")
import keras, numpy as np
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tiny_data import TINY, tiny_arrays
from functools import partial
from keras_proseg import Dataset, load, optimizers, train
from keras_proseg.session import Session
# Else the rounding of a gradient near 0, which devices share in another order, decides on a step.
optimizers.Adam = partial(optimizers.Adam, epsilon=1e-3)
# The weights are what is asked.
Session._validate = lambda self: {{"ged": 0.5, "dice_match": 0.5, "dice_rater": 0.5}}
Session._report = lambda self: None
arrays = tiny_arrays(24)
arrays["annotated"] = np.ones((24, 3), bool)
arrays["annotated"][::3, 1] = False
dataset = Dataset.from_arrays(**arrays, patients=np.arange(24) // 2)
settings = TINY | {{"steps": 4, "batch_size": 4, "validations": 1, "warmup": 1}}
settings["learning_rate"] = 2e-3  # rounding grows with the steps
for devices in (1, 2):
    run = train(dataset, r"{out}/" + str(devices), print, devices=devices, **settings)
    model = load(run.path)
    assert model.steps_done == 4 and keras.ops.convert_to_numpy(model.steps_skipped) == 0
    weights = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]
    np.savez(r"{out}/" + str(devices) + ".npz", *weights)
"""


@pytest.mark.skipif(BACKEND == "torch", reason="one device on PyTorch")
def test_two_devices_give_the_weights_of_one(tmp_path):
    code = SCRIPT.format(tests=Path(__file__).parents[1], out=tmp_path)
    command, environment = [sys.executable, "-c", code], environment_outside()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (np.load(tmp_path / f"{count}.npz") for count in (1, 2))
    assert len(one.files) > 20
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], atol=2e-5, err_msg=name)


def test_devices_that_are_not_there():
    with pytest.raises(UsageError, match="Received: 64"), data_parallel(64):
        pass
    with pytest.raises(UsageError, match="multiple of 3 devices. Received: 8"):
        TrainConfig(batch_size=8, devices=3)
