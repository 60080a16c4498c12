import json
import math
from dataclasses import fields

import keras
import numpy as np
import pytest
from on_backend import QUICK, Repeated
from tiny_data import SMALL
from tiny_model import batch, tiny

from keras_proseg import ModelConfig, ProSeg, UsageError, load
from keras_proseg.config import (
    ExportConfig,
    IntensityConfig,
    NewRaterConfig,
    TrainConfig,
    preset_configs,
    to_dict,
)
from keras_proseg.keras_state import precision_of
from keras_proseg.layers.backbone import make_backbone
from keras_proseg.layers.unet import ConvBlock
from keras_proseg.model import NETWORKS
from keras_proseg.objective import ElboTerms, objective

VARIANTS = [
    pytest.param({}, marks=pytest.mark.backend),
    {"ambiguity_per_rater": True, "raters_per_step": 1, "mask_l2": 1e-3, "diverse": "prior"},
    {"preference_mode": "concat", "decoder_features": False, "image_decoder": "none"},
    {"num_classes": 2, "stem": 1, "depth": 4, "dice_background": True, "reduction": "sum"},
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


def test_the_penalty_is_on_every_kernel_of_the_mask_decoder():
    model = tiny(mask_l2=0.5)
    kernels = [w for w in model.mask_decoder.trainable_variables if w.name == "kernel"]
    assert len(kernels) == 5
    squares = [np.square(keras.ops.convert_to_numpy(kernel)).sum() for kernel in kernels]
    losses = [float(keras.ops.convert_to_numpy(loss)) for loss in model.losses]
    np.testing.assert_allclose(sum(losses), 0.5 * sum(squares), rtol=1e-5)


def test_a_loss_of_ones_own_is_refused():
    with pytest.raises(TypeError, match="loss"):
        tiny().compile(loss="mse")


@pytest.mark.parametrize("decoder", ["light", "unet"])
def test_published_preset_takes_a_step(decoder):
    config, _ = preset_configs("published", raters=("a", "b"), image_decoder=decoder)
    model = ProSeg(config=config)
    model.compile(**QUICK)
    logs = model.train_on_batch(batch(1, raters=2), return_dict=True)
    assert np.isfinite(logs["loss"])
    assert config.tau_size == 4


@pytest.mark.parametrize(
    ("pixels", "settings"), [(36, {"image_decoder": "unet", "width": 8}), (32, {"width": 10})]
)
def test_any_size_and_width_has_finite_terms(pixels, settings):
    fine = {"stem": 1, "depth": 2, "ambiguity_stride": 1}
    model = ProSeg(raters=["a", "b", "c"], **fine, **settings)
    terms = model.elbo_terms(batch(1, pixels=pixels), training=False)
    assert np.isfinite(keras.ops.convert_to_numpy(terms.elbo())).all()


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


@pytest.mark.parametrize(
    ("of", "settings", "text"),
    [
        (TrainConfig, {"validations": 0}, "at least 1"),
        (TrainConfig, {"num_samples": 0}, "at least 1"),
        (TrainConfig, {"val_cases": 0}, "at least 1"),
        (TrainConfig, {"warmup": -5}, "at least 0"),
        (TrainConfig, {"zoom": float("nan")}, "at least 0"),
        (TrainConfig, {"clip": -0.5}, "at least 0"),
        (TrainConfig, {"spacing": float("inf")}, "above 0"),
        (ModelConfig, {"raters_per_step": 0}, "at least 1"),
        (ModelConfig, {"preference_size": 1}, "at least 2"),
        (ModelConfig, {"depth": 1}, "at least 2"),
        (ModelConfig, {"beta_z": -0.1}, "at least 0"),
        (ModelConfig, {"image_scale": 0.0}, "above 0"),
        (ModelConfig, {"preference_start": (1.0,)}, "two numbers above 0"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_done(of, settings, text):
    ((name, value),) = settings.items()
    with pytest.raises(UsageError) as caught:
        of(**settings)
    assert str(caught.value) == f"`{name}` must be {text}. Received: {value}"


def test_a_window_is_finite():
    with pytest.raises(UsageError, match="`window_center` must be finite. Received: nan"):
        TrainConfig(window_center=float("nan"), window_width=100)
    with pytest.raises(UsageError, match="`window_width` must be above 0. Received: inf"):
        TrainConfig(window_center=0, window_width=float("inf"))


def test_a_model_takes_no_settings_of_a_training():
    with pytest.raises(UsageError, match="fields of `ModelConfig`. Received: dtype, steps"):
        ProSeg(raters=["ann"], dtype="mixed_bfloat16", steps=3)


def test_an_image_is_decoded_by_a_unet_from_z_of_every_pixel_only():
    text = "`ambiguity_stride` must be 1 for `image_decoder` unet. Received: 8"
    with pytest.raises(UsageError, match=text):
        ModelConfig(image_decoder="unet")


def test_none_is_a_value_where_the_field_takes_it():
    model, training = preset_configs("published", clip=None, raters_per_step=None, width=None)
    assert (training.clip, model.raters_per_step, model.width) == (None, None, 16)


def test_without_an_image_decoder_the_image_adds_nothing_to_the_loss():
    config = ModelConfig(image_decoder="none", image_weight=1.0, reduction="sum")
    terms = ElboTerms(*[np.zeros(2, "float32")] * 7, num_pixels=1024.0, num_latents=16.0)
    np.testing.assert_array_equal(objective(terms, config), 0.0)


@pytest.mark.parametrize("policy", ["bfloat16", "float64"])
def test_a_policy_of_kerass_own_is_no_concern_of_the_models(policy):
    with precision_of(policy):
        model = tiny()
    image = np.zeros((32, 32, 1), "float32")
    assert np.isfinite(model.sample(image, 0, 2, seed=0)).all()


@pytest.mark.parametrize(
    "settings", [{"backbone": "vgg"}, {"widht": 3}, {"width": 0}, {"raters": ["a", "a"]}]
)
def test_unknown_settings_and_values(settings):
    with pytest.raises(UsageError, match="Received: "):
        preset_configs("default", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 2.5}, "`steps` must be a whole number. Received: 2.5"),
        ({"batch_size": "6"}, "`batch_size` must be a whole number. Received: '6'"),
        ({"width": True}, "`width` must be a whole number. Received: True"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number. Received: 'fast'"),
        ({"augment": 1}, "`augment` must be true or false. Received: 1"),
        ({"dicom": 7}, "`dicom` must be text. Received: 7"),
        (
            {"size": 200},
            "`size` must come with `fit` crop or resample. Received: 200",
        ),
        (
            {"seed": 2**31},
            "whole number from 0 to 2147483647. Received: 2147483648",
        ),
        ({"seed": -1}, "`seed` must be a whole number from 0 to 2147483647. Received: -1"),
        ({"intensity": {"std": 0.0}}, "`intensity.std` must be above 0. Received: 0.0"),
        (
            {"intensity": {"mode": "window", "width": 0.0}},
            "`intensity.width` must be above 0. Received: 0.0",
        ),
        (
            {"intensity": {"center": 40.0, "width": 400.0}},
            "`intensity.center` must be given with mode window. Received: mode zscore",
        ),
        (
            {"intensity": {"mode": "window", "std": [2.0]}},
            "`intensity.std` must be given with mode zscore. Received: mode window",
        ),
        (
            {"intensity": {"scale": 1.0}},
            "`intensity.scale` must be given with mode divide. Received: mode zscore",
        ),
        ({"intensity": {"mean": float("nan")}}, "`intensity.mean` must be finite. Received: nan"),
        ({"intensity": {"mean": [0.0, "a"]}}, "`intensity.mean` must be finite. Received: a"),
        ({"intensity": {"std": [1, 2]}}, r"must be one number or 1, one for each .*: \(1, 2\)"),
        ({"intensity": {"mode": "foo"}}, "`intensity.mode` must be one of divide, window, zscore"),
        ({"intensity": {"sd": 40.0}}, "`intensity` must hold fields of `IntensityConfig`: center"),
        ({"intensity": "zscore"}, "Received: zscore"),
    ],
)
def test_settings_of_another_kind(settings, message):
    with pytest.raises(UsageError, match=message):
        preset_configs("default", **settings)


def test_a_field_of_the_intensities_leaves_the_others_as_they_are():
    window = {"mode": "window", "center": 40.0, "width": 400.0}
    for config in (ModelConfig(raters=["ann"], intensity=window), {"intensity": window}):
        found = [
            ProSeg(raters=["ann"], config=config, **SMALL, **change).settings.intensity
            for change in (
                {},
                {"intensity": {"center": 100.0}},
                {"intensity": {"mode": "window", "width": 9.0}},
                {"intensity": {"mode": "divide", "scale": 9.0}},
                {"intensity": IntensityConfig(mean=3.0)},
            )
        ]
        assert found == [
            IntensityConfig(**window),
            IntensityConfig(**window | {"center": 100.0}),
            IntensityConfig(**window | {"width": 9.0}),
            IntensityConfig("divide", scale=9.0),
            IntensityConfig(mean=3.0),
        ]


@pytest.mark.parametrize("raters", [[1, 2], np.array(["1", "2"]), (name for name in ("1", "2"))])
def test_names_of_raters_are_text_wherever_they_come_from(raters):
    config = ModelConfig(raters=raters)
    assert config.raters == ("1", "2")
    model = ProSeg(config=config, **SMALL)
    assert [model.rater_index(name) for name in ("1", "2")] == [0, 1]
    with pytest.raises(UsageError, match="Received: 3"):
        model.predict_rater(np.zeros((32, 32, 1)), "3")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"raters": "xyz"}, "`raters` must be a sequence of names. Received: 'xyz'"),
        ({"raters": 5}, "`raters` must be a sequence of names. Received: 5"),
        ({"raters": []}, r"`raters` must be distinct names. Received: \[\]"),
        ({"preference_start": 5}, "`preference_start` must be two numbers above 0. Received: 5"),
        ({"preference_start": (1.0, math.nan)}, "two numbers above 0. Received: nan"),
        ({"preference_start": ("a", "b")}, "two numbers above 0. Received: a"),
        ({"preference_start": (1.0, 2.0, 3.0)}, r"two numbers above 0. Received: \(1.0, 2.0"),
        ({"ambiguity_start_scale": 200.0}, "between 0.0067 and 148. Received: 200.0"),
    ],
)
def test_settings_of_a_model_that_are_none(settings, message):
    with pytest.raises(UsageError, match=message):
        ModelConfig(**settings)


