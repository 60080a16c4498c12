"""Backbones: image (B, H, W, C) to features at a fine stride and context at a coarse one."""

import keras

from keras_proseg.config import EFFICIENTNET, ModelConfig
from keras_proseg.errors import UsageError
from keras_proseg.layers import efficientnet
from keras_proseg.layers.unet import ConvBlock, UNet, conv, norm

FIRST = "of_image"  # the convolution that sees pixels
RESNET34_BLOCKS = (3, 4, 6, 3)
RESNET34_WIDTHS = (64, 128, 256, 512)
RESNET34_DECODER = (256, 128, 64, 32, 16)


def make_backbone(config: ModelConfig, name: str = "backbone") -> UNet:
    """The backbone that `config` names; its context comes at the ambiguity's stride.

    Raises:
        UsageError: Keras is set to images with their channels first.
    """
    if keras.config.image_data_format() != "channels_last":
        text = "Keras' `image_data_format` must be channels_last."
        raise UsageError(f"{text} Received: {keras.config.image_data_format()}")
    context = config.ambiguity_stride
    if config.backbone == "resnet34":
        return _resnet34(config, context, name)
    if config.backbone == EFFICIENTNET:
        return _efficientnet(config, name)
    widths = _light_widths(config)
    stem = [conv(widths[0], 2 * config.stem + 1, config.stem, FIRST), ConvBlock(widths[0])]
    stages = [[ConvBlock(width, 2, config.shortcut)] for width in widths[1:]]
    decoder = tuple(reversed(widths[:-1]))
    return UNet(stem, stages, decoder, config.stem, context, name=name)


def _light_widths(config: ModelConfig) -> list[int]:
    """Channels of the levels, finest first: doubled at each up to a bound, narrower where fine."""
    widths = []
    for stride in (config.stem * 2**k for k in range(config.depth)):
        width = min(config.width * stride, 8 * config.width)
        narrow = 8 * max(1, round(config.fine_width * width / 8))
        widths.append(min(narrow, width) if stride < config.ambiguity_stride else width)
    return widths


def _efficientnet(config: ModelConfig, name: str) -> UNet:
    stem, stages = efficientnet.make_encoder(config.depth)
    decoder = tuple(config.width * 2**k for k in range(config.depth - 1, 0, -1))
    laterals = [efficientnet.Lateral(width) for width in reversed(decoder)]
    return UNet(
        stem, stages, decoder, efficientnet.FINEST, config.ambiguity_stride,
        laterals=[*laterals, efficientnet.Lateral()], name=name,
    )  # fmt: skip


def _resnet34(config: ModelConfig, context: int, name: str) -> UNet:
    stem = [conv(64, 7, 2, FIRST), norm(64), keras.layers.Activation("relu")]
    stages = []
    for level, (count, width) in enumerate(zip(RESNET34_BLOCKS, RESNET34_WIDTHS, strict=True)):
        strides = [2 if k == 0 and level else 1 for k in range(count)]
        blocks = [ConvBlock(width, stride, config.shortcut) for stride in strides]
        pool = [keras.layers.MaxPooling2D(3, 2, "same")] if level == 0 else []
        stages.append(pool + blocks)
    return UNet(stem, stages, RESNET34_DECODER, 1, context, "concat", name=name)
