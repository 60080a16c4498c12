"""Loops inside the graph that bound its memory, whatever the size of the images and the batch."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_proseg.sampling.passes import CHUNK_VALUES, values_per_draw

AT_ONCE_VALUES = 2**26  # of the widest tensor when all draws of an image are worked at once: 256 MB


class PassSizes:
    """How many images, and how many draws of each, go through the decoder at once.

    The rule of `keras_proseg.sampling.passes`, so that equal seeds give a rater's draws there and
    here. It knows the images' size only: what else is in a batch changes nothing.

    Args:
        model: a `ProSeg`.
        image: (B, H, W, C).
        draws: draws of each image.
    """

    def __init__(self, model: Any, image: tf.Tensor, draws: int) -> None:
        pixels = tf.reduce_prod(tf.cast(tf.shape(image)[1:3], tf.int64))
        per_draw = tf.maximum(values_per_draw(model, pixels), 1)
        self.fits_at_once = draws * per_draw <= AT_ONCE_VALUES
        self.images = tf.cast(tf.maximum(CHUNK_VALUES // (draws * per_draw), 1), tf.int32)
        # Whole rounds of the views, so that each pass begins with the first one.
        views = model.settings.views_of(draws)
        whole = tf.maximum(CHUNK_VALUES // per_draw // views, 1) * views
        self.draws = tf.cast(tf.minimum(whole, draws), tf.int32)


def in_passes(total: Any, step: Any, one_pass: Callable[[Any, Any], Any], specs: Any) -> Any:
    """Concatenates `one_pass(first, last)` over `total` rows, `step` at a time, one by one.

    Args:
        total: number of rows; 0 is one empty pass.
        step: rows per pass, a scalar tensor.
        one_pass: function of the first row and the one after the last to tensors like `specs`.
        specs: a `tf.TensorSpec`, or a structure of them, with free first axis.

    Returns:
        Tensors like `specs`.
    """
    passes = tf.maximum((total + step - 1) // step, 1)
    arrays = [
        tf.TensorArray(s.dtype, passes, element_shape=s.shape, infer_shape=False)
        for s in tf.nest.flatten(specs)
    ]

    def body(k: Any, arrays: Any) -> Any:
        parts = one_pass(k * step, tf.minimum((k + 1) * step, total))
        flat = zip(arrays, tf.nest.flatten(parts), strict=True)
        return k + 1, [array.write(k, part) for array, part in flat]

    # One at a time: parallel iterations would hold as many passes in memory.
    _, arrays = tf.while_loop(lambda k, _: k < passes, body, (0, arrays), parallel_iterations=1)
    return tf.nest.pack_sequence_as(specs, [array.concat() for array in arrays])


def flat(values: tf.Tensor) -> tf.Tensor:
    """(B, S, H, W, K) to (B * S, H, W, K)."""
    shape = tf.shape(values)
    return tf.reshape(values, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0))


def unflat(values: tf.Tensor, draws: int) -> tf.Tensor:
    """(B * S, H, W, K) to (B, S, H, W, K). Passes of draws are of one image: the order is right."""
    shape = tf.shape(values)
    return tf.reshape(values, tf.concat([[shape[0] // draws, draws], shape[1:]], axis=0))
