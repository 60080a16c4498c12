"""The SavedModel where there is no package of ours: a clean environment, and a C program."""

import json
import shutil
import subprocess
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from packaging.requirements import Requirement

from keras_proseg.export.warmup import WARMUP

CLEAN = """
import sys
import numpy as np, tensorflow as tf
for absent in ("keras_proseg", "tensorflow_probability", "tf_keras", "pylidc"):
    try:
        __import__(absent)
    except ImportError:
        continue
    raise SystemExit(absent + " is there")
served = tf.saved_model.load(sys.argv[1]).signatures
given = np.load(sys.argv[2])
image = tf.constant(given["image"])
answers = dict(served["serving_default"](image=image))
rater, seed = tf.constant(["bob"]), tf.constant([7])
answers |= served["sample_by_name"](image=image, rater=rater, seed=seed)
for name, value in answers.items():
    worst = abs(value.numpy() - given[name]).max()
    assert worst <= 1e-5, (name, worst)
print("agrees", sorted(answers))
"""


def requirements_of(name, found):
    """`name` and all that it requires here, as distributions by name."""
    try:
        found[name] = distribution(name)
    except PackageNotFoundError:
        return found
    for text in found[name].requires or []:
        required = Requirement(text)
        wanted = not required.marker or required.marker.evaluate({"extra": ""})
        if wanted and required.name not in found:
            requirements_of(required.name, found)
    return found


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory):
    """An environment with TensorFlow and what it requires, by links instead of an installation."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for found in requirements_of("tensorflow", {}).values():
        for top in {file.parts[0] for file in found.files if file.parts[0] != ".."}:
            if not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def expected(tiny_model, images, tmp_path_factory):
    """An image and the model's own answers, as a file."""
    maps = tiny_model.uncertainty(images[:1])
    maps["probability"] = maps.pop("mean")
    samples = tiny_model.sample(images[:1], "bob", 4, seed=7)
    file = tmp_path_factory.mktemp("expected") / "expected.npz"
    np.savez(file, image=images[:1], samples=samples, **maps)
    return file


def test_a_clean_environment_agrees(exported, expected, clean_python):
    done = subprocess.run(
        [clean_python, "-I", "-c", CLEAN, exported, expected], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "agrees" in done.stdout


def signature_names(exported, signature):
    """Names of the inputs' and outputs' tensors, as any reader of saved_model.pb finds them."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    found = content.meta_graphs[0].signature_def[signature]
    return {k: v.name for side in (found.inputs, found.outputs) for k, v in side.items()}


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("c") / "serve"
    library = Path(tf.sysconfig.get_lib())
    subprocess.run(
        [
            compiler, "-Wall", "-Werror", "-O1", Path(__file__).with_name("serve.c"),
            f"-I{tf.sysconfig.get_include()}", f"-Wl,-rpath,{library}", "-o", program,
            library / "libtensorflow_cc.so.2", library / "libtensorflow_framework.so.2",
        ],
        check=True,
    )  # fmt: skip
    return program


@pytest.mark.parametrize("name", ["probability", "samples"])
def test_a_c_program_agrees(name, c_program, exported, expected, tmp_path):
    given = np.load(expected)
    given["image"].tofile(tmp_path / "image.raw")
    names = signature_names(exported, "sample" if name == "samples" else "serving_default")
    draws, inputs = ([], [names["image"]])
    if name == "samples":
        draws, inputs = ["1", "7"], [names[k] for k in ("image", "rater", "seed")]
    size = [str(n) for n in given["image"].shape[1:3]]
    command = [c_program, exported, tmp_path / "image.raw", *size, *draws]
    done = subprocess.run(
        [*command, tmp_path / "answer.raw", *inputs, names[name]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shape = [int(n) for n in done.stdout.split()]
    assert shape == list(given[name].shape)
    answer = np.fromfile(tmp_path / "answer.raw", "float32").reshape(shape)
    np.testing.assert_allclose(answer, given[name], atol=1e-5)


def test_the_warmup_requests_are_replayed(exported, served):
    from tensorflow_serving.apis import prediction_log_pb2

    seen = {}
    for record in tf.data.TFRecordDataset(str(exported / WARMUP)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log
        spec = log.request.model_spec
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in log.request.inputs.items()}
        seen[spec.signature_name] = served[spec.signature_name](**inputs)
        assert spec.name == "proseg"
    assert set(seen) == set(served)
    assert seen["sample"]["samples"].shape == (1, 4, 32, 32, 1)
    assert json.loads(seen["metadata"]["json"].numpy()[0])["raters"] == ["ann", "bob", "cy"]
