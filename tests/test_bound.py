import numpy as np
import pytest
from keras import ops

from keras_proseg.bound import pick


@pytest.mark.backend
def test_whole_maps_are_picked_image_by_image():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 4, 5, 6, 2)).astype("float32")
    chosen = np.array([[3, 0], [1, 1], [2, 3]], "int32")
    expected = np.take_along_axis(maps, chosen[:, :, None, None, None], axis=1)
    got = ops.convert_to_numpy(pick(ops.convert_to_tensor(maps), ops.convert_to_tensor(chosen)))
    np.testing.assert_array_equal(got, expected)
