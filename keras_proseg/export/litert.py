"""LiteRT: one file with both signatures, of static shapes."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from keras_proseg.config import ExportConfig
from keras_proseg.export.portable import Portable


def write_litert(folder: Path, model: Any, config: ExportConfig) -> None:
    """Writes model.tflite, for one image of `config`'s height and width a call.

    Args:
        folder: an existing folder.
        model: a `ProSeg`.
        config: its size, `num_samples` and `precision`.
    """
    model.mask_decoder.in_one_product = False  # LiteRT takes twice as long with it
    graphs = Portable(model)
    size = (config.height, config.width)
    noise = graphs.fixed_noise(*size).numpy()
    image = graphs.image_spec((1, *size))
    draws = graphs.sample_specs(1, config.num_samples, graphs.grid(*size))
    signatures = {
        "serving_default": _concrete(lambda image: graphs.maps(image, tf.constant(noise)), [image]),
        "sample": _concrete(graphs.samples, [image, *draws]),
    }
    (folder / "model.tflite").write_bytes(_convert(signatures, config.precision))


def _concrete(function: Any, specs: list[Any]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(*specs)


def _convert(signatures: dict[str, Any], precision: str) -> bytes:
    module = tf.Module()
    module.served = list({id(v): v for f in signatures.values() for v in f.variables}.values())
    with TemporaryDirectory() as scratch:
        tf.saved_model.save(module, scratch, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch, list(signatures))
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]  # int8 weights, by itself
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
