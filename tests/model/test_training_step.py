import math
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from on_backend import QUICK, Repeated
from tiny_model import batch, tiny

from keras_proseg import ProSegError, UsageError
from keras_proseg.config import TrainConfig
from keras_proseg.keras_state import precision_of
from keras_proseg.layers.backbone import FIRST
from keras_proseg.muon import KernelMuon
from keras_proseg.optimizers import (
    ENCODER_NAME,
    KERNEL_NAME,
    KERNELS,
    PREFERENCE_NAME,
    WarmupCosine,
    make_optimizer,
    rate_factor,
)
from keras_proseg.plan import Plan
from keras_proseg.trainers import Adam
from keras_proseg.trainers.guard import NonFiniteGuard


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


@pytest.mark.parametrize("per_execution", [1, 3])
def test_the_guard_counts_steps_and_not_executions(per_execution):
    """It looks at step 4, or at the end of the execution that this is in."""
    guard = NonFiniteGuard(4)
    looked = []
    guard._look = lambda: looked.append(guard.steps)
    guard.on_epoch_begin(0)
    for last in range(per_execution - 1, 12, per_execution):
        guard.on_train_batch_end(last)
    assert looked == {1: [4, 8, 12], 3: [6, 9, 12]}[per_execution]


@pytest.mark.parametrize("name", ["preference", "my_preference", "rater_classifier", "proseg"])
def test_what_a_model_is_called_is_no_rule_of_the_optimizers(name):
    owned = paths_by_optimizer(tiny(name=name), make_optimizer())
    assert {is_of_raters(path.partition("/")[2]) for path in owned[PREFERENCE_NAME]} == {True}
    assert len(owned[KERNEL_NAME]) > 0


def is_of_raters(path):
    return "preference/" in path or "rater_classifier/" in path


def paths_by_optimizer(model, optimizer):
    model.compile(optimizer, **QUICK)
    model.train_on_batch(batch())
    owned = {o.name: {v.path for v in o._trainable_variables} for o in optimizer.optimizers}
    assert set().union(*owned.values()) == {v.path for v in model.trainable_variables}
    return owned


def kernel_paths(model):
    kernels = [v.path for v in model.backbone.trainable_variables if len(v.shape) == 4]
    return {path for path in kernels if path.split("/")[-2] != FIRST}


@pytest.mark.backend
def test_encoder_kernels_and_rater_layers_have_optimizers_of_their_own():
    model = tiny(backbone="efficientnet-lite0")
    owned = paths_by_optimizer(model, make_optimizer(trained_encoder=True))
    paths = {v.path for v in model.trainable_variables}
    encoder = {p for p in paths if "/encoder_" in p}
    assert "proseg/backbone/encoder_stem" in {p.rsplit("/", 2)[0] for p in encoder}
    assert owned[ENCODER_NAME] == encoder
    assert owned[KERNEL_NAME] == kernel_paths(model) - encoder
    assert owned[PREFERENCE_NAME] == {p for p in paths if is_of_raters(p)}


@pytest.mark.parametrize("backbone", ["light", "resnet34"])
def test_kernels_of_every_backbone_are_found(backbone):
    model = tiny(backbone=backbone)
    found = {v.path for v in model.trainable_variables if re.fullmatch(KERNELS, v.path)}
    assert found == kernel_paths(model)
    assert len(found) + 1 == sum(len(v.shape) == 4 for v in model.backbone.trainable_variables)


def test_without_muon_kernels_are_with_the_rest():
    owned = paths_by_optimizer(tiny(), make_optimizer(TrainConfig(optimizer="adam")))
    assert set(owned) == {PREFERENCE_NAME, "network_adam"}
    with pytest.raises(UsageError, match="`optimizer` must be one of muon, adam. Received: sgd"):
        TrainConfig(optimizer="sgd")


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (1, 1, 12, 5), (3, 3, 1, 16)])
def test_muon_moves_a_kernel_along_the_orthogonal_matrix_nearest_to_its_gradient(shape):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(math.prod(shape[:-1]), shape[-1]))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kernel = keras.Variable(np.zeros(shape, "float32"))
    optimizer = KernelMuon(learning_rate=0.5, weight_decay=None)
    optimizer.build([kernel])
    gradient = keras.ops.convert_to_tensor((left * values @ right).reshape(shape), "float32")
    optimizer.apply([gradient], [kernel])
    step = -keras.ops.convert_to_numpy(kernel).reshape(matrix.shape)
    in_own_directions = left.T @ step @ right.T / (0.5 * 0.2 * math.sqrt(max(matrix.shape)))
    lengths = np.diag(in_own_directions)
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3
    np.testing.assert_allclose(in_own_directions, np.diag(lengths), atol=1e-4)


@pytest.mark.backend
def test_a_kernel_without_gradient_stays_and_decays():
    kernel = keras.Variable(np.ones((3, 3, 2, 4), "float32"))
    optimizer = KernelMuon(learning_rate=0.5, weight_decay=0.1)
    optimizer.build([kernel])
    optimizer.apply([keras.ops.zeros((3, 3, 2, 4))], [kernel])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(kernel), 0.95, rtol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_makes_the_steps_of_keras_own(amsgrad):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype("float32")
    gradients = rng.normal(size=(5, 3, 4)).astype("float32")
    settings = {"learning_rate": 0.1, "weight_decay": 0.05, "amsgrad": amsgrad}
    optimizers = [Adam(**settings), keras.optimizers.AdamW(**settings)]
    ends = [keras.Variable(start) for _ in optimizers]
    for optimizer, variable in zip(optimizers, ends, strict=True):
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    assert np.abs(keras.ops.convert_to_numpy(ends[0]) - start).max() > 0.3
    states = [[*o.variables, v] for o, v in zip(optimizers, ends, strict=True)]
    for own, kerass in zip(*states, strict=True):
        np.testing.assert_allclose(
            *map(keras.ops.convert_to_numpy, (own, kerass)), rtol=1e-5, atol=1e-5
        )


@pytest.mark.backend
def test_adam_of_a_file_from_tensorflow_is_known_to_every_backend():
    saved = {
        "module": "keras_proseg.trainers.tensorflow_adam",
        "class_name": "Adam",
        "registered_name": "keras_proseg>Adam",
        "config": keras.optimizers.Adam(weight_decay=0.05).get_config(),
    }
    read = keras.saving.deserialize_keras_object(saved)
    assert isinstance(read, Adam)
    assert read.weight_decay == 0.05


def test_rates_rise_and_fall():
    assert [rate_factor(s, p, 10) for s, p in ((0, 0), (100, 1))] == [pytest.approx(0.1), 0]
    assert rate_factor(50, 0.5, 10) == pytest.approx(0.5)
    assert rate_factor(9, 0, 10) == 1


@pytest.mark.backend
def test_the_rates_are_those_of_the_step_inside_fit():
    model = tiny(backbone="efficientnet-lite0")
    model.compile(make_optimizer(trained_encoder=True), **QUICK)
    starts = [keras.ops.convert_to_numpy(w) + 0 for w in model.trainable_variables]
    config = TrainConfig(preference_learning_rate=0.0, encoder_learning_rate=0.0, warmup=0)
    model.fit(Repeated(batch(), 2), callbacks=[WarmupCosine(config, Plan(2, 2), 0)], verbose=0)
    ends = [keras.ops.convert_to_numpy(w) + 0 for w in model.trainable_variables]
    for weight, start, end in zip(model.trainable_variables, starts, ends, strict=True):
        still = is_of_raters(weight.path) or "/encoder_" in weight.path
        assert np.array_equal(start, end) == still, weight.path
    model.fit(Repeated(batch(), 2), callbacks=[WarmupCosine(config, Plan(2, 2), 2)], verbose=0)
    for weight, end in zip(model.trainable_variables, ends, strict=True):
        np.testing.assert_array_equal(end, keras.ops.convert_to_numpy(weight), err_msg=weight.path)


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}])
def test_fit_makes_one_graph_and_ends_where_a_dataset_of_unknown_length_does(options, monkeypatch):
    import tensorflow as tf

    model, traced = tiny(), []
    monkeypatch.setattr(model, "record", lambda *a, of=model.record: traced.append(a) or of(*a))
    model.compile(**options)
    rows = tf.data.Dataset.from_tensor_slices(batch(8)).filter(lambda _: True)
    model.fit(rows.batch(4), epochs=2, verbose=0)
    assert model.steps_done == 4
    assert len(traced) == 1


def test_one_batch_by_itself_is_a_step():
    model = tiny()
    model.compile()
    logs = model.train_on_batch(batch(), return_dict=True)
    assert np.isfinite(logs["loss"])
    assert model.steps_done == 1


def test_clipping_and_decay_are_of_the_optimizers_they_are_meant_for():
    parts = make_optimizer(TrainConfig(weight_decay=0.03, clip=0.7), True).optimizers
    assert {part.global_clipnorm for part in parts} == {0.7}
    others = {part.name: part.weight_decay for part in parts if part.weight_decay != 0.03}
    assert others == {PREFERENCE_NAME: None}
    for none in (0, None):
        parts = make_optimizer(TrainConfig(clip=none), True).optimizers
        assert {part.global_clipnorm for part in parts} == {None}


def test_the_rate_moves_with_every_step_of_a_fit():
    network = SimpleNamespace(name="network_adam", learning_rate=None)
    optimizer = SimpleNamespace(optimizers=[network])
    schedule = WarmupCosine(TrainConfig(learning_rate=1.0, warmup=0), Plan(4, 4), 1)
    schedule.set_model(SimpleNamespace(optimizer=optimizer, sync_state=lambda: None))
    rates = []
    for _ in range(3):
        schedule.on_train_batch_begin(0)
        rates.append(network.learning_rate)
    np.testing.assert_allclose(rates, [(1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3)])


