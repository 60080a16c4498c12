"""Functions as concrete graphs, and the module that a SavedModel is made of."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def concrete(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> Any:
    """`function` of tensors like `specs`, as one graph."""
    return tf.function(function, autograph=False).get_concrete_function(*specs)


def served_module(signatures: dict[str, Any]) -> tf.Module:
    """A module with the weights that `signatures` ask for: training has more."""
    module = tf.Module()
    module.served = list({id(v): v for f in signatures.values() for v in f.variables}.values())
    return module
