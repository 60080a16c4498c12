from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from scipy.ndimage import correlate1d
from tiny_data import SMALL
from tiny_model import batch, tiny

from keras_proseg import ProSeg, ProSegError, UsageError
from keras_proseg.distributions import standard_normal
from keras_proseg.layers import mask_decoder
from keras_proseg.sampling import answers, passes
from keras_proseg.sampling.latents import key_of, paired
from keras_proseg.sampling.preferences import draw_preferences


@pytest.mark.backend
def test_seed_contract():
    model, image = tiny(), batch(2)["image"]
    one, two = (model.sample(image[0], "bob", 4, seed=9) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (4, 32, 32, 1)
    assert one.dtype == np.float32
    assert one.flags.writeable
    assert (one != model.sample(image[0], "bob", 4, seed=10)).any()
    assert (one != model.sample(image[0], "bob", 4, seed=9 + 2**31)).any()
    assert (one != model.sample(image[0], "bob", 4, seed=9 + 2**41)).any()
    with pytest.raises(UsageError, match="`seed` must be at most 4398046511103. Received: 43980"):
        model.sample(image[0], "bob", 4, seed=9 + 2**42)
    assert (model.sample(image[0], "bob", 4) != model.sample(image[0], "bob", 4)).any()
    first, again, other = (tiny(seed=s).sample(image[0], "bob", 4) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.backend
def test_images_of_any_type_and_order_in_memory_are_taken():
    model = tiny()
    image = np.round(100 * batch(1)["image"])
    expected = model.sample(image[0], "bob", 2, seed=1)
    for dtype in (">f4", ">i2", "int64", "float64"):
        np.testing.assert_array_equal(
            model.sample(image.astype(dtype)[0], "bob", 2, seed=1), expected
        )
    stored = image[:, ::-1, :, :].copy()
    stored.flags.writeable = False
    np.testing.assert_array_equal(model.sample(stored[0, ::-1], "bob", 2, seed=1), expected)


@pytest.mark.backend
def test_an_image_does_not_depend_on_its_batch():
    model, image = tiny(), batch(3)["image"]
    together = model.sample(image, ["ann", 2, "bob"], 4, seed=1)
    for index, rater in enumerate((0, "cy", 1)):
        alone = model.sample(image[index], rater, 4, seed=1)
        np.testing.assert_allclose(together[index], alone, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (7, 20)])
def test_any_size_goes_in_and_comes_out(height, width):
    image = np.random.default_rng(0).normal(size=(2, height, width, 1)).astype("float32")
    assert tiny().predict(image, verbose=0).shape == (2, height, width, 1)


@pytest.mark.backend
def test_batches_of_a_training_can_be_predicted():
    model, one = tiny(views=1, mean_samples=1), batch(2)
    found = model.predict(one, batch_size=2, verbose=0)
    np.testing.assert_allclose(found, model.predict(one["image"], verbose=0), atol=1e-6)


@pytest.mark.backend
def test_answers_are_decoded_as_training_decodes():
    model, rng = tiny(), np.random.default_rng(0)
    image = batch(2)["image"]
    features, heads = model.encode(image)
    noise = rng.normal(size=(1, 3, *heads.shape[2:4], model.settings.ambiguity_size))
    z = model.ambiguity.answering_z(heads).sample(noise.astype("float32"))
    for raters in (slice(0, 1), slice(0, 2)):
        tau = model.preference.q_tau().sample(3, key_of(752, 0))[:, raters]
        tau = keras.ops.transpose(tau, (1, 0, 2))
        one, other = (model.decode(image, features, z, tau, training=t) for t in (True, False))
        one, other = keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, atol=1e-4)


def paired_draws(model, image, rater):
    """Three draws, (B, 3, H, W, K): the third one's noise of z is the first one's, negated.

    The second one is of the image mirrored left to right.
    """
    tau = model.preference.q_tau().sample(3, key_of(752, 0))[None, :, rater]
    draws = []
    for draw in range(3):
        step = -1 if draw == 1 else 1
        features, heads = model.encode(image[:, :, ::step].copy())
        shape = (3, *heads.shape[2:4], model.settings.ambiguity_size)
        noise = np.array(keras.ops.convert_to_numpy(standard_normal(shape, key_of(752, 1))))
        noise[2] = -noise[0]
        noise /= np.sqrt(np.square(noise).mean(axis=0))
        z = model.ambiguity.answering_z(heads).sample(noise[None, draw : draw + 1])
        logits = model.decode(image, features, z, tau[:, draw : draw + 1])
        draws.append(keras.ops.convert_to_numpy(keras.ops.sigmoid(logits))[:, :, :, ::step])
    return np.concatenate(draws, axis=1)


