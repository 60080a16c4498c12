"""Version folders, what lies beside them, and what is not exported."""

import json
import shutil

import keras
import numpy as np
import pytest
from google.protobuf import text_format

from keras_proseg import pretrained
from keras_proseg.config import ExportConfig
from keras_proseg.errors import ProSegError, UsageError
from keras_proseg.export import export_saved_model, trained_model, version_folders, warmup
from keras_proseg.export.metadata import SHIPPED_CARD
from keras_proseg.export.serving_files import write_serving_files
from keras_proseg.model import ProSeg
from keras_proseg.runs import Run


def test_the_next_version_is_one_above_the_highest(tmp_path):
    for name in ("2", "10", "notes", "1.5", "007"):
        (tmp_path / name).mkdir()
    assert version_folders.free_version(tmp_path, None) == 11
    with pytest.raises(UsageError, match="Received: 7"):
        version_folders.free_version(tmp_path, 7)
    assert version_folders.free_version(tmp_path, 8) == 8
    assert version_folders.free_version(tmp_path / "none", None) == 1


def test_an_existing_version_is_kept(exported, tiny_run):
    before = (exported / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(UsageError, match="Received: 1"):
        export_saved_model(tiny_run.path, exported.parent, version=1)
    assert (exported / "saved_model.pb").stat().st_mtime_ns == before


def test_nothing_is_visible_of_a_version_that_failed(tiny_run, tmp_path, monkeypatch):
    def full(*_):
        assert not (tmp_path / "proseg" / "7").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_proseg.export.saved_model.write_warmup", full)
    monkeypatch.setattr("keras_proseg.export.saved_model.make_signatures", lambda *_: {})
    with pytest.raises(ProSegError, match="No space left"):
        export_saved_model(tiny_run.path, tmp_path / "proseg", version=7)
    assert list((tmp_path / "proseg").iterdir()) == []


def copied(tiny_run, tmp_path):
    return Run(shutil.copytree(tiny_run.path, tmp_path / "run"))


def test_an_untrained_run_is_refused(tiny_run, tmp_path):
    run = copied(tiny_run, tmp_path)
    ProSeg(raters=["ann"], width=4, depth=3).save(run.path / "best.keras")
    with pytest.raises(ProSegError, match="must be trained. Received: a model of 0 steps"):
        export_saved_model(run.path, tmp_path / "out")
    (run.path / "best.keras").unlink()
    with pytest.raises(ProSegError, match="must hold best.keras"):
        export_saved_model(run.path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_run_is_refused(tiny_run, tiny_model, tmp_path):
    run = copied(tiny_run, tmp_path)
    whole = (run.path / "best.keras").read_bytes()
    (run.path / "best.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProSegError, match="whole model"):
        export_saved_model(run.path, tmp_path / "out")
    model = tiny_run.load_model()
    weight = model.trainable_variables[0]
    weight.assign(np.full(weight.shape, np.nan))
    model.save(run.path / "best.keras")
    with pytest.raises(ProSegError, match="finite weights"):
        trained_model(run)
    (run.path / "best.keras").write_bytes(whole)
    (run.path / "metrics.json").write_text("{")
    with pytest.raises(ProSegError, match="a JSON file"):
        export_saved_model(run.path, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_rater_without_a_name_is_refused(tiny_run, tmp_path):
    run = copied(tiny_run, tmp_path)
    model = ProSeg(raters=["ann", ""], width=4, depth=3)
    model.steps_seen.assign(1)
    model.save(run.path / "best.keras")
    with pytest.raises(ProSegError, match="must name every rater"):
        trained_model(run)


def test_a_name_that_no_address_takes_is_refused(tiny_run, tmp_path):
    with pytest.raises(UsageError, match="letters, digits"):
        export_saved_model(tiny_run.path, tmp_path / "my model")


def test_a_foreign_run_is_refused(tiny_run, tmp_path):
    run = copied(tiny_run, tmp_path)
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(run.path / "best.keras")
    with pytest.raises(ProSegError, match="must be a ProSeg model. Received: Sequential"):
        export_saved_model(run.path, tmp_path / "out")
    run.config_file.write_text(json.dumps({"package": "other"}))
    with pytest.raises(ProSegError, match="of keras_proseg"):
        export_saved_model(run.path, tmp_path / "out")


def test_a_shipped_model_is_exported_by_its_name(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "shipped")
    monkeypatch.setattr("keras_proseg.export._write", lambda *_: None)
    pretrained.ship(tiny_run.path, tmp_path / "shipped" / "discs")
    folder = export_saved_model("discs", tmp_path / "models" / "discs")
    assert "ann, bob, cy" in (folder / "MODEL_CARD.md").read_text()
    assert not (folder / SHIPPED_CARD).exists()
    (tmp_path / "shipped" / "discs" / "README.md").write_text("who gave the images")
    folder = export_saved_model("discs", tmp_path / "models" / "discs")
    assert (folder / SHIPPED_CARD).read_text() == "who gave the images"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"format": "pickle"}, "saved_model, onnx, litert"),
        ({"version": 0}, "`version` must be at least 1"),
        ({"version": 2**63}, "`version` must be at most"),
        ({"num_samples": 0}, "`num_samples` must be at least 1"),
        ({"precision": "int8"}, "unless the format is litert"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(UsageError, match=words):
        ExportConfig(**settings)


def test_what_no_server_reads_is_no_version(tmp_path):
    for name in ("7", str(2**63), "9" * 200):
        (tmp_path / name).mkdir()
    assert version_folders.free_version(tmp_path, None) == 8
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(UsageError, match="`--version` must be given where .* has the last one"):
        version_folders.free_version(tmp_path, None)


def test_what_starts_the_server_is_written_once(exported, tmp_path):
    from tensorflow_serving.config import model_server_config_pb2

    base = exported.parent
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((base / "models.config").read_text(), config)
    (served,) = config.model_config_list.config
    assert (served.name, served.base_path) == ("proseg", "/models/proseg")
    assert "pad_variable_length_inputs: false" in (base / "batching_parameters.txt").read_text()
    compose = (base / "compose.yaml").read_text()
    assert "/models/proseg/models.config" in compose
    assert '\n  "proseg":\n' in compose  # a bare 2 or yes would be no name in YAML
    assert "{" not in compose.replace("${TF_SERVING_TAG:-latest}", "")
    (tmp_path / "models.config").write_text("mine")
    write_serving_files(tmp_path)
    assert (tmp_path / "models.config").read_text() == "mine"


def test_every_signature_is_warmed_up(served, exported):
    assert set(warmup.requests((8, 8, 1), ["ann"])) == set(served)
    assert (exported / warmup.WARMUP).is_file()


def test_settings_of_an_export_are_known_ones(tiny_run, tmp_path):
    with pytest.raises(UsageError, match="`format` must be left out: `export_run` writes others"):
        export_saved_model(tiny_run.path, tmp_path / "out", format="onnx")
    with pytest.raises(UsageError, match="fields of `ExportConfig`. Received: heigth"):
        export_saved_model(tiny_run.path, tmp_path / "out", heigth=3)
    with pytest.raises(UsageError, match="`num_samples` must be left out of onnx.* Received: 4"):
        ExportConfig(format="onnx", num_samples=4)
    assert not (tmp_path / "out").exists()


def test_a_server_is_of_this_machine_only_and_merges_calls(tmp_path):
    (tmp_path / "proseg").mkdir()
    write_serving_files(tmp_path / "proseg")
    text = (tmp_path / "proseg" / "compose.yaml").read_text()
    assert '- "127.0.0.1:8500:8500"\n      - "127.0.0.1:8501:8501"' in text
    assert "--enable_batching=true" in text
