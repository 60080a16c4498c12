"""A residual U-Net over any encoder: features at a fine stride, context at a coarse one."""

import math
from typing import Any

import keras
from keras import ops

from keras_proseg.errors import UsageError
from keras_proseg.layers.joined import conv_of_joined, double, join
from keras_proseg.layers.normalization import GroupNorm
from keras_proseg.runtime import SAVES_PASSES

# Channels. Beyond, the kernels take longer to rearrange than small maps save.
MOST_JOINED = 256 if SAVES_PASSES else 0


class ConvBlock(keras.layers.Layer):
    """Residual pair of 3x3 convolutions with group normalisation and SiLU.

    Args:
        filters: channels that come out.
        stride: of the first convolution.
        shortcut: with a stride, the shortcut starts at the `"mean"` of each stride x stride pixels
            or at their `"first"`.
    """

    def __init__(
        self, filters: int, stride: int = 1, shortcut: str = "first", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters, self.stride, self.of_mean = filters, stride, shortcut == "mean"
        self.conv1 = conv(filters, 3, stride)
        self.conv2 = conv(filters, 3)
        self.norm1, self.norm2 = norm(filters), norm(filters)
        self.shortcut: keras.layers.Layer | None = None

    def build(self, shape: Any) -> None:
        self.conv1.build(shape)
        inner = self.conv1.compute_output_shape(shape)
        self.norm1.build(inner)
        self.conv2.build(inner)
        self.norm2.build(inner)
        if self.stride != 1 or shape[-1] != self.filters:
            self.shortcut = conv(self.filters, 1)
            self.shortcut.build(shape)

    def call(self, x: Any, skip: Any = None) -> Any:
        """x (B, H, W, F) to (B, H / stride, W / stride, filters).

        With `skip` (B, 2 H, 2 W, G): of x doubled in size and joined with it.
        """
        if skip is not None and self.shortcut is not None and x.shape[-1] <= MOST_JOINED:
            layers = (self.conv1, self.shortcut)
            first, past = (conv_of_joined(layer.kernel, x, skip) for layer in layers)
        else:
            x = x if skip is None else join(x, skip)
            first, past = self.conv1(x), self._past(x)
        y = ops.silu(self.norm1(first))
        return ops.silu(self.norm2(self.conv2(y)) + past)

    def _past(self, x: Any) -> Any:
        return x if self.shortcut is None else self.shortcut(self._at_stride(x))

    def _at_stride(self, x: Any) -> Any:
        if self.stride == 1:
            return x
        if self.of_mean:
            return ops.average_pool(x, self.stride, self.stride)
        # A strided 1x1 convolution picks the same pixels, but its gradient in oneDNN writes out of
        # bounds where it has 8 channels or fewer and the batch is odd.
        return x[:, :: self.stride, :: self.stride]

    def compute_output_shape(self, shape: Any) -> Any:
        return self.conv1.compute_output_shape(shape)


class UNet(keras.layers.Layer):
    """A residual U-Net over an encoder given as stages; every backbone is an instance of it.

    Args:
        stem: list of layers from the image to the first level.
        stages: one list of blocks per level; each level's first block sets its stride.
        decoder: widths on the way up, finest last.
        finest: stride of the features that come out.
        context_stride: stride of the context that comes out.
        merge: skips are concatenated (`"concat"`) or added after a 1x1 convolution (`"add"`), which
            saves two thirds of the costliest convolutions.
        laterals: one layer for each skip, finest first, and one for what the last stage gives: they
            bring the widths of a given encoder to those of `decoder`.
    """

    def __init__(
        self,
        stem: list[Any],
        stages: list[list[Any]],
        decoder: tuple[int, ...],
        finest: int,
        context_stride: int,
        merge: str = "add",
        laterals: list[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.laterals = laterals
        self.narrow = [conv(filters, 1) for filters in decoder] if merge == "add" else None
        self.stem, self.stages = stem, stages
        self.ups = [ConvBlock(filters) for filters in decoder]
        self.finest = finest
        self.total_stride = finest * 2 ** len(decoder)
        self.context_stride = context_stride
        strides = [finest * 2**k for k in range(len(decoder) + 1)]
        if context_stride not in strides:
            raise UsageError(
                f"`ambiguity_stride` must be one of {strides}. Received: {context_stride}"
            )

    def build(self, shape: Any) -> None:
        skips = [shape]
        for blocks in [self.stem, *self.stages]:
            shape = _build_chain(blocks, shape)
            skips.append(shape)
        skips = skips[-1 - len(self.ups) :]
        if self.laterals is not None:
            pairs = zip(self.laterals, skips, strict=True)
            skips = [_build_chain([lateral], skip) for lateral, skip in pairs]
            shape = skips[-1]
        self.context_filters = shape[-1]
        for k, (up, skip) in enumerate(zip(self.ups, reversed(skips[:-1]), strict=True)):
            if self.narrow is not None:
                self.narrow[k].build(shape)
            merged = skip if self.narrow is not None else (*skip[:-1], shape[-1] + skip[-1])
            up.build(merged)
            shape = up.compute_output_shape(merged)
        self.built = True

    def compute_output_shape(self, shape: Any) -> tuple[Any, Any]:
        widths = {self.finest * 2**k: up.filters for k, up in enumerate(reversed(self.ups))}
        context = widths.get(self.context_stride, self.context_filters)
        return (None, None, None, widths[self.finest]), (None, None, None, context)

    def call(self, image: Any) -> tuple[Any, Any]:
        """Returns features (B, H / finest, W / finest, F) and context at `context_stride`."""
        skips, x = [image], image
        for blocks in [self.stem, *self.stages]:
            for block in blocks:
                x = block(x)
            skips.append(x)
        skips = skips[-1 - len(self.ups) :]
        if self.laterals is not None:
            skips = [layer(skip) for layer, skip in zip(self.laterals, skips, strict=True)]
            x = skips[-1]
        stride, context = self.total_stride, x
        for k, skip in enumerate(reversed(skips[:-1])):
            x = self._up(k, x, skip)
            stride //= 2
            context = x if stride == self.context_stride else context
        return x, context

    def _up(self, k: int, x: Any, skip: Any) -> Any:
        if self.narrow is None:
            return self.ups[k](x, skip)
        return self.ups[k](double(self.narrow[k](x)) + skip)


def _build_chain(blocks: list[Any], shape: Any) -> Any:
    for block in blocks:
        if not block.built:
            block.build(shape)
        shape = block.compute_output_shape(shape)
    return shape


def conv(filters: int, size: int, stride: int = 1, name: str | None = None) -> keras.layers.Conv2D:
    """A convolution as every backbone has them; the normalisation after it brings the bias."""
    return keras.layers.Conv2D(
        filters, size, stride, "same", kernel_initializer="he_normal", use_bias=size > 3, name=name
    )


def norm(filters: int) -> GroupNorm:
    """Group normalisation of `filters` channels."""
    return GroupNorm(groups=math.gcd(8, filters) if filters > 8 else filters, epsilon=1e-5)
