"""Files and answers carry over between the backends; each runs in a process of its own."""

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from keras_proseg.backends import PACKAGES
from keras_proseg.config import ExportConfig
from keras_proseg.export import trained_model
from keras_proseg.export.metadata import describe
from keras_proseg.runs import Run

INSTALLED = [b for b, needs in PACKAGES.items() if all(map(find_spec, needs.values()))]

TESTS = Path(__file__).parents[1]
START = """
import sys
for other in {{"tensorflow", "jax", "torch"}} - {{"{backend}"}}:
    sys.modules[other] = None
import keras, numpy as np
from keras import ops
sys.path.insert(0, r"{tests}")
"""
WRITE = (
    START
    + """
from tiny_data import TINY, tiny_arrays
from keras_proseg import Dataset, evaluate, load
from keras_proseg.training import train
dataset = Dataset.from_arrays(**tiny_arrays(16), patients=np.arange(16) // 2)
run = train(dataset, r"{out}", lambda line: None, steps=2, batch_size=4, validations=1, **TINY)
model = load(run.path)
assert model.sample(dataset.images[0], rater="rater2", num_samples=3).shape == (3, 32, 32, 1)
assert "ged" in evaluate(model, dataset.take(np.arange(2)), 2, progress=False)[0]
assert run.config["versions"]["backend"] == "{backend}"
"""
)
READ = (
    START
    + """
from tiny_data import tiny_arrays
from keras_proseg import load
image = tiny_arrays(2)["images"]
for name in {installed}:
    model = load(r"{out}/" + name)
    features, heads = model.encode(ops.convert_to_tensor(image))
    z, tau = model.ambiguity.q_z(heads).mean(), model.preference.q_tau().mean()[None]
    answer = ops.sigmoid(model.decode(image, features, z, tau))
    np.save(r"{out}/" + name + "_{backend}.npy", ops.convert_to_numpy(answer))
    state = {{v.path: ops.convert_to_numpy(v) for v in model.optimizer.variables}}
    np.savez(r"{out}/" + name + "_{backend}.npz", **state)
    masks = tiny_arrays(2)["masks"][..., None]
    assert np.isfinite(model.train_on_batch({{"image": image, "masks": masks}})).all()
    assert model.steps_done == 3
"""
)


def run_on(backend, script, out):
    code = script.format(backend=backend, tests=TESTS, out=out, installed=INSTALLED)
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(len(INSTALLED) < 2, reason="one backend alone has none to agree with")
def test_files_and_predictions_carry_over(tmp_path):
    """Train, load, sample and evaluate without the others; then read all files everywhere."""
    for backend in INSTALLED:
        run_on(backend, WRITE, tmp_path / backend)
    for backend in INSTALLED:
        run_on(backend, READ, tmp_path)
    for written in INSTALLED:
        run = Run.open(tmp_path / written)  # and each is what an export starts from
        assert describe(run, trained_model(run), ExportConfig())
        answers = [np.load(tmp_path / f"{written}_{read}.npy") for read in INSTALLED]
        assert answers[0].shape == (2, 3, 32, 32, 1)
        for one, two in itertools.combinations(answers, 2):
            np.testing.assert_allclose(one, two, atol=1e-5)
        states = [dict(np.load(tmp_path / f"{written}_{read}.npz")) for read in INSTALLED]
        moments = [value for path, value in states[0].items() if path.endswith("_momentum")]
        assert sum(np.abs(m).sum() for m in moments) > 0
        for one, two in itertools.combinations(states, 2):
            np.testing.assert_equal(one, two)


DRAW = (
    START
    + """
from tiny_data import tiny_arrays
from tiny_model import tiny
model, image = tiny(), tiny_arrays(2)["images"]
answers = [model.predict_rater(image, 1), model.sample(image, None, 4, seed=3)]
np.save(r"{out}.npy", np.concatenate([np.ravel(answer) for answer in answers]))
"""
)


@pytest.mark.skipif("jax" not in INSTALLED, reason="JAX is not installed")
def test_draws_of_jax_do_not_depend_on_its_default_precision(tmp_path, monkeypatch):
    found = []
    for wide in ("0", "1"):
        monkeypatch.setenv("JAX_ENABLE_X64", wide)
        run_on("jax", DRAW, tmp_path / wide)
        found.append(np.load(tmp_path / f"{wide}.npy"))
    np.testing.assert_allclose(*found, atol=1e-6)
