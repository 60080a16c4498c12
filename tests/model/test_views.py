"""Draws shared among mirrored views, against a model of one view with the same weights."""

import keras
import numpy as np
import pytest
from tiny_model import batch, tiny

from keras_proseg import ProSeg, UsageError
from keras_proseg.config import preset_configs
from keras_proseg.sampling import passes
from keras_proseg.sampling.views import among_views, mirrored

MIRRORS = [lambda a: a, lambda a: a[..., ::-1, :], lambda a: a[..., ::-1, :, :]]
MIRRORS.append(lambda a: a[..., ::-1, ::-1, :])


@pytest.fixture
def image():
    return batch(1)["image"][0, :, :27].copy()


def of_views(views):
    model = tiny(views=views)
    model.set_weights(tiny().get_weights())
    return model


@pytest.mark.backend
def test_a_view_mirrored_again_is_the_image():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 1)).astype("float32")
    for view, mirror in enumerate(MIRRORS):
        once = keras.ops.convert_to_numpy(mirrored(keras.ops.convert_to_tensor(values), view))
        np.testing.assert_array_equal(once, mirror(values))


@pytest.mark.backend
@pytest.mark.parametrize("views", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_draws_stay_in_order_and_take_turns(views, count):
    def draw(view, rows):
        rows = keras.ops.reshape(keras.ops.cast(rows, "float32"), (1, -1, 1, 1, 1))
        return 10.0 * view + rows + keras.ops.zeros((1, 1, 2, 3, 1))

    answer = keras.ops.convert_to_numpy(among_views(count, views, draw))
    expected = [10 * (k % views) + k for k in range(count)]
    assert answer.shape == (1, count, 2, 3, 1)
    np.testing.assert_array_equal(answer[0, :, 1, 2, 0], expected)


@pytest.mark.backend
@pytest.mark.parametrize("views", [2, 4])
def test_every_view_gives_its_part_of_the_samples(views, image):
    one, several = of_views(1), of_views(views)
    samples = several.sample(image, None, 6, seed=3)
    for view in range(views):
        seen = MIRRORS[view](image).copy()
        expected = MIRRORS[view](one.sample(seen, None, 6, seed=3))
        np.testing.assert_allclose(samples[view::views], expected[view::views], atol=1e-5)


@pytest.mark.backend
def test_draws_in_several_passes_are_shared_alike(image, monkeypatch):
    one, several = of_views(1), of_views(2)
    two = 2 * 32 * 27 * one.mask_decoder.width // 4
    for values in (1, two):  # a pass is at least a draw of each view
        monkeypatch.setattr(passes, "CHUNK_VALUES", values)
        samples = several.sample(image, "bob", 5, seed=3)
        monkeypatch.setattr(passes, "CHUNK_VALUES", two)
        for view in range(2):
            seen = MIRRORS[view](image).copy()
            expected = MIRRORS[view](one.sample(seen, "bob", 5, seed=3))
            np.testing.assert_allclose(samples[view::2], expected[view::2], atol=1e-5)


@pytest.mark.backend
def test_one_sample_is_of_the_image_as_it_is(image):
    samples = [of_views(views).sample(image, "cy", 1, seed=0) for views in (1, 2)]
    np.testing.assert_allclose(*samples, atol=1e-6)


@pytest.mark.backend
def test_means_over_both_views_mirror_with_the_image(image):
    """Where a view has as many draws as the other: but for their noise they are the same."""
    model = tiny(views=2, mean_samples=2, preference_start=(1e4, 1e4), ambiguity_start_scale=0.01)
    mean, seen = model.predict_rater(image, 0), model.predict_rater(image[:, ::-1].copy(), 0)
    np.testing.assert_allclose(seen[:, ::-1], mean, atol=0.01)
    plain = of_views(1)
    away = plain.predict_rater(image[:, ::-1].copy(), 0)[:, ::-1] - plain.predict_rater(image, 0)
    assert abs(away).max() > 0.02


def gradient_of_mean(model, image):
    """Of the mean answer by the image, on the backend in use."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.Variable(image)
        with tf.GradientTape() as tape:
            mean = keras.ops.mean(model(x))
        return tape.gradient(mean, x).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: keras.ops.mean(model(x)))(image))
    import torch

    x = torch.tensor(image, requires_grad=True)
    keras.ops.mean(model(x)).backward()
    return x.grad.numpy()


@pytest.mark.backend
def test_an_answers_gradient_goes_through_both_views(image):
    model, image = tiny(views=2, mean_samples=2), image[None]
    gradient = gradient_of_mean(model, image)
    assert gradient.shape == image.shape
    plain = gradient_of_mean(tiny(views=1, mean_samples=2), image)
    assert abs(gradient).max() > 0
    assert abs(gradient - plain).max() > 1e-3 * abs(plain).max()


def test_where_training_does_not_mirror_answers_do_not():
    assert preset_configs("default")[0].views == 4
    assert preset_configs("default", augment=False)[0].views == 1
    assert preset_configs("default", augment=False, views=2)[0].views == 2
    assert preset_configs("published")[0].views == 1
    assert ProSeg(raters=["ann"]).settings.views == 1  # whose `fit` mirrors nothing


def test_other_numbers_of_views_are_refused():
    with pytest.raises(UsageError, match="`views` must be one of 1, 2, 4. Received: 3"):
        tiny(views=3)