@pytest.mark.backend
def test_masks_of_0_and_255_stop_the_training():
    model, data = tiny(max_bad_steps=2), batch(2)
    model.compile(**QUICK)
    data["masks"] = 255 * data["masks"]
    with pytest.raises(ProSegError, match="masks are 0 to 1"):
        model.fit(Repeated(data, 2), verbose=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": None}, "a dict of image, masks, annotated. Received: "),
        ({"masks": np.zeros((2, 3, 32, 32), "uint8")}, r"masks must be \(B, R, H, W, K\) = "),
        ({"masks": np.zeros((2, 2, 32, 32, 1), "uint8")}, r"\(any, 3, 32, 32, 1\)"),
        ({"image": np.zeros((2, 32, 32, 3), "float32")}, r"image must be .*\(any, any, any, 1\)"),
        ({"annotated": np.ones((2, 2), bool)}, r"annotated must be \(B, R\) = \(any, 3\)"),
    ],
)
def test_batches_of_another_shape_are_one_line(change, message):
    data = batch(2) | change
    model = tiny()
    model.compile(**QUICK)
    with pytest.raises(ProSegError, match=message):
        model.train_on_batch({name: value for name, value in data.items() if value is not None})


def test_weights_of_samples_are_refused():
    model, data = tiny(), batch(2)
    model.compile(**QUICK)
    with pytest.raises(UsageError, match="`sample_weight` must be left out"):
        model.fit(data, sample_weight=np.ones(2), batch_size=2, verbose=0)
    with pytest.raises(UsageError, match="targets or weights"):
        model.train_on_batch(data, np.ones(2))
    with pytest.raises(UsageError, match="`sample_weight` must be left out"):
        model.evaluate(data, sample_weight=np.ones(2), verbose=0)
    for name in ("fit", "evaluate"):
        with pytest.raises(UsageError, match="`y` must be left out"):
            getattr(model, name)(data, np.ones(2), verbose=0)
    with pytest.raises(UsageError, match="`validation_data` must be batches alone"):
        model.fit(data, validation_data=(data, None, np.ones(2)), verbose=0)


@pytest.mark.backend
def test_all_raters_are_annotated_by_default():
    model, data = tiny(), batch(2)
    model.compile(**QUICK)
    whole = model.test_on_batch(data, return_dict=True)
    del data["annotated"]
    assert model.test_on_batch(data, return_dict=True) == pytest.approx(whole, rel=1e-4)


@pytest.mark.backend
def test_every_image_counts_alike_in_an_evaluation_whatever_its_batch():
    model, data = tiny(), batch(3)
    model.compile(**QUICK)
    parts = [{name: column[k] for name, column in data.items()} for k in (slice(2), slice(2, 3))]
    two, one = (model.test_on_batch(part, return_dict=True)["loss"] for part in parts)
    model.reset_metrics()
    together = model.evaluate(data, batch_size=2, verbose=0, return_dict=True)["loss"]
    assert together == pytest.approx((2 * two + one) / 3, rel=1e-4)
    assert abs(one / two - 1) > 1e-3


@pytest.mark.backend
def test_a_loss_scaled_too_far_is_scaled_by_less():
    model = tiny(nll_weight=1e4)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3), initial_scale=1e38)
    model.compile(scaled, run_eagerly=True)
    model.train_on_batch(batch(2))
    assert (int(model.steps_skipped), int(model.steps_seen)) == (1, 1)
    assert float(scaled.dynamic_scale) < 1e38


def test_batches_that_do_not_say_their_axes_are_one_line():
    import tensorflow as tf

    def without_shape(column):
        column = tf.convert_to_tensor(column)
        return tf.numpy_function(lambda values: values, [column], column.dtype)

    data = tf.data.Dataset.from_tensors(batch(2))
    data = data.map(lambda given: {name: without_shape(each) for name, each in given.items()})
    model = tiny()
    model.compile("sgd")
    text = r"image must be of known axes \(`set_shape`\). Received: an unknown shape"
    with pytest.raises(ProSegError, match=text):
        model.fit(data, verbose=0)


@pytest.mark.backend
def test_half_precision_scales_the_loss():
    with precision_of("mixed_float16"):
        model = tiny()
    for given in (None, "adam", keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())):
        model.compile(given)
        assert model.scales_loss
        inner = model.optimizer.inner_optimizer
        assert not isinstance(inner, keras.optimizers.LossScaleOptimizer)
    assert np.isfinite(float(model.train_on_batch(batch(2), return_dict=True)["loss"]))
    model = tiny()
    model.compile("adam")
    assert not model.scales_loss


def test_targets_and_weights_of_any_name_are_refused():
    model = tiny()
    model.compile(run_eagerly=True)
    with pytest.raises(UsageError, match="`class_weight` must be left out"):
        model.fit(batch(2), class_weight={0: 1.0}, verbose=0)


@pytest.mark.parametrize("kind", [tuple, list, lambda own: own[0]])
def test_callbacks_may_be_one_or_several_and_see_no_mean_of_nothing(kind):
    seen, bad = [], batch(2)
    bad["image"][:] = np.nan
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: seen.append(logs["loss"]))
    model = tiny()
    model.compile(run_eagerly=True)
    model.fit(bad, batch_size=2, callbacks=kind([note]), verbose=0)
    assert np.isnan(seen).all()
    assert len(seen) == 1
