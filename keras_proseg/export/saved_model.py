"""A SavedModel that needs neither this package nor TensorFlow Probability."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_proseg.config import ExportConfig
from keras_proseg.export.graphs import served_module
from keras_proseg.export.signatures import make_signatures
from keras_proseg.export.warmup import write_warmup


def write_saved_model(
    folder: Path, model: Any, config: ExportConfig, metadata: dict[str, Any], file: Path
) -> None:
    """Writes the SavedModel and its warmup requests.

    Args:
        folder: an empty folder.
        model: a `ProSeg`.
        config: its `num_samples`, and size of the images that warm up.
        metadata: served by the signature `metadata`; has `name`.
        file: metadata.json, which becomes an asset.
    """
    signatures = make_signatures(model, config.num_samples, metadata)
    module = served_module(signatures)
    module.metadata = tf.saved_model.Asset(str(file))
    tf.saved_model.save(module, str(folder), signatures)
    shape = (config.height, config.width, model.settings.image_channels)
    write_warmup(folder, metadata["name"], shape, model.raters)
