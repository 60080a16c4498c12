"""A step's parts are worked beside each other, and give what the whole batch gives."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from on_backend import environment_outside, loss_and_gradients
from tiny_model import batch, tiny

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
SPREAD = (1, CORES) if 1 < CORES <= 4 else (0, 0)
STARTS = {
    "before TensorFlow": ("", SPREAD),
    "after it": ("keras.ops.zeros(1)", (0, 0)),
    "with threads that are set": (
        "tf.config.threading.set_intra_op_parallelism_threads(3)",
        (3, 0),
    ),
    "with threads between operations that are set": (
        "tf.config.threading.set_inter_op_parallelism_threads(1)",
        (0, 1),
    ),
    "with threads of the environment": ("os.environ['TF_NUM_INTRAOP_THREADS'] = '1'", (0, 0)),
    "with one of them": ("os.environ['TF_NUM_INTEROP_THREADS'] = '1'", (0, 0)),
}
SCRIPT = """
import os, keras, tensorflow as tf
from keras_proseg_cli.start import start_backend
from keras_proseg import ProSeg
from keras_proseg.runtime import spread_operations
from keras_proseg.trainers import TrainStep
{before}
{spread}
step = TrainStep()
step.jit_compile = False
parts = [step.parts_of(size) for size in (1, 64, None)]
step.jit_compile = True
threads = tf.config.threading
print(threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads())
print(*parts, step.parts_of(64))
"""


@pytest.mark.parametrize("settings", [{}, {"ambiguity_per_rater": True, "raters_per_step": 2}])
def test_parts_of_a_batch_give_what_the_whole_gives(settings):
    whole, parted = tiny(**settings), tiny(**settings)
    parted.parts_of = lambda size: 3
    data = batch()
    data["annotated"][1, 0] = False
    (loss, gradients), (loss2, gradients2) = (
        loss_and_gradients(model, lambda m=model: m.compute_terms_and_loss(data)[1])
        for model in (whole, parted)
    )
    np.testing.assert_allclose(loss2, loss, rtol=1e-5)
    pairs = zip(gradients.values(), gradients2.values(), strict=True)
    for path, (gradient, gradient2) in zip(gradients, pairs, strict=True):
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(gradient2, gradient, atol=1e-4 * scale, err_msg=path)
    terms, terms2 = (m.elbo_terms(data) for m in (whole, parted))
    for value, value2 in zip(terms, terms2, strict=True):
        assert keras.ops.shape(value) == keras.ops.shape(value2)


@pytest.mark.parametrize("start", STARTS)
def test_operations_are_spread_over_the_threads(start):
    before, (intra, inter) = STARTS[start]
    many = inter if intra == 1 else 1
    expected = f"{intra} {inter}\n1 {many} 1 1\n"
    assert answer(before, "spread_operations()") == expected


@pytest.mark.parametrize("first", ["start_backend(None)", "ProSeg(raters=['a'])"])
def test_commands_and_models_spread_them(first):
    assert answer("", first).startswith("{} {}\n".format(*SPREAD))


def answer(before, spread):
    environment = environment_outside() | {"CUDA_VISIBLE_DEVICES": "-1"}
    code = SCRIPT.format(before=before, spread=spread)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout
