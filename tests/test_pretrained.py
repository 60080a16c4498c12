import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from keras_proseg_cli.main import main

from keras_proseg import ProSeg, ProSegError, UsageError, load, pretrained


@pytest.fixture
def shipped(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "shipped")
    return pretrained.ship(tiny_run.path, tmp_path / "shipped" / "discs")


def test_shipped_weights_are_the_best_ones_in_half_precision(shipped, tiny_run, tiny_model):
    model = ProSeg.from_pretrained("discs")
    for ours, whole in zip(model.weights, tiny_model.weights, strict=True):
        whole = np.asarray(whole)
        if whole.dtype == np.float32:
            whole = whole.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(ours, whole)
    size = (shipped / "best.keras").stat().st_size
    assert size < (tiny_run.path / "best.keras").stat().st_size / 2


def test_nothing_of_the_training_machine_is_shipped(shipped, tiny_npz):
    for name in ("config.json", "metrics.json"):
        assert str(tiny_npz.parent) not in (shipped / name).read_text()
    data = json.loads((shipped / "config.json").read_text())["data"]
    assert data["source"] is None
    assert data["notes"] == {}
    assert (shipped / "split.csv").read_text().startswith("split,image_digest,patient_digest")


def test_a_shipped_model_knows_its_structures(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["train"]["dicom"] = "/home/x/scans"
    config["data"]["notes"] = {"structures": ["cup", "disc"], "findings": [["/home/x", "", ""]]}
    (run / "config.json").write_text(json.dumps(config))
    made = pretrained.ship(run, tmp_path / "made")
    text = (made / "config.json").read_text()
    assert json.loads(text)["data"]["notes"] == {"structures": ["cup", "disc"]}
    assert "/home/x" not in text


@pytest.mark.filterwarnings("default:.*learnt from")
def test_a_name_stands_where_a_run_is_asked(shipped, tiny_npz, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((32, 32, 1), "float32"))
    arguments = ["sample", "discs", tmp_path / "image.npy", "--out", tmp_path / "out"]
    done = CliRunner().invoke(main, [*map(str, arguments), "--num-samples", "2"])
    assert done.exit_code == 0, done.output
    arguments = ["evaluate", "discs", "--num-samples", "2"]
    done = CliRunner().invoke(main, [*arguments, "--data", str(tiny_npz)])
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("Warning: Of the 24 cases")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "give the data" in done.stderr


def test_a_saved_file_is_loaded_in_a_fresh_process(tiny_run, tmp_path):
    file = shutil.copyfile(tiny_run.path / "best.keras", tmp_path / "mine.keras")
    code = f"import keras_proseg; print(keras_proseg.load({str(file)!r}).raters)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['ann', 'bob', 'cy']"
    file.write_bytes(b"no model")
    with pytest.raises(ProSegError, match="mine.keras must be a whole model"):
        load(file)


def test_a_loaded_model_goes_on_at_the_rates_of_its_training(tiny_run, shipped):
    config = tiny_run.train_config()
    last = {o.name: float(o.learning_rate) for o in tiny_run.load_model().optimizer.optimizers}
    rates = {o.name: float(o.learning_rate) for o in load(tiny_run.path).optimizer.optimizers}
    assert max(last.values()) < config.learning_rate / 10
    assert rates.pop("preference_adam") == pytest.approx(config.preference_learning_rate)
    assert set(rates) == {"kernel_muon", "network_adam"}
    assert list(rates.values()) == pytest.approx([config.learning_rate] * 2)
    assert not load("discs").compiled


def test_a_folder_goes_before_a_name(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "discs").mkdir()
    with pytest.raises(ProSegError, match="run directory"):
        load("discs")


def test_bad_names_and_folders(shipped, tiny_run):
    with pytest.raises(UsageError, match=r"discs\. Received: lungs"):
        ProSeg.from_pretrained("lungs")
    with pytest.raises(UsageError, match="new folder"):
        pretrained.ship(tiny_run.path, shipped)


def test_files_that_hold_no_model_are_told(tiny_model, tmp_path):
    with pytest.raises(ProSegError, match=r"an existing .keras file. Received: none there"):
        load(tmp_path / "gone.keras")
    tiny_model.save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(ProSegError, match=r"Received: weights alone, for `model.load_weights`"):
        load(tmp_path / "own.weights.h5")