def test_channels_that_come_first_are_one_line(tmp_path):
    tiny().save(tmp_path / "model.keras")
    keras.config.set_image_data_format("channels_first")
    try:
        for call in (lambda: tiny(), lambda: load(tmp_path / "model.keras"), lambda: load("lidc")):
            with pytest.raises(UsageError, match="must be channels_last. Received: channels_first"):
                call()
    finally:
        keras.config.set_image_data_format("channels_last")


def test_settings_out_of_range():
    with pytest.raises(UsageError, match="`ambiguity_temperature` must be above 0. Received: 0"):
        ModelConfig(ambiguity_temperature=0)
    for part in (0.0, 1.5):
        text = f"`fine_width` must be above 0 and at most 1. Received: {part}"
        with pytest.raises(UsageError, match=text):
            ModelConfig(fine_width=part)
    with pytest.raises(UsageError, match="`steps` must be at least 1. Received: -1"):
        preset_configs("default", steps=-1)


def test_a_model_that_was_not_compiled_is_saved_too(tmp_path):
    model, image = tiny(), batch(1)["image"]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert not again.compiled
    np.testing.assert_array_equal(again.sample(image, 0, seed=1), model.sample(image, 0, seed=1))


def test_settings_survive_a_round_trip():
    config = ModelConfig(raters=("a", "b"), width=4)
    assert ProSeg.from_config(ProSeg(config=config).get_config()).settings == config


