"""What a training step and a sample cost at least, and where their time goes (TensorFlow, CPU).

    python benchmarks/operations.py

Operations are those that TensorFlow counts in the graph; `least` is their time at what a float32
matrix product gets in the same run. Bytes are those of every operation's inputs and outputs;
`uncached` is their time if none were fused and all came from memory, at what `a + b` of large
arrays gets. Below the table: the kernels that take the most time, by TensorFlow's profiler.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import collections
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from speed import gflops, repeat

SKIPPED = ("Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp", "Reshape", "Shape")
REPEATS = 20
KERNELS = 8  # named below the table
Work = tuple[str, Any, tuple[Any, ...], float]  # what, graph function, its arguments, units


def main() -> None:
    """Prints the table and the kernels."""
    print(f"{'what':38s}{'GFLOP':>8s}{'least, ms':>11s}{'MB':>7s}{'uncached, ms':>14s}{'ms':>8s}")
    kernels = []
    for what, function, arguments, units in _work():
        product, memory = gflops(), _gigabytes()
        graph = function.get_concrete_function(*arguments).graph
        operations, size = _operations(graph) / units, _bytes(graph) / units
        seconds = _seconds(lambda f=function, a=arguments: f(*a)) / units
        print(
            f"{what:38s}{operations:8.3f}{1e3 * operations / product:11.1f}{1e3 * size:7.0f}"
            f"{1e3 * size / memory:14.1f}{1e3 * seconds:8.1f}"
        )
        kernels.append((what, _kernels(lambda f=function, a=arguments: f(*a))))
    for what, shares in kernels:
        named = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
        print(f"{what}: {named}")


def _work() -> list[Work]:
    import tensorflow as tf

    from keras_proseg import graphs
    from keras_proseg.config import TrainConfig, preset_configs
    from keras_proseg.model import ProSeg
    from keras_proseg.sampling.drawing import draw
    from keras_proseg.sampling.latents import TAU, Z, key_of

    model = ProSeg(config=preset_configs("default", raters=list("abcd"))[0])
    model.build((None, 128, 128, 1))
    model.compile()
    model.optimizer.build(model.trainable_variables)
    graphs.reused = partial  # a function called in a graph is not counted with it
    size = TrainConfig().batch_size
    image = tf.random.stateless_normal((16, 128, 128, 1), (0, 1))
    masks = tf.random.stateless_uniform((size, 4, 128, 128, 1), (0, 2)) > 0.9
    batch = {
        "image": image[:size],
        "masks": tf.cast(masks, tf.uint8),
        "annotated": tf.ones((size, 4), tf.uint8),
    }

    @tf.function
    def drawn(images: Any, ids: Any) -> Any:
        keys, views = (key_of(0, TAU), key_of(0, Z)), model.settings.views
        return draw(model, images, ids, *keys, 1.0, views=views, in_pairs=False)

    return [
        ("training, an image", tf.function(model.train_step), (batch,), size),
        ("52 samples of one image", drawn, (image[:1], tf.constant([0, 1, 2, 3] * 13)), 1),
        ("a draw for each of 4 raters, 16 images", drawn, (image, tf.range(4)), 1),
    ]


def _operations(graph: Any) -> float:
    """10^9 operations in `graph`."""
    from tensorflow.compat.v1 import profiler

    options = profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    return float(profiler.profile(graph, options=options).total_float_ops) / 1e9


def _bytes(graph: Any) -> float:
    """10^9 bytes that the operations of `graph` read and write."""
    tensors = [
        tensor
        for operation in graph.get_operations()
        if operation.type not in SKIPPED
        for tensor in (*operation.inputs, *operation.outputs)
    ]
    return sum((t.shape.num_elements() or 0) * t.dtype.size for t in tensors) / 1e9


def _seconds(call: Callable[[], Any]) -> float:
    """Median seconds of a call."""
    return float(np.median(repeat(lambda _: _wait(call()), REPEATS)))


def _wait(answer: Any) -> None:
    tensor = next(iter(answer.values())) if isinstance(answer, dict) else answer
    tensor.numpy()


def _kernels(call: Callable[[], Any]) -> list[tuple[str, float]]:
    """Kernels with the largest shares of all kernels' time."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(REPEATS):
                _wait(call())
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = XSpace.FromString(file.read_bytes()).planes
    spent: collections.Counter[str] = collections.Counter()
    for plane in planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            operation, _, kernel = name.rpartition(":")
            # Kernels are named operation:kernel; around them are C++ functions and whole graphs.
            if operation and "::" not in name and "__" not in kernel:
                spent[kernel.removeprefix("_Mkl").removeprefix("Native")] += event.duration_ps
    return [(name, value / spent.total()) for name, value in spent.most_common(KERNELS)]


def _gigabytes() -> float:
    """10^9 bytes a second, read and written by a sum of two arrays of 256 MB on all cores."""
    import tensorflow as tf

    a, b = tf.ones((2**26,)), tf.ones((2**26,))
    return 3 * 4 * 2**26 / _seconds(tf.function(lambda: a + b)) / 1e9


if __name__ == "__main__":
    main()
