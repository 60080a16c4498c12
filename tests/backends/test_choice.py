"""Choosing a backend: for one command, by environment, and when it is not there."""

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import keras
import pytest

from keras_proseg import UsageError, __version__, versions
from keras_proseg.backends import PACKAGES, choose_backend
from keras_proseg.export import export_saved_model


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())


@pytest.mark.usefixtures("environment")
def test_the_environment_decides_by_default():
    assert choose_backend() == keras.backend.backend()
    with pytest.raises(UsageError, match="one of tensorflow, jax, torch. Received: mxnet"):
        choose_backend("mxnet")


@pytest.mark.usefixtures("environment")
def test_a_backend_that_is_not_installed_is_one_line_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else name)
    with pytest.raises(UsageError, match=r"pip install 'keras-proseg\[jax\]'. Received: no jax"):
        choose_backend("jax")


def test_a_backend_without_its_distributions_is_one_line_too(monkeypatch):
    from keras_proseg import distributions

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"must be installed: pip install 'keras-proseg"):
        importlib.reload(distributions)


@pytest.mark.parametrize(("backend", "absent"), [("jax", "numpyro"), ("torch", "torch")])
def test_a_command_on_a_backend_that_is_not_installed(backend, absent, monkeypatch):
    from click.testing import CliRunner
    from keras_proseg_cli.main import main

    monkeypatch.setitem(sys.modules, absent, None)
    done = CliRunner().invoke(main, ["evaluate", "run", "--backend", backend])
    assert done.exit_code == 2
    assert f"pip install 'keras-proseg[{backend}]'. Received: no " in done.output
    assert absent in done.output
    assert done.output.count("\n") == 1


@pytest.mark.usefixtures("environment")
def test_keras_cannot_change_its_backend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    running = keras.backend.backend()
    other = next(name for name in PACKAGES if name != running)
    with pytest.raises(UsageError, match=f"before Keras starts {running}. Received: {other}"):
        choose_backend(other)
    assert os.environ["KERAS_BACKEND"] == running


def test_one_command_on_another_backend(tiny_run):
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "keras_proseg_cli.main", "evaluate", str(tiny_run.path)]
    command += ["--backend", "torch", "--num-samples", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ged" in done.stdout
    assert done.stderr == ""


def test_a_saved_model_needs_tensorflow(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(UsageError, match="KERAS_BACKEND=tensorflow. Received: torch"):
        export_saved_model(tmp_path, tmp_path / "out")


def test_a_wheel_of_another_name_is_of_an_unknown_version(monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", version)
    found = versions.versions()
    assert found["keras"] == "unknown"
    assert found["keras_proseg"] == __version__
