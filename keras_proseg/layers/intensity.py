"""Raw pixels to network input."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_proseg.config import IntensityConfig


class IntensityScaling(keras.layers.Layer):
    """Scales raw intensities (B, H, W, C) as `IntensityConfig` says; float32 out."""

    def __init__(self, intensity: IntensityConfig, **kwargs: Any) -> None:
        # Raw pixels do not survive bfloat16, to which a mixed policy would cast them.
        super().__init__(**(kwargs | {"dtype": "float32"}))
        self.intensity = intensity
        self.built = True

    def call(self, image: Any) -> Any:
        settings = self.intensity
        image = ops.cast(image, "float32")
        if settings.mode == "divide":
            return image / settings.scale
        if settings.mode == "window":
            return ops.clip((image - settings.center) / (settings.width / 2), -1.0, 1.0)
        mean, std = (np.asarray(value, "float32") for value in (settings.mean, settings.std))
        return ops.divide(ops.subtract(image, mean), std)