@pytest.mark.backend
def test_what_noise_changes_in_proportion_cancels_in_pairs():
    noise = np.random.default_rng(0).normal(size=(7, 2)).astype("float32")
    for count in (1, 2, 7):
        pairs = keras.ops.convert_to_numpy(paired(noise[:count]))
        half = (count + 1) // 2
        np.testing.assert_array_equal(pairs[half:], -pairs[: count - half])
        np.testing.assert_allclose(np.square(pairs).mean(axis=0), 1, rtol=1e-5)
        factor = noise[:half] / pairs[:half]
        np.testing.assert_allclose(factor, factor[:1] * np.ones_like(factor), rtol=1e-5)
        assert (factor > 0).all()


@pytest.mark.backend
def test_variance_splits_exactly():
    model, image = tiny(), batch(2)["image"]
    maps = model.uncertainty(image)
    draws = np.stack([paired_draws(model, image, r) for r in range(3)], axis=1)
    np.testing.assert_allclose(maps["total"], draws.var(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(maps["between_rater"], draws.mean(2).var(1), atol=1e-6)
    np.testing.assert_array_equal(maps["total"], maps["between_rater"] + maps["boundary"])
    np.testing.assert_allclose(maps["mean"], model.predict(image, verbose=0), atol=1e-6)
    np.testing.assert_allclose(model.predict_rater(image, 1), draws[:, 1].mean(1), atol=1e-6)
    assert model.predict_rater(image[0], "bob").shape == (32, 32, 1)
    assert model.uncertainty(image[0])["total"].shape == (32, 32, 1)


def test_both_latents_move_the_samples():
    model, image = tiny(), batch(1)["image"][0]
    still = model.sample(image, "ann", 6, seed=0, ambiguity_scale=0.0)
    moved = model.sample(image, "ann", 6, seed=0)
    assert still.std(axis=0).max() > 1e-4  # tau alone
    assert (still != moved).any()


@pytest.mark.backend
def test_temperature_widens_the_answers_and_leaves_the_bound():
    """As `ambiguity_scale` does, to rounding, and in the means and variances too."""
    plain, warm = tiny(ambiguity_temperature=1.0), tiny(ambiguity_temperature=1.5)
    warm.set_weights(plain.get_weights())
    data = batch(2)
    image = data["image"]
    np.testing.assert_allclose(
        warm.sample(image, None, 4, seed=3),
        plain.sample(image, None, 4, seed=3, ambiguity_scale=1.5),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        warm.predict_rater(image, 2), plain.predict_rater(image, 2, ambiguity_scale=1.5), atol=1e-5
    )
    boundary = [model.uncertainty(image)["boundary"].mean() for model in (plain, warm)]
    assert boundary[1] > boundary[0]
    terms = [model.elbo_terms(data, training=False) for model in (plain, warm)]
    for name in ("kl_z", "nll_mask"):
        cold, hot = (keras.ops.convert_to_numpy(getattr(t, name)) for t in terms)
        np.testing.assert_array_equal(cold, hot)


def test_diverse_samples_take_every_rater_equally_often():
    ids, _ = draw_preferences(tiny(), None, 1, 12, seed=5)
    assert np.bincount(ids[0]).tolist() == [4, 4, 4]


@pytest.mark.backend
def test_a_raters_mean_is_the_same_in_passes_of_any_size(monkeypatch):
    model, images = tiny(ambiguity_temperature=3.0), batch(2)["image"]
    whole = model.rater_moments(images)[0]
    for values in (passes.CHUNK_VALUES, 1):
        monkeypatch.setattr(passes, "CHUNK_VALUES", values)
        for rater in range(3):
            np.testing.assert_allclose(
                model.predict_rater(images, rater), whole[:, rater], atol=1e-5
            )


def test_a_pixel_is_an_image():
    model = tiny(stem=4, decoder_width=1, ambiguity_stride=4)
    assert model.sample(np.zeros((1, 1, 1)), "bob", 3, seed=0).shape == (3, 1, 1, 1)


@pytest.mark.parametrize("rater", ["dan", 3, -1, 1.5, True])
def test_unknown_raters(rater):
    with pytest.raises(UsageError, match="ann, bob, cy or 0 to 2"):
        tiny().sample(batch(1)["image"][0], [rater])


def test_bad_calls():
    model, image = tiny(), batch(2)["image"]
    with pytest.raises(UsageError, match="`num_samples` must be a whole number of at least 1"):
        model.sample(image, 0, 0)
    with pytest.raises(UsageError, match="`seed` must be a whole number .* Received: -1"):
        model.sample(image, seed=-1)
    with pytest.raises(UsageError, match="name 2 raters"):
        model.sample(image, ["ann"])
    with pytest.raises(UsageError, match="Received: None"):
        model.predict_rater(image, None)
    with pytest.raises(ProSegError, match="image must be"):
        model.sample(image[..., 0])
    with pytest.raises(ProSegError, match="finite"):
        model.sample(np.full_like(image, np.nan))
    with pytest.raises(ProSegError, match="Received: none"):
        ProSeg()


def test_a_rater_in_text_is_a_name_first_and_else_an_index():
    named_by_numbers = ProSeg(raters=["01", "2", "0"], **SMALL)
    found = [named_by_numbers.rater_index(rater) for rater in ("01", "2", "0", 1, np.int64(2))]
    assert found == [0, 1, 2, 1, 2]
    # Who types 1 may mean 01, which is not the rater of index 1.
    with pytest.raises(UsageError, match="must be one of 01, 2, 0. Received: 1$"):
        named_by_numbers.rater_index("1")
    for rater in ("3", "9" * 5000, "²", "-1", "", True, 1.0, np.array(1.5)):
        with pytest.raises(UsageError, match="`rater` must be one of 01, 2, 0 or 0 to 2"):
            named_by_numbers.rater_index(rater)
    assert [tiny().rater_index(rater) for rater in ("0", "2", "cy")] == [0, 2, 2]


@pytest.mark.backend
def test_tensors_of_the_backend_are_images_and_raters():
    """Also with gradients or in bfloat16, which NumPy does not take by itself."""
    model, image = tiny(), np.round(batch(1)["image"][0])  # whole numbers, exact in bfloat16
    expected = model.sample(image, 1, 2, seed=0)
    for kind in ("float32", "bfloat16"):
        tensor = keras.ops.convert_to_tensor(image, kind)
        if keras.backend.backend() == "torch":
            tensor = tensor.requires_grad_()
        found = model.sample(tensor, keras.ops.convert_to_tensor(1), 2, seed=0)
        np.testing.assert_array_equal(found, expected)


def test_one_diverse_sample_is_of_any_rater():
    model = tiny()
    assert {draw_preferences(model, None, 1, 1, seed)[0].item() for seed in range(20)} == {0, 1, 2}


def test_the_tau_of_a_rater_starts_in_slots_of_their_own():
    means = keras.ops.convert_to_numpy(tiny(preference_size=7).preference.q_tau().mean())
    for rater, mean in enumerate(means):
        own = np.arange(7) % 3 == rater
        assert mean[own].min() > 5 * mean[~own].max()


def test_raters_take_turns_in_another_order_than_views():
    ids = draw_preferences(tiny(), None, 1, 30, seed=0)[0][0]
    assert len({tuple(ids[k : k + 3].tolist()) for k in range(0, 30, 3)}) > 1


def test_the_prior_draws_flat_tau_and_the_classifier_names_the_rater():
    model = tiny(diverse="prior", preference_start=(1.0, 1.0))
    ids, tau = draw_preferences(model, None, 1, 4000, seed=3)
    logits = keras.ops.convert_to_numpy(model.classifier(tau[0]))
    named = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).mean(axis=0)
    found = np.bincount(ids[0], minlength=3) / 4000
    np.testing.assert_allclose(found, named, atol=4 * 0.5 / np.sqrt(4000))  # four standard errors
    mean = keras.ops.convert_to_numpy(tau)[0].mean(axis=0)
    np.testing.assert_allclose(mean, 1 / 6, atol=0.02)


@pytest.mark.backend
def test_each_draw_has_the_z_of_its_own_rater_in_every_view():
    model, image = tiny(ambiguity_per_rater=True), batch(1)["image"][0]
    ids = draw_preferences(model, None, 1, 6, seed=3)[0][0]
    samples = model.sample(image, None, 6, seed=3)
    for rater in range(3):
        own = model.sample(image, rater, 6, seed=3)
        np.testing.assert_allclose(samples[ids == rater], own[ids == rater], atol=1e-5)


@pytest.mark.backend
def test_equal_seeds_are_equal_draws_in_many_threads():
    model, image = tiny(depth=2, ambiguity_stride=4, views=1), batch(1)["image"][0]

    def draw(seed):
        return model.sample(image, None, 4, seed=seed)

    expected = [draw(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(draw, range(24)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_draws_without_a_seed_differ_in_many_threads():
    """A thread that reads the state before another has written it would draw the same."""
    model = tiny()
    with ThreadPoolExecutor(8) as pool:
        seeds = list(pool.map(lambda _: answers._next_seed(model), range(400)))
    assert len(set(seeds)) == 400


@pytest.mark.parametrize("change", [{"num_samples": 2.5}, {"num_samples": "3"}, {"seed": 1.7},
                                    {"ambiguity_scale": float("nan")}])  # fmt: skip
def test_numbers_of_another_kind_are_refused(change):
    (name,) = change
    with pytest.raises(UsageError, match=f"`{name}` must be .* Received"):
        tiny().sample(batch(1)["image"][0], **change)
    if name == "ambiguity_scale":
        with pytest.raises(UsageError, match="finite"):
            tiny().predict_rater(batch(1)["image"][0], 0, **change)


def test_the_standard_deviation_of_z_starts_as_asked():
    for scale in (0.01, 0.3, 1.0, 100.0):
        model = tiny(ambiguity_start_scale=scale)
        q_z = model.ambiguity.q_z(model.encode(batch(1)["image"] * 0)[1])
        mean = q_z.mean()
        found = keras.ops.convert_to_numpy(q_z.sample(keras.ops.ones(mean.shape)) - mean)
        assert found.mean() == pytest.approx(scale, rel=0.02)


def test_masks_are_smoothed_across_the_blocks_they_are_unfolded_from(monkeypatch):
    model, image = tiny(), keras.ops.convert_to_tensor(batch(1)["image"])
    features, heads = model.encode(image)
    z, tau = model.ambiguity.q_z(heads).mean(), model.preference.q_tau().mean()[None]
    found = keras.ops.convert_to_numpy(model.decode(image, features, z, tau))
    monkeypatch.setattr(mask_decoder, "smooth_blocks", lambda flat, factor: flat)
    rough = keras.ops.convert_to_numpy(model.decode(image, features, z, tau))
    expected = correlate1d(correlate1d(rough, [0.25, 0.5, 0.25], axis=2), [0.25, 0.5, 0.25], axis=3)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)
    assert abs(found - rough).max() > 1e-3


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(2, 32, 32, 1), (32, 32, 3), (2, 32, 32, 4)])
def test_images_of_other_channels_are_refused_whoever_asks(shape):
    """One channel would be taken for all of those that have a mean each."""
    model = tiny(image_channels=3, intensity={"mean": [1.0, 2.0, 3.0], "std": [1.0] * 3})
    image = np.zeros(shape, "float32")
    asked = (model.predict, ProSegError), (model.rater_moments, ProSegError), (model, Exception)
    for ask, error in asked:  # the last in Keras' own wrapping
        with pytest.raises(error, match=r"image must be .*\(B, H, W, 3\)"):
            ask(image)


@pytest.mark.parametrize("value", [-3.4e38, 1e16])
def test_marks_of_what_is_not_known_are_no_pixels(value):
    image = batch(1)["image"].copy()
    image[0, 0, :3] = value
    for ask in (tiny().sample, tiny().uncertainty):
        with pytest.raises(ProSegError, match=r"finite and between -1e\+15 and 1e\+15"):
            ask(image)
    image[0, 0, :3] = -9.9e14
    assert np.isfinite(tiny().sample(image, seed=0)).all()


def test_batches_that_do_not_say_their_channels_are_trained_on():
    import tensorflow as tf

    spec = {name: tf.TensorSpec((None,) * each.ndim, each.dtype) for name, each in batch(2).items()}
    data = tf.data.Dataset.from_generator(lambda: iter([batch(2)]), output_signature=spec)
    model = tiny()
    model.compile("sgd")
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()
