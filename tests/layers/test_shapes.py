import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.ndimage import correlate1d

from keras_proseg.config import IntensityConfig, ModelConfig
from keras_proseg.errors import UsageError
from keras_proseg.layers.backbone import make_backbone
from keras_proseg.layers.grids import (
    pad_to_multiple,
    smooth_blocks,
    unfold_blocks,
    upsample,
    upsample_onto,
)
from keras_proseg.layers.image_decoder import make_image_decoder
from keras_proseg.layers.intensity import IntensityScaling


def test_upsample_is_bilinear():
    grid = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype("float32")
    expected = tf.image.resize(grid, (20, 12), "bilinear")
    np.testing.assert_allclose(upsample(grid, 4), expected, atol=1e-5)


@pytest.mark.parametrize("scales", [1, 2])
def test_upsampling_onto_a_base_is_upsampling_and_a_scaled_base(scales):
    rng = np.random.default_rng(0)
    base, scale = rng.normal(size=(2, 20, 12, 3)), rng.normal(size=(scales, 5, 3))
    grid = rng.normal(size=(2, 5, 5, 3, 3)).astype("float32")
    upsampled = np.stack([tf.image.resize(one, (20, 12), "bilinear") for one in grid])
    expected = base[:, None] * scale[:, :, None, None] + upsampled
    got = upsample_onto(base.astype("float32"), scale.astype("float32"), grid, 4)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_unfold_blocks_is_depth_to_space():
    blocks = np.random.default_rng(0).normal(size=(2, 3, 5, 12)).astype("float32")
    np.testing.assert_array_equal(unfold_blocks(blocks, 2), tf.nn.depth_to_space(blocks, 2))


@pytest.mark.parametrize("factor", [2, 3])
def test_smoothed_blocks_unfold_to_a_smoothed_image(factor):
    blocks = np.random.default_rng(0).normal(size=(2, 4, 5, factor * factor * 2)).astype("float32")
    image = np.asarray(unfold_blocks(blocks, factor))
    expected = image
    for axis in (1, 2):
        expected = correlate1d(expected, [0.25, 0.5, 0.25], axis, mode="constant")
    got = unfold_blocks(smooth_blocks(blocks, factor), factor)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_padding_repeats_the_edge():
    image = np.random.default_rng(0).normal(size=(1, 5, 8, 2)).astype("float32")
    expected = np.pad(image, ((0, 0), (0, 3), (0, 0), (0, 0)), "edge")
    np.testing.assert_array_equal(pad_to_multiple(image, 8), expected)


@pytest.mark.parametrize(
    ("intensity", "expected"),
    [
        (IntensityConfig("divide", scale=50.0), [-2.0, 2.0]),
        (IntensityConfig("window", center=0.0, width=100.0), [-1.0, 1.0]),
        (IntensityConfig("zscore", mean=20.0, std=40.0), [-3.0, 2.0]),
    ],
)
def test_intensities(intensity, expected):
    image = np.array([-100.0, 100.0], "int16").reshape(1, 1, 2, 1)
    np.testing.assert_allclose(np.ravel(IntensityScaling(intensity)(image)), expected)


def test_channels_are_scaled_each_by_its_own():
    scaling = IntensityScaling(IntensityConfig("zscore", mean=[20.0, 1e-3], std=[40.0, 2e-4]))
    image = np.array([[100.0, 1e-3], [20.0, 7e-4]], "float32").reshape(1, 1, 2, 2)
    got = np.reshape(ops.convert_to_numpy(scaling(image)), (2, 2))
    np.testing.assert_allclose(got, [[2, 0], [0, -1.5]], atol=1e-5)


@pytest.mark.parametrize("backbone", ["efficientnet-lite0", "light", "resnet34"])
def test_backbone_shapes_are_the_ones_it_promises(backbone):
    config = ModelConfig(backbone=backbone, width=4, ambiguity_stride=8)
    unet = make_backbone(config)
    unet.build((None, None, None, 1))
    features, context = unet(np.zeros((2, 64, 64, 1), "float32"))
    promised = unet.compute_output_shape((None, None, None, 1))
    assert features.shape[1] == 64 // unet.finest
    assert context.shape[1] == 8
    assert (features.shape[-1], context.shape[-1]) == (promised[0][-1], promised[1][-1])


def test_unknown_stride_is_refused():
    with pytest.raises(UsageError, match="ambiguity_stride"):
        make_backbone(ModelConfig(ambiguity_stride=3))


def test_no_image_decoder():
    assert make_image_decoder(ModelConfig(image_decoder="none")) is None


def test_a_window_is_about_its_centre():
    layer = IntensityScaling(IntensityConfig("window", center=20.0, width=400.0))
    image = np.array([-100, 100, 1000, -1000], "int16").reshape(1, 1, 4, 1)
    np.testing.assert_allclose(np.ravel(layer(image)), [-0.6, 0.4, 1, -1], rtol=1e-6)


@pytest.mark.parametrize("backbone", ["light", "resnet34"])
@pytest.mark.parametrize("shortcut", ["mean", "first"])
def test_every_block_has_the_shortcut_asked_for(backbone, shortcut):
    stages = make_backbone(ModelConfig(backbone=backbone, shortcut=shortcut)).stages
    blocks = [block for stage in stages for block in stage if hasattr(block, "of_mean")]
    assert {block.of_mean for block in blocks} == {shortcut == "mean"}
