import keras
import numpy as np
import pytest
from on_backend import loss_and_gradients
from tiny_model import batch, tiny

from keras_proseg.keras_state import precision_of
from keras_proseg.layers.ambiguity import BoundaryAmbiguity
from keras_proseg.layers.grids import pick


@pytest.mark.backend
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_extreme_latents_keep_loss_and_gradient_finite(precision):
    with precision_of(precision):
        model = tiny()
    shape = model.preference.concentration.shape
    raw = np.resize([1e4, np.log(np.expm1(1e-3)), 1.0], shape)  # of softplus
    model.preference.concentration.assign(raw)
    heads = np.resize([100.0, -100.0], model.ambiguity.head.bias.shape)  # means and log-scales
    model.ambiguity.head.bias.assign(heads)
    loss, gradients = loss_and_gradients(
        model, lambda: model.compute_terms_and_loss(batch(), training=False)[1]
    )
    assert np.isfinite(loss)
    for path, gradient in gradients.items():
        assert np.isfinite(gradient).all(), path


@pytest.mark.backend
@pytest.mark.parametrize("settings", [{}, {"ambiguity_per_rater": True, "raters_per_step": 2}])
def test_missing_raters_have_no_part_in_loss_or_gradient(settings):
    model, data = tiny(**settings), batch()
    data["annotated"][:, 2] = False

    def loss():
        return model.compute_terms_and_loss(data, training=False)[1]

    before, gradients = loss_and_gradients(model, loss)
    data["masks"][:, 2] = 1 - data["masks"][:, 2]
    after, gradients2 = loss_and_gradients(model, loss)
    assert before == after
    for path, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, gradients2[path])
    rows = gradients[model.preference.concentration.path]
    assert not rows[2].any()
    assert rows[:2].any()
    if settings:
        heads = gradients[model.ambiguity.head.bias.path].reshape(3, -1)
        assert not heads[2].any()
        assert heads[:2].any()


@pytest.mark.backend
def test_what_fills_the_place_of_a_missing_mask_is_nothing():
    data, filled = batch(), batch()
    data["annotated"][:, 2] = filled["annotated"][:, 2] = False
    filled["masks"] = filled["masks"].astype("float32")
    filled["masks"][:, 2] = np.nan
    model = tiny()
    (loss, gradients), (loss2, gradients2) = (
        loss_and_gradients(model, lambda d=d: model.compute_terms_and_loss(d, training=False)[1])
        for d in (data, filled)
    )
    np.testing.assert_array_equal(loss2, loss)
    for path, gradient in gradients.items():
        np.testing.assert_array_equal(gradients2[path], gradient, err_msg=path)


@pytest.mark.backend
def test_whole_maps_are_picked_image_by_image():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 4, 5, 6, 2)).astype("float32")
    chosen = np.array([[3, 0], [1, 1], [2, 3]], "int32")
    expected = np.take_along_axis(maps, chosen[:, :, None, None, None], axis=1)
    got = keras.ops.convert_to_numpy(
        pick(keras.ops.convert_to_tensor(maps), keras.ops.convert_to_tensor(chosen))
    )
    np.testing.assert_array_equal(got, expected)


@pytest.mark.backend
def test_chosen_maps_of_ambiguity_are_those_of_all():
    layer = BoundaryAmbiguity(4, size=2, hidden=6, start_scale=0.3, temperature=1.0)
    layer.build((None, None, None, 5))
    layer.head.bias.assign(np.arange(16.0))
    context = keras.random.normal((3, 4, 6, 5), seed=0)
    chosen = keras.ops.convert_to_tensor(np.array([[3, 0], [1, 1], [2, 3]], "int32"))
    expected = pick(layer(context), chosen)
    assert keras.ops.shape(expected) == (3, 2, 4, 6, 4)
    got = layer(context, chosen)
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(x) for x in (got, expected)), atol=1e-5)


def test_chosen_maps_of_a_batch_of_any_size():
    import tensorflow as tf

    layer = BoundaryAmbiguity(3, size=2, hidden=6, start_scale=0.3, temperature=1.0)
    layer.build((None, None, None, 5))
    shapes = [tf.TensorSpec((None, 4, 6, 5)), tf.TensorSpec((None, 1), "int32")]
    context, chosen = tf.random.normal((3, 4, 6, 5)), tf.constant([[2], [0], [1]])
    answer = tf.function(layer.__call__, input_signature=shapes)(context, chosen)
    np.testing.assert_allclose(answer, layer(context, chosen), atol=1e-5)
