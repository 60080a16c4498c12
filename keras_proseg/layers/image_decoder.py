"""p(x|z): the mean of the scaled image from z."""

from dataclasses import replace
from typing import Any

import keras

from keras_proseg.config import ModelConfig
from keras_proseg.layers.backbone import make_backbone
from keras_proseg.layers.grids import pad_to_multiple, unfold_blocks

LIGHT_WIDTH = 32  # channels between z and the image


class LightImageDecoder(keras.layers.Layer):
    """Two 3x3 convolutions on z's own grid, then blocks of stride x stride pixels."""

    def __init__(self, channels: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride
        self.hidden = keras.layers.Conv2D(LIGHT_WIDTH, 3, padding="same", activation="relu")
        self.out = keras.layers.Conv2D(channels * stride * stride, 3, padding="same")

    def build(self, shape: Any) -> None:
        self.hidden.build(shape)
        self.out.build(self.hidden.compute_output_shape(shape))

    def call(self, z: Any) -> Any:
        """z (N, h, w, D) to image mean (N, h * stride, w * stride, C)."""
        return unfold_blocks(self.out(self.hidden(z)), self.stride)


class UNetImageDecoder(keras.layers.Layer):
    """The released second U-Net, over z at full resolution."""

    def __init__(self, config: ModelConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unet = make_backbone(replace(config, backbone="resnet34"), name="unet")
        self.out = keras.layers.Conv2D(config.image_channels, 3, padding="same")

    def build(self, shape: Any) -> None:
        self.unet.build(shape)
        self.out.build((*shape[:-1], self.unet.ups[-1].filters))

    def call(self, z: Any) -> Any:
        """z (N, H, W, D) to image mean (N, H, W, C)."""
        return self.out(self.unet(pad_to_multiple(z, self.unet.total_stride))[0])


def make_image_decoder(config: ModelConfig) -> keras.layers.Layer | None:
    """The image decoder that `config` names; None for `"none"`."""
    if config.image_decoder == "none":
        return None
    if config.image_decoder == "unet":
        return UNetImageDecoder(config, name="image_decoder")
    return LightImageDecoder(config.image_channels, config.ambiguity_stride, name="image_decoder")