def test_settings_younger_than_a_saved_model_are_what_it_was_made_with():
    config = ProSeg(raters=["a", "b"]).get_config()
    for younger in ("fine_width", "shortcut", "views"):
        del config["config"][younger]
    settings = ProSeg.from_config(config).settings
    assert (settings.fine_width, settings.shortcut, settings.views) == (1.0, "first", 1)


@pytest.mark.parametrize("shortcut", ["mean", "first"])
def test_a_shortcut_starts_at_the_mean_of_pixels_or_at_their_first(shortcut):
    block = ConvBlock(4, 2, shortcut)
    block.build((None, 6, 6, 2))
    block.norm2.gamma.assign(np.zeros(4))  # nothing but the shortcut is left
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype("float32")
    pixels = x.reshape(1, 3, 2, 3, 2, 2)
    start = pixels.mean((2, 4)) if shortcut == "mean" else pixels[:, :, 0, :, 0]
    expected = keras.ops.silu(block.shortcut(start))
    np.testing.assert_allclose(block(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "widths"),
    [
        ({"fine_width": 1.0}, [96, 48, 24]),
        ({"fine_width": 0.667}, [96, 32, 16]),
        ({}, [96, 32, 16]),
        ({"width": 4}, [32, 8, 8]),  # never more than `width` gives, nor less than 8 of them
        ({"width": 1, "fine_width": 1.0}, [8, 4, 2]),
        ({"ambiguity_stride": 4}, [96, 48, 16]),
        ({"stem": 1, "depth": 5}, [96, 32, 16, 8]),
    ],
)
def test_levels_finer_than_z_can_be_narrower(settings, widths):
    model = ProSeg(raters=["a", "b"], **settings)
    assert [up.filters for up in model.backbone.ups] == widths


@pytest.mark.backend
@pytest.mark.parametrize("frozen", [("backbone",), NETWORKS])
def test_what_is_frozen_stays_so_in_a_file(frozen, tmp_path):
    model = tiny()
    for name in frozen:
        getattr(model, name).trainable = False
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert len(again.trainable_variables) == len(model.trainable_variables)
    assert len(again.trainable_variables) < len(tiny().trainable_variables)
    assert not again.backbone.trainable


