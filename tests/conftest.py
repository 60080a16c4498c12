"""One tiny data set and one tiny trained run, shared by the tests."""

import os
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Two tests run at once; with more threads steps would be traced in halves (see test_threads.py).
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# JAX compiles more than it runs here, and much of it again and again.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", (COMPILED := TemporaryDirectory()).name)

import numpy as np
import pytest
from tiny_data import TINY, tiny_arrays

LONG = ("01_quickstart.ipynb", "test_training.py")


def pytest_collection_modifyitems(items):
    """Long ones first: at the end they would leave a core idle."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def arrays():
    return tiny_arrays()


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    patients = [f"p{k // 2}" for k in range(24)]
    np.savez(path, **tiny_arrays(), patient_ids=patients, rater_ids=["ann", "bob", "cy"])
    return path


@pytest.fixture(scope="session")
def tiny_run(tiny_npz, tmp_path_factory):
    from keras_proseg.training import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    return train(
        str(tiny_npz), out, log=lambda line: None, steps=8, batch_size=4, **TINY | {"views": 2}
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_run):
    from keras_proseg import load

    return load(tiny_run.path)
