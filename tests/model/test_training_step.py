import keras
import numpy as np
import pytest
from on_backend import QUICK, Repeated
from tiny_model import batch, tiny

from keras_proseg import ProSegError
from keras_proseg.config import TrainConfig
from keras_proseg.optimizers import (
    ENCODER_NAME,
    PREFERENCE_NAME,
    WarmupCosine,
    make_optimizer,
    rate_factor,
)


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
