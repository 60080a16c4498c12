"""ONNX: one file per signature, dynamic in every size."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_proseg.export.portable import Portable
from keras_proseg.extras import import_extra

OPSET = 18
AXES = {
    "image": ("batch", "height", "width"),
    "tau": ("batch", "draws"),
    "noise": ("batch", "draws", "grid_height", "grid_width", "channels"),
    "rater": ("batch", "draws"),
    "samples": ("batch", "draws", "height", "width"),
}


def write_onnx(folder: Path, model: Any) -> None:
    """Writes serving_default.onnx and sample.onnx.

    Args:
        folder: an existing folder.
        model: a `ProSeg`.

    Raises:
        UsageError: the extra `onnx` is not installed.
    """
    graphs = Portable(model)
    image = graphs.image_spec((None, None, None))
    settings = model.settings
    shape = (settings.mean_samples, None, None, settings.ambiguity_size)
    noise = tf.TensorSpec(shape, name="noise")
    _convert(graphs.maps, [image, noise], folder / "serving_default.onnx")
    draws = graphs.sample_specs(None, None, (None, None))
    _convert(graphs.samples, [image, *draws], folder / "sample.onnx")


def _convert(function: Any, specs: list[Any], file: Path) -> None:
    onnx, tf2onnx = (import_extra(name, "ONNX", "onnx") for name in ("onnx", "tf2onnx"))
    graph = tf.function(function, autograph=False)
    content, _ = tf2onnx.convert.from_function(graph, input_signature=specs, opset=OPSET)
    for value in (*content.graph.input, *content.graph.output):
        _name_axes(value)
    onnx.checker.check_model(content)
    onnx.save(content, file)


def _name_axes(value: Any) -> None:
    """Says what the free axes are, where the converter numbers them."""
    dims = value.type.tensor_type.shape.dim
    names = AXES.get(value.name, AXES["image"])
    if value.name == "noise" and len(dims) < len(names):  # of the maps: all images share it
        names = names[1:]
    for dim, name in zip(dims, names, strict=False):
        if not dim.dim_value:
            dim.dim_param = name
