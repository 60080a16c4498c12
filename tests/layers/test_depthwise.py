import keras
import numpy as np
import pytest

from keras_proseg.layers import depthwise


@pytest.mark.backend
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 2)])
def test_both_ways_are_keras_own(monkeypatch, size, stride, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape, 6)).astype("float32")
    own = keras.layers.DepthwiseConv2D(size, stride, "same", bias_initializer="normal")
    ours = depthwise.DepthwiseConv(size, stride, "same")
    expected = keras.ops.convert_to_numpy(own(x))
    ours.build(x.shape)
    ours.set_weights(own.get_weights())
    for summed in (False, True):
        monkeypatch.setattr(depthwise, "JIT_COMPILE", summed)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours(x)), expected, atol=1e-5)
