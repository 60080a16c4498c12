"""What every backend must do alike; run once under each: `KERAS_BACKEND=jax pytest -m backend`."""

import keras
import numpy as np
import pytest
from keras import ops
from on_backend import Repeated
from tiny_data import SMALL, TINY, tiny_arrays

from keras_proseg import Dataset, ProSeg, load
from keras_proseg.config import TrainConfig
from keras_proseg.data.augment import augment
from keras_proseg.data.dataset import COLUMNS
from keras_proseg.data.pipeline import BatchReader
from keras_proseg.data.sequence import TrainingSequence
from keras_proseg.optimizers import make_optimizer
from keras_proseg.training import resume, train

pytestmark = pytest.mark.backend


class Plain(ProSeg):
    """The same objective under the backend's own step of Keras."""

    train_step = keras.Model.train_step

    def call(self, batch, training=False):
        return ops.zeros(())

    def compute_loss(self, x=None, *args, **kwargs):
        return self.compute_terms_and_loss(x)[1]

    def compute_metrics(self, *args, **kwargs):
        return {"nothing": ops.zeros(())}


def batches():
    reader = BatchReader(
        Dataset.from_arrays(**tiny_arrays(12)), TrainConfig(batch_size=4, rotation="any")
    )
    return TrainingSequence(reader, 0, True)


def test_own_step_equals_keras_own_step():
    models = []
    for kind in (ProSeg, Plain):
        keras.utils.set_random_seed(0)
        model = kind(raters=["ann", "bob", "cy"], **SMALL)
        model.compile(make_optimizer())
        model.fit(batches(), steps_per_epoch=8, verbose=0)
        models.append(model)
    for one, two in zip(*(m.trainable_variables for m in models), strict=True):
        got, expected = ops.convert_to_numpy(one), ops.convert_to_numpy(two)
        np.testing.assert_allclose(got, expected, atol=2e-6, err_msg=one.path)


def test_the_sequence_gives_the_readers_batches_augmented():
    sequence = batches()
    got, reader = sequence[2], sequence.reader
    expected = augment(reader.batch(2) | reader.augmentation(2))
    for name in COLUMNS:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
    plain = TrainingSequence(reader, 1, False)[1]
    np.testing.assert_array_equal(plain["masks"], reader.batch(2)["masks"])


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="a killed run shows it in test_training.py"
)
def test_a_stopped_run_ends_like_one_never_stopped(tmp_path):
    dataset = Dataset.from_arrays(**tiny_arrays(24), patients=np.arange(24) // 2)
    settings = TINY | {"steps": 6, "batch_size": 4, "validations": 2}

    def stop(line):
        if line.startswith("step"):
            raise KeyboardInterrupt

    train(dataset, tmp_path / "whole", lambda line: None, **settings)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path / "cut", stop, **settings)
    run = resume(tmp_path / "cut", dataset, lambda line: None)
    models = [load(tmp_path / name) for name in ("whole", "cut")]
    assert [row["step"] for row in run.history()] == [3, 6]
    for one, two in zip(*(m.trainable_variables for m in models), strict=True):
        got, expected = ops.convert_to_numpy(two), ops.convert_to_numpy(one)
        np.testing.assert_allclose(got, expected, atol=2e-6, err_msg=one.path)


def test_mixed_precision_trains_and_is_saved_as_float32(tmp_path):
    dataset = Dataset.from_arrays(**tiny_arrays(24), patients=np.arange(24) // 2)
    settings = TINY | {"steps": 4, "batch_size": 4, "validations": 1}
    run = train(
        dataset, tmp_path / "run", lambda line: None, precision="mixed_bfloat16", **settings
    )
    assert np.isfinite(run.history()[-1]["loss"])
    assert keras.config.dtype_policy().name == "float32"
    model = load(run.path)
    assert int(model.steps_skipped) == 0
    assert model.backbone.compute_dtype == "float32"
    raw = np.full((1, 2, 2, 1), 1001.0, "float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = ProSeg(raters=["ann"], **SMALL, intensity={"mode": "divide", "scale": 1.0})
    finally:
        keras.config.set_dtype_policy("float32")
    assert mixed.backbone.ups[0].compute_dtype == "bfloat16"
    np.testing.assert_array_equal(ops.convert_to_numpy(mixed.scaling(raw)), raw)


def test_steps_that_are_not_finite_are_counted_inside_fit():
    model = ProSeg(raters=["ann", "bob", "cy"], **SMALL)
    model.compile()
    good = dict(batches()[0])
    bad = good | {"image": good["image"] * np.inf}
    before = [ops.convert_to_numpy(v) + 0 for v in model.trainable_variables]
    skipped = model.fit(Repeated(bad, 3), verbose=0).history
    assert (model.steps_done, int(model.steps_skipped)) == (3, 3)
    for old, new in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
    # No mean of nothing, which a callback would take for the best.
    assert set(skipped) == {tracker.name for tracker in model.trackers}
    assert np.isnan(list(skipped.values())).all()
    some = Repeated(good, 3)
    some.batches[2] = bad
    assert np.isfinite(list(model.fit(some, verbose=0).history.values())).all()
    assert (model.steps_done, int(model.steps_skipped)) == (6, 4)
