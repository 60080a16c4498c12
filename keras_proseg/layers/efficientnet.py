"""The encoder of EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946; its Lite variant of 2020).

Lite: ReLU6 instead of swish and no squeeze-and-excitation, so that every layer is a convolution.
Batch normalisation is folded into the kernels, as for use; the network trains on without it.
"""

from itertools import count
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_proseg.layers.depthwise import DepthwiseConv
from keras_proseg.layers.unet import conv, norm

FINEST = 2  # stride of the first level
STEM_FILTERS = 32
PREFIX = "encoder_"  # of the names of all its layers, by which the optimizer knows them


class Block(NamedTuple):
    """One row of the architecture's table."""

    repeats: int
    size: int
    stride: int
    expansion: int
    filters: int


# One entry for each level: strides 2 to 32.
LEVELS = (
    (Block(1, 3, 1, 1, 16),),
    (Block(2, 3, 2, 6, 24),),
    (Block(2, 5, 2, 6, 40),),
    (Block(3, 3, 2, 6, 80), Block(3, 5, 1, 6, 112)),
    (Block(4, 5, 2, 6, 192), Block(1, 3, 1, 6, 320)),
)


class Stem(keras.layers.Layer):
    """The first convolution, at stride 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(
            STEM_FILTERS, 3, FINEST, "same", kernel_initializer="he_normal"
        )

    def build(self, shape: Any) -> None:
        self.conv.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        return ops.relu6(self.conv(x))

    def compute_output_shape(self, shape: Any) -> Any:
        return self.conv.compute_output_shape(shape)

    def convolutions(self) -> list[Any]:
        """In the order of computation."""
        return [self.conv]


class InvertedResidual(keras.layers.Layer):
    """Widens with a 1x1, filters each channel, narrows with a 1x1; residual where shapes agree."""

    def __init__(self, expansion: int, filters: int, size: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.expansion, self.filters, self.stride = expansion, filters, stride
        self.expand: keras.layers.Layer | None = None
        self.depthwise = DepthwiseConv(size, stride, "same", depthwise_initializer="he_normal")
        self.project = keras.layers.Conv2D(filters, 1, kernel_initializer="he_normal")

    def build(self, shape: Any) -> None:
        self.residual = self.stride == 1 and shape[-1] == self.filters
        wide = (*shape[:-1], shape[-1] * self.expansion)
        if self.expansion > 1:
            self.expand = keras.layers.Conv2D(wide[-1], 1, kernel_initializer="he_normal")
            self.expand.build(shape)
        self.depthwise.build(wide)
        self.project.build(wide)
        self.built = True

    def call(self, x: Any) -> Any:
        y = x if self.expand is None else ops.relu6(self.expand(x))
        y = self.project(ops.relu6(self.depthwise(y)))
        return y + x if self.residual else y

    def compute_output_shape(self, shape: Any) -> Any:
        return (*self.depthwise.compute_output_shape(shape)[:-1], self.filters)

    def convolutions(self) -> list[Any]:
        """In the order of computation."""
        return [c for c in (self.expand, self.depthwise, self.project) if c is not None]


class Lateral(keras.layers.Layer):
    """One level's features for the decoder: to its width, where one is given, and normalised."""

    def __init__(self, filters: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = conv(filters, 1) if filters else None

    def build(self, shape: Any) -> None:
        if self.conv is not None:
            self.conv.build(shape)
        self.norm = norm(self.compute_output_shape(shape)[-1])
        self.norm.build(self.compute_output_shape(shape))
        self.built = True

    def call(self, x: Any) -> Any:
        return self.norm(x if self.conv is None else self.conv(x))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape if self.conv is None else self.conv.compute_output_shape(shape)


def make_encoder(depth: int) -> tuple[list[Any], list[list[Any]]]:
    """Stem with the first level, and the blocks of each further one; `depth` levels in all."""
    numbers = count()
    levels = [
        [
            InvertedResidual(
                row.expansion, row.filters, row.size, 1 if k else row.stride,
                name=f"{PREFIX}block{next(numbers)}",
            )
            for row in rows
            for k in range(row.repeats)
        ]
        for rows in LEVELS[:depth]
    ]  # fmt: skip
    return [Stem(name=f"{PREFIX}stem"), *levels[0]], levels[1:]


def load(stem: list[Any], stages: list[list[Any]], folded: list[tuple[Any, Any]]) -> None:
    """Assigns kernels and biases, in the order of computation, to a built encoder.

    A stem that takes C channels, other than three, gets for each the sum over colours by C.

    Args:
        stem: as `make_encoder` returns it.
        stages: likewise.
        folded: (kernel, bias) of every convolution, from `keras_proseg.imagenet`.
    """
    blocks = [*stem, *(block for stage in stages for block in stage)]
    layers = [layer for block in blocks for layer in block.convolutions()]
    for layer, (kernel, bias) in zip(layers, folded, strict=False):
        if layer is layers[0]:
            kernel = _of_channels(kernel, layer.kernel.shape[2])
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)


def _of_channels(kernel: Any, channels: int) -> Any:
    if channels == kernel.shape[2]:
        return kernel
    grey = kernel.sum(axis=2, keepdims=True) / channels
    return grey.repeat(channels, axis=2)
