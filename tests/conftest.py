"""One tiny data set and one tiny trained run, shared by the tests."""

import fcntl
import os
import shutil
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
def once(tmp_path_factory, worker_id):
    """`once(name, make)`: a copy of what `make(folder)` writes, which one worker does for all."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "shared"
    shared.mkdir(exist_ok=True)

    def copy_of(name, make):
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                make(folder := tmp_path_factory.mktemp("made") / name)
                folder.rename(shared / name)
        return shutil.copytree(shared / name, tmp_path_factory.mktemp("copies") / name)

    return copy_of


@pytest.fixture(scope="session")
def tiny_run(tiny_npz, once):
    from keras_proseg.runs import Run
    from keras_proseg.training import train

    def make(folder):
        settings = TINY | {"views": 2, "steps": 8, "batch_size": 4}
        train(str(tiny_npz), folder, log=lambda line: None, **settings)

    return Run.open(once("tiny", make))


@pytest.fixture(scope="session")
def tiny_model(tiny_run):
    from keras_proseg import load

    return load(tiny_run.path)
