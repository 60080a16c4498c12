"""TensorFlow: graphs, threads and devices."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import tensorflow as tf

from keras_proseg.backends import check_devices

# A graph is fast on a CPU already; XLA pays on a GPU, by `compile(jit_compile=True)`.
JIT_COMPILE = False
# Its graphs fuse little: linear layers are rearranged where that passes over fine maps less often.
SAVES_PASSES = True
THREAD_SETTINGS = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"}
MOST_PARTS = 4  # of a training step; more cores are better used by sharing each operation


def compiled(function: Any, model: Any, **fixed: Any) -> Any:
    """`function` of `model` with arguments `fixed` as one graph per rank and dtype.

    About ten times faster than eager calls.
    """
    return tf.function(partial(function, model, **fixed), reduce_retracing=True)


def reused(function: Any, model: Any) -> Any:
    """What other graphs call several times: traced once."""
    return compiled(function, model)


def spread_operations() -> None:
    """Gives each operation one thread: a step's parts and an image's views work beside each other.

    They have hundreds of small operations: two threads that work on two of them at a time wait
    less than two that share each. For the whole process; nothing changes where TensorFlow
    runs already, its threads are set, there is a GPU, or there are many cores or one.
    """
    threads, cores = tf.config.threading, _cores()
    chosen = threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads()
    if any(chosen) or not THREAD_SETTINGS.isdisjoint(os.environ):
        return
    if not 1 < cores <= MOST_PARTS or tf.config.list_physical_devices("GPU"):
        return
    with suppress(RuntimeError):  # runs already
        threads.set_intra_op_parallelism_threads(1)
        threads.set_inter_op_parallelism_threads(cores)


@contextmanager
def data_parallel(count: int) -> Iterator[None]:
    """Models made and fitted inside share each batch among `count` devices (MirroredStrategy).

    Raises:
        UsageError: there are fewer devices.
    """
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    check_devices(count, names)
    with tf.distribute.MirroredStrategy(names[:count]).scope():
        yield


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
