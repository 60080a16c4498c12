import keras
import numpy as np
import pytest
from on_backend import QUICK, Repeated, loss_and_gradients
from tiny_data import SMALL

from keras_proseg import ModelConfig, ProSeg, ProSegError, UsageError
from keras_proseg.config import TrainConfig, preset_configs
from keras_proseg.distributions import standard_normal
from keras_proseg.drawing import key_of, paired
from keras_proseg.optimizers import (
    ENCODER_NAME,
    PREFERENCE_NAME,
    WarmupCosine,
    make_optimizer,
    rate_factor,
)


def batch(size=4, raters=3, pixels=32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.normal(size=(size, pixels, pixels, 1)).astype("float32"),
        "masks": rng.integers(0, 2, (size, raters, pixels, pixels, 1)).astype("uint8"),
        "annotated": np.ones((size, raters), bool),
    }


def tiny(**settings):
    keras.utils.set_random_seed(0)
    return ProSeg(raters=["ann", "bob", "cy"], **(SMALL | settings))


VARIANTS = [
    pytest.param({}, marks=pytest.mark.backend),
    {"ambiguity_per_rater": True, "raters_per_step": 1},
    {"preference_mode": "concat", "decoder_features": False, "image_decoder": "none"},
    {"num_classes": 2, "stem": 1, "depth": 4, "dice_background": True, "reduction": "sum"},
    {"mask_l2": 1e-3, "diverse": "prior", "raters_per_step": 2},
    pytest.param({"backbone": "efficientnet-lite0"}, marks=pytest.mark.backend),
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_every_variant_trains_saves_and_reloads(settings, tmp_path):
    model, data = tiny(**settings), batch()
    if settings.get("num_classes"):
        data["masks"] = np.repeat(data["masks"], 2, axis=-1)
    model.compile(**QUICK)
    history = model.fit(Repeated(data, 3), verbose=0)
    assert np.isfinite(list(history.history.values())).all()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.run_eagerly = model.run_eagerly
    image = data["image"]
    np.testing.assert_allclose(again.predict(image, verbose=0), model.predict(image, verbose=0))
    np.testing.assert_array_equal(
        again.sample(image, None, 5, seed=4), model.sample(image, None, 5, seed=4)
    )
    assert int(again.steps_seen) == 3
    assert len(again.optimizer.variables) == len(model.optimizer.variables)


@pytest.mark.parametrize("decoder", ["light", "unet"])
def test_published_preset_takes_a_step(decoder):
    config, _ = preset_configs("published", raters=("a", "b"), image_decoder=decoder)
    model = ProSeg(config=config)
    model.compile(**QUICK)
    logs = model.train_on_batch(batch(1, raters=2), return_dict=True)
    assert np.isfinite(logs["loss"])
    assert config.tau_size == 4


def test_summary_and_evaluate_work(capsys):
    model = tiny()
    model.compile(**QUICK)
    model.summary()
    assert "mask_decoder" in capsys.readouterr().out
    data = Repeated(batch(), 1)
    first, second = (model.evaluate(data, verbose=0, return_dict=True) for _ in range(2))
    assert first == second
    parts = ("nll_mask", "nll_image", "nll_rater", "kl_tau", "kl_z")
    assert first["elbo"] == pytest.approx(-sum(first[name] for name in parts), rel=1e-5)


@pytest.mark.backend
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_extreme_latents_keep_loss_and_gradient_finite(precision):
    keras.config.set_dtype_policy(precision)
    try:
        model = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
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
def test_seed_contract():
    model, image = tiny(), batch(2)["image"]
    one, two = (model.sample(image[0], "bob", 4, seed=9) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (4, 32, 32, 1)
    assert one.dtype == np.float32
    assert (one != model.sample(image[0], "bob", 4, seed=10)).any()
    assert (model.sample(image[0], "bob", 4) != model.sample(image[0], "bob", 4)).any()


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


def paired_draws(model, image, rater):
    """Three draws, (B, 3, H, W, K): the third one's noise of z is the first one's, negated."""
    image, features, heads = model.encode_raw(image)
    shape = (3, *heads.shape[2:4], model.settings.ambiguity_size)
    noise = np.array(keras.ops.convert_to_numpy(standard_normal(shape, key_of(752, 1))))
    noise[2] = -noise[0]
    z = model.ambiguity.answering_z(heads).sample(noise[None])
    tau = model.preference.q_tau().sample(3, key_of(752, 0))[None, :, rater]
    logits = model.decode(image, features, z, tau)
    return keras.ops.convert_to_numpy(keras.ops.sigmoid(logits))


@pytest.mark.backend
def test_what_noise_changes_in_proportion_cancels_in_pairs():
    noise = np.random.default_rng(0).normal(size=(7, 2)).astype("float32")
    for count in (1, 2, 7):
        pairs = keras.ops.convert_to_numpy(paired(noise[:count]))
        half = (count + 1) // 2
        np.testing.assert_array_equal(pairs[:half], noise[:half])
        np.testing.assert_array_equal(pairs[half:], -noise[: count - half])


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
    ids, _ = tiny()._draw_preferences(None, 1, 12, seed=5)
    assert np.bincount(ids[0]).tolist() == [4, 4, 4]


@pytest.mark.parametrize("rater", ["dan", 3, -1, 1.5, True])
def test_unknown_raters(rater):
    with pytest.raises(UsageError, match="ann, bob, cy or 0 to 2"):
        tiny().sample(batch(1)["image"][0], [rater])


def test_bad_calls():
    model, image = tiny(), batch(2)["image"]
    with pytest.raises(UsageError, match="num_samples"):
        model.sample(image, 0, 0)
    with pytest.raises(UsageError, match="`seed` must be at least 0. Received: -1"):
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


@pytest.mark.parametrize(
    "settings", [{"backbone": "vgg"}, {"widht": 3}, {"width": 0}, {"raters": ["a", "a"]}]
)
def test_bad_settings(settings):
    with pytest.raises(UsageError, match="Received: "):
        preset_configs("default", **settings)
    with pytest.raises(UsageError, match="`ambiguity_temperature` must be above 0. Received: 0"):
        ModelConfig(ambiguity_temperature=0)
    with pytest.raises(UsageError, match="above 0"):
        preset_configs("default", steps=-1)


@pytest.mark.backend
def test_a_non_finite_step_is_skipped_and_counted():
    model, bad = tiny(), batch()
    model.compile(**QUICK)
    model.train_on_batch(batch())
    before = [keras.ops.convert_to_numpy(w) + 0 for w in model.trainable_variables]
    bad["image"][0] = np.inf
    logs = model.train_on_batch(bad, return_dict=True)
    for old, new in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
    assert np.isfinite(logs["loss"])
    assert (int(model.steps_skipped), int(model.bad_steps)) == (1, 1)
    model.train_on_batch(batch())
    assert (int(model.steps_skipped), int(model.bad_steps)) == (1, 0)


@pytest.mark.backend
def test_repeated_non_finite_steps_stop_the_training():
    model, bad = tiny(max_bad_steps=2), batch()
    model.compile(**QUICK)
    bad["image"][:] = np.nan
    with pytest.raises(ProSegError, match="2 non-finite steps"):
        model.fit(Repeated(bad, 5), verbose=0)


def is_of_raters(path):
    return "preference/" in path or "rater_classifier/" in path


@pytest.mark.backend
def test_three_learning_rates_and_their_schedule():
    model = tiny(backbone="efficientnet-lite0")
    optimizer = make_optimizer(trained_encoder=True)
    model.compile(optimizer, **QUICK)
    model.train_on_batch(batch())
    owned = {o.name: {v.path for v in o._trainable_variables} for o in optimizer.optimizers}
    paths = {v.path for v in model.trainable_variables}
    assert owned[PREFERENCE_NAME] == {p for p in paths if is_of_raters(p)}
    assert owned[ENCODER_NAME] == {p for p in paths if "/encoder_" in p}
    assert {"proseg/backbone/encoder_stem"} <= {p.rsplit("/", 2)[0] for p in owned[ENCODER_NAME]}
    assert set().union(*owned.values()) == paths
    assert [rate_factor(s, 100, 10) for s in (0, 100)] == [pytest.approx(0.1), 0]
    assert rate_factor(50, 100, 10) == pytest.approx(0.5)
    assert rate_factor(9, float("inf"), 10) == 1


@pytest.mark.backend
def test_the_rates_are_those_of_the_step_inside_fit():
    model = tiny(backbone="efficientnet-lite0")
    model.compile(make_optimizer(trained_encoder=True), **QUICK)
    starts = [keras.ops.convert_to_numpy(w) + 0 for w in model.trainable_variables]
    config = TrainConfig(preference_learning_rate=0.0, encoder_learning_rate=0.0, warmup=0)
    model.fit(Repeated(batch(), 2), callbacks=[WarmupCosine(config, 2, 0)], verbose=0)
    ends = [keras.ops.convert_to_numpy(w) + 0 for w in model.trainable_variables]
    for weight, start, end in zip(model.trainable_variables, starts, ends, strict=True):
        still = is_of_raters(weight.path) or "/encoder_" in weight.path
        assert np.array_equal(start, end) == still, weight.path
    model.fit(Repeated(batch(), 2), callbacks=[WarmupCosine(config, 2, 2)], verbose=0)
    for weight, end in zip(model.trainable_variables, ends, strict=True):
        np.testing.assert_array_equal(end, keras.ops.convert_to_numpy(weight), err_msg=weight.path)


def test_a_model_that_was_not_compiled_is_saved_too(tmp_path):
    model, image = tiny(), batch(1)["image"]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert not again.compiled
    np.testing.assert_array_equal(again.sample(image, 0, seed=1), model.sample(image, 0, seed=1))


def test_settings_survive_a_round_trip():
    config = ModelConfig(raters=("a", "b"), width=4)
    assert ProSeg.from_config(ProSeg(config=config).get_config()).settings == config