@pytest.mark.backend
def test_a_frozen_layer_stays_so_in_a_file_and_its_optimizer(tmp_path):
    model = tiny()
    model.backbone.stem[0].trainable = model.mask_decoder.trainable = False
    model.compile()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for loaded in (again, keras.models.clone_model(again)):
        assert len(loaded.trainable_variables) == len(model.trainable_variables)
        assert not any(w.trainable for w in loaded.backbone.stem[0].weights)
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    for trainable in (False, True):
        again.backbone.trainable = trainable
        assert all(w.trainable == trainable for w in again.backbone.weights)


def test_a_compiled_model_that_was_not_trained_is_saved_with_its_optimizer(tmp_path, recwarn):
    model = tiny()
    model.compile()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert len(again.optimizer.variables) == len(model.optimizer.variables) > 1
    assert not [w for w in recwarn if "optimizer" in str(w.message)]


def test_numbers_of_numpy_are_numbers():
    given = {"learning_rate": np.float32(0.5), "batch_size": np.int64(4), "width": np.int32(8)}
    configs = preset_configs("default", **given, intensity={"mean": np.array([1.0]), "std": [2]})
    model, training = (json.loads(json.dumps(to_dict(config))) for config in configs)
    assert (training["learning_rate"], training["batch_size"], model["width"]) == (0.5, 4, 8)
    assert (model["intensity"]["mean"], model["intensity"]["std"]) == ([1.0], [2])
    with pytest.raises(UsageError, match="`raters` must be a sequence of names. Received: 'ann'"):
        ProSeg(raters="ann")
    with pytest.raises(UsageError, match="`seed` must be a whole number from 0 to 2147483647"):
        ProSeg(raters=["ann"], seed=2**31)
    seed = np.int64(3)
    model = ProSeg(raters=["ann"], seed=seed, **SMALL)
    assert json.dumps(model.get_config()["seed"]) == "3"
    assert keras.ops.convert_to_numpy(model.seed_state)[0] == 3


FREE = {"window_center", "center", "mean", "beta"}


CONFIGS = [ModelConfig, TrainConfig, ExportConfig, NewRaterConfig, IntensityConfig]


@pytest.mark.parametrize("of", CONFIGS)
def test_no_number_is_below_zero(of):
    modes = {"scale": "divide", "width": "window"} if of is IntensityConfig else {}
    for field in fields(of):
        kind = field.type
        given = kind.split(" | ") if isinstance(kind, str) else getattr(kind, "__args__", [kind])
        kinds = {getattr(each, "__name__", str(each)) for each in given}
        if not {"int", "float"} & kinds or field.name in FREE:
            continue
        more = {"mode": modes[field.name]} if field.name in modes else {}
        with pytest.raises(UsageError, match=field.name):
            of(**{field.name: -1 if "int" in kinds else -1.0}, **more)


def test_zero_is_no_limit_and_no_number_of_anything():
    for name in ("epochs", "steps", "batch_size", "devices", "val_samples"):
        with pytest.raises(UsageError, match=f"`{name}` must be "):
            TrainConfig(**{name: 0})
    for name in ("minutes", "learning_rate"):
        with pytest.raises(UsageError, match=f"`{name}` must be "):
            TrainConfig(**{name: 0.0})
    widths = ("stem", "width", "decoder_width")
    for name in ("mean_samples", "draws_per_step", "max_bad_steps", *widths):
        with pytest.raises(UsageError, match=f"`{name}` must be at least 1"):
            ModelConfig(**{name: 0})
    for name in ("height", "width", "num_samples"):
        with pytest.raises(UsageError, match=f"`{name}` must be at least 1"):
            ExportConfig(**{name: 0})
    for name in ("steps", "batch_size"):
        with pytest.raises(UsageError, match=f"`{name}` must be at least 1"):
            NewRaterConfig(**{name: 0})
    with pytest.raises(UsageError, match="`learning_rate` must be above 0"):
        NewRaterConfig(learning_rate=0.0)


def test_the_published_preset_is_what_was_published():
    """arXiv 2512.00748 and its code."""
    model, training = preset_configs("published", raters=["a"])
    found = (training.learning_rate, training.preference_learning_rate, training.batch_size)
    assert found == (5e-5, 2e-3, 16)
    assert (model.beta_tau, model.beta_z, model.rater_weight, model.mask_l2) == (0.1, 0.1, 1, 1e-5)
    stages = make_backbone(model).stages
    blocks = [sum(hasattr(block, "conv2") for block in stage) for stage in stages]
    assert blocks == [3, 4, 6, 3]  # of a ResNet-34
