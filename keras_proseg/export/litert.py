"""LiteRT: one file with both signatures, of static shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from keras_proseg.config import ExportConfig
from keras_proseg.export.graphs import concrete, served_module
from keras_proseg.export.portable import Portable


def write_litert(folder: Path, model: Any, config: ExportConfig) -> None:
    """Writes model.tflite, for one image of `config`'s height and width a call.

    Args:
        folder: an existing folder.
        model: a `ProSeg`.
        config: its size, `num_samples` and `precision`.
    """
    graphs = Portable(model)
    size = (config.height, config.width)
    noise = graphs.fixed_noise(*size).numpy()
    image = graphs.image_spec((1, *size))
    draws = graphs.sample_specs(1, config.num_samples, graphs.grid(*size))
    with _without_one_product(model.mask_decoder):
        signatures = {
            "serving_default": concrete(
                lambda image: graphs.maps(image, tf.constant(noise)), [image]
            ),
            "sample": concrete(graphs.samples, [image, *draws]),
        }
    (folder / "model.tflite").write_bytes(_convert(signatures, config.precision))


@contextmanager
def _without_one_product(decoder: Any) -> Iterator[None]:
    """LiteRT takes twice as long with it."""
    before, decoder.in_one_product = decoder.in_one_product, False
    try:
        yield
    finally:
        decoder.in_one_product = before


def _convert(signatures: dict[str, Any], precision: str) -> bytes:
    with TemporaryDirectory() as scratch:
        tf.saved_model.save(served_module(signatures), scratch, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch, list(signatures))
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]  # int8 weights, by itself
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
