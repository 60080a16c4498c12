"""What the tests need of the backend in use."""

import os

import keras
import numpy as np

# TensorFlow takes longer to make a graph than to run the few steps of a test without one.
QUICK = {"run_eagerly": keras.backend.backend() == "tensorflow"}


def environment_outside():
    """The environment of a process as users start one: with TensorFlow's threads not set."""
    threads = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"}  # by conftest.py
    kept = {name: value for name, value in os.environ.items() if name not in threads}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3"}


class Repeated(keras.utils.PyDataset):
    """One batch, again and again."""

    def __init__(self, batch, count):
        super().__init__()
        self.batches = [batch] * count

    @property
    def num_batches(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def loss_and_gradients(model, function):
    """`function()`, a scalar of the weights of `model`, and its gradients by path, as NumPy."""
    weights = model.trainable_variables
    loss, gradients = _BY_BACKEND[keras.backend.backend()](weights, function)
    found = {w.path: np.asarray(g) for w, g in zip(weights, gradients, strict=True)}
    return float(loss), found


def _tensorflow(weights, function):
    import tensorflow as tf

    sources = [weight.value for weight in weights]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        loss = function()
    return loss, tape.gradient(loss, sources, unconnected_gradients="zero")


def _jax(weights, function):
    import jax

    def of(values):
        with keras.StatelessScope(list(zip(weights, values, strict=True))):
            return function()

    return jax.jit(jax.value_and_grad(of))([weight.value for weight in weights])


def _torch(weights, function):
    import torch

    loss = function()
    sources = [weight.value for weight in weights]
    gradients = torch.autograd.grad(loss, sources, allow_unused=True, materialize_grads=True)
    return loss.detach(), gradients


_BY_BACKEND = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def gradient(function, value):
    """d function(value) / d value, as NumPy."""
    tensor = keras.ops.convert_to_tensor(value)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensor)
            result = function(tensor)
        return np.asarray(tape.gradient(result, tensor))
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(tensor))
    tensor = tensor.clone().requires_grad_()
    function(tensor).backward()
    return tensor.grad.numpy()
