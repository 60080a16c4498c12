import numpy as np
import pytest
from keras import ops
from on_backend import gradient

from keras_proseg.layers import unet
from keras_proseg.layers.joined import conv_of_joined, join
from keras_proseg.layers.unet import ConvBlock

RNG = np.random.default_rng(0)
COARSE, FINE = (RNG.normal(size=s).astype("float32") for s in [(2, 3, 5, 4), (2, 6, 10, 3)])


@pytest.mark.backend
def test_joined_is_the_doubled_map_beside_the_fine_one():
    got = ops.convert_to_numpy(join(COARSE, FINE))
    np.testing.assert_array_equal(got[..., :4], np.kron(COARSE, np.ones((1, 2, 2, 1))))
    np.testing.assert_array_equal(got[..., 4:], FINE)


@pytest.mark.backend
@pytest.mark.parametrize("size", [1, 3])
def test_convolution_of_joined_maps_needs_no_doubled_map(size):
    kernel = RNG.normal(size=(size, size, 7, 6)).astype("float32")
    inputs = [ops.convert_to_tensor(value) for value in (kernel, COARSE, FINE)]
    expected = ops.conv(join(*inputs[1:]), inputs[0], padding="same")
    got = conv_of_joined(*inputs)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (got, expected)), atol=1e-4)


@pytest.mark.backend
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_its_gradients_are_those_of_the_doubled_map(size, place):
    inputs = [RNG.normal(size=(size, size, 7, 6)).astype("float32"), COARSE, FINE]
    weights = ops.convert_to_tensor(RNG.normal(size=(2, 6, 10, 6)).astype("float32"))

    def slope(conv):
        def of(value):
            values = [ops.convert_to_tensor(v) for v in inputs]
            values[place] = value
            return ops.sum(weights * conv(*values))

        return gradient(of, inputs[place])

    expected = slope(lambda kernel, *maps: ops.conv(join(*maps), kernel, padding="same"))
    np.testing.assert_allclose(slope(conv_of_joined), expected, atol=2e-4)


@pytest.mark.backend
@pytest.mark.parametrize(("filters", "most"), [(5, 4), (5, 3), (7, 4)])
def test_a_block_of_joined_maps_is_that_of_one_map(filters, most, monkeypatch):
    monkeypatch.setattr(unet, "MOST_JOINED", most)
    block = ConvBlock(filters)
    block.build((None, None, None, 7))
    answers = block(join(COARSE, FINE)), block(COARSE, FINE)
    np.testing.assert_allclose(*(ops.convert_to_numpy(answer) for answer in answers), atol=1e-5)
