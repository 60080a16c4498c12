import keras
import numpy as np
import tensorflow as tf

from keras_proseg.layers.normalization import GroupNorm


def test_values_and_gradients_are_keras_own():
    rng = np.random.default_rng(0)
    x = tf.Variable(rng.normal(3, 2, size=(2, 5, 7, 12)).astype("float32"))
    upstream = tf.constant(rng.normal(size=x.shape).astype("float32"))
    weights = [rng.normal(size=12).astype("float32") for _ in range(2)]
    answers = []
    for kind in (GroupNorm, keras.layers.GroupNormalization):
        layer = kind(groups=4, epsilon=1e-5)
        layer.build(x.shape)
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            y = layer(x)
        answers.append([y, *tape.gradient(y, [x, *layer.trainable_variables], upstream)])
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


def test_bfloat16_features_keep_their_type():
    layer = GroupNorm(groups=2, dtype="mixed_bfloat16")
    layer.build((1, 4, 4, 4))
    x = np.random.default_rng(0).normal(100, 1, size=(1, 4, 4, 4))
    y = layer(tf.cast(x, "bfloat16"))
    assert y.dtype == tf.bfloat16
    wide = tf.cast(y, "float32")
    np.testing.assert_allclose(tf.math.reduce_variance(wide, axis=(1, 2, 3)), 1.0, atol=0.1)


def test_maps_of_one_value_are_flat():
    """Their squares round so that a variance would be below 0."""
    layer = GroupNorm(groups=2)
    layer.build((1, 31, 31, 4))
    for value in (1000.0, 1234.567):
        y = layer(tf.fill((1, 31, 31, 4), value)).numpy()
        assert np.isfinite(y).all()
        assert (y == y[0, 0, 0, 0]).all()
