"""ONNX and LiteRT in their own runtimes, against the model given the same tau and noise."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnxruntime import InferenceSession

from keras_proseg.config import ExportConfig
from keras_proseg.distributions import standard_normal
from keras_proseg.errors import UsageError
from keras_proseg.export import export_run
from keras_proseg.export.litert import write_litert
from keras_proseg.export.onnx import write_onnx
from keras_proseg.export.portable import Portable
from keras_proseg.model import ProSeg

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
MAPS = {"probability": "mean"} | {n: n for n in ("total", "between_rater", "boundary")}


@pytest.fixture(scope="module")
def models(tiny_run, once):
    """A folder with `models/proseg` in it, as the page has it."""

    def make(folder):
        out = folder / "models" / "proseg"
        export_run(tiny_run.path, out, ExportConfig(format="onnx"))
        export_run(tiny_run.path, out, ExportConfig(format="litert", num_samples=3))

    return once("portable", make)


@pytest.fixture
def onnx_folder(models):
    return models / "models" / "proseg" / "onnx" / "1"


def latents(model, image, rater, seed, num):
    """tau (B, S, T) and noise (B, S, h, w, D) behind `model.sample`, and its answer."""
    batch = len(image)
    tau = model.preference.q_tau().sample(num, [seed, 0]).numpy()[None, :, rater]
    grid = Portable(model).grid(*image.shape[1:3])
    noise = standard_normal((num, *grid, model.settings.ambiguity_size), [seed, 1]).numpy()
    drawn = {"tau": np.repeat(tau, batch, 0), "noise": np.repeat(noise[None], batch, 0)}
    return drawn, model.sample(image, rater, num, seed)


def run_onnx(file, **inputs):
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    answers = session.run(None, inputs)
    return dict(zip([o.name for o in session.get_outputs()], answers, strict=True)), session


def test_onnx_agrees_at_any_size(onnx_folder, tiny_model, images):
    for image in (images, images[:1, :32, :17]):
        drawn, expected = latents(tiny_model, image, 1, 7, 5)
        answer, session = run_onnx(onnx_folder / "sample.onnx", image=image, **drawn)
        np.testing.assert_allclose(answer["samples"], expected, atol=1e-5)
        noise = Portable(tiny_model).fixed_noise(*image.shape[1:3]).numpy()
        maps, _ = run_onnx(onnx_folder / "serving_default.onnx", image=image, noise=noise)
        for name, own in MAPS.items():
            np.testing.assert_allclose(maps[name], tiny_model.uncertainty(image)[own], atol=1e-5)
    assert [given.name for given in session.get_inputs()] == ["image", "tau", "noise"]
    shapes = {given.name: given.shape for given in session.get_inputs()}
    assert shapes["image"] == ["batch", "height", "width", 1]
    assert shapes["noise"] == ["batch", "draws", "grid_height", "grid_width", 4]


def test_onnx_with_z_of_each_rater(images, tmp_path):
    settings = {"width": 4, "depth": 2, "mean_samples": 2, "ambiguity_stride": 2}
    model = ProSeg(raters=["ann", "bob"], ambiguity_per_rater=True, **settings)
    write_onnx(tmp_path, model)
    drawn, expected = latents(model, images, 1, 3, 2)
    rater = np.ones((3, 2), "int32")
    answer, session = run_onnx(tmp_path / "sample.onnx", image=images, rater=rater, **drawn)
    np.testing.assert_allclose(answer["samples"], expected, atol=1e-4)
    shapes = {given.name: given.shape for given in session.get_inputs()}
    assert shapes["rater"] == ["batch", "draws"]
    assert shapes["tau"][:2] == ["batch", "draws"]


def test_beside_the_graphs_lies_what_a_client_must_know(onnx_folder, tiny_model):
    assert "ann, bob, cy" in (onnx_folder / "MODEL_CARD.md").read_text()
    known = json.loads((onnx_folder / "metadata.json").read_text())["latents"]
    concentration = np.array(known["tau_concentration"])
    mean = concentration / concentration.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mean, tiny_model.preference.q_tau().mean(), rtol=1e-5)
    assert known["views"] == tiny_model.settings.views > 1


def test_a_missing_converter_is_named(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UsageError, match=r"keras-proseg\[onnx\]"):
        write_onnx(tmp_path, tiny_model)
    assert not list(tmp_path.iterdir())


def assert_litert(file, model, image, num_samples, largest):
    interpreter = Interpreter(str(file))
    drawn, expected = latents(model, image, 2, 5, num_samples)
    answer = interpreter.get_signature_runner("sample")(image=image, **drawn)["samples"]
    np.testing.assert_allclose(answer, expected, atol=largest)
    maps = interpreter.get_signature_runner("serving_default")(image=image)
    expected = model.uncertainty(image)
    for name, own in MAPS.items():
        np.testing.assert_allclose(maps[name], expected[own], atol=largest)


def test_litert_agrees(models, tiny_model, images):
    image = np.resize(images, (1, 128, 128, 1))
    assert_litert(models / "models/proseg/litert/1/model.tflite", tiny_model, image, 3, 1e-5)


@pytest.mark.parametrize(("precision", "largest"), [("float16", 2e-3), ("int8", 0.05)])
def test_litert_with_smaller_weights(precision, largest, tiny_model, images, tmp_path):
    size = {"height": 40, "width": 45}
    config = ExportConfig(format="litert", num_samples=2, precision=precision, **size)
    before = tiny_model.mask_decoder.in_one_product
    write_litert(tmp_path, tiny_model, config)
    assert tiny_model.mask_decoder.in_one_product == before
    assert_litert(tmp_path / "model.tflite", tiny_model, images[:1], 2, largest)


@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_the_pages_examples_work_as_pasted(runtime, models, monkeypatch):
    monkeypatch.chdir(models)
    (code,) = re.findall(rf"```python {runtime}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    if runtime == "onnx":
        assert names["probability"].shape == (1, 128, 100, 1)
        assert names["samples"].shape == (1, 8, 128, 100, 1)
    else:
        assert names["maps"]["probability"].shape == (1, 128, 128, 1)


def test_litert_with_smaller_weights_is_smaller(tiny_model, tmp_path):
    sizes = []
    for precision in ("float32", "float16", "int8"):
        config = ExportConfig(
            format="litert", num_samples=1, precision=precision, height=32, width=32
        )
        write_litert(tmp_path, tiny_model, config)
        sizes.append((tmp_path / "model.tflite").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]
