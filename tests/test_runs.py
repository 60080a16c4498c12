"""Run directories: what is none, what was changed, and what a refusal leaves."""

import shutil
from functools import partial

import numpy as np
import pytest
from tiny_data import TINY, tiny_arrays

from keras_proseg import ProSegError, UsageError, load
from keras_proseg.evaluation import evaluate_run
from keras_proseg.runs import Run
from keras_proseg.training import resume, train


def test_directories_that_are_no_runs(tmp_path, tiny_run):
    with pytest.raises(ProSegError, match="run directory"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"package": "other"}')
    with pytest.raises(ProSegError, match="of keras_proseg"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"package": "keras_proseg"}')
    with pytest.raises(ProSegError, match="no such file"):
        load(tmp_path)
    with pytest.raises(ProSegError, match="must hold train as names and values. Received: None"):
        Run.open(tmp_path).train_config()
    (tmp_path / "config.json").write_text('{"package": "keras_proseg", "train": {"speed": 1}}')
    with pytest.raises(ProSegError, match=r"settings of a run. Received: .*speed"):
        Run.open(tmp_path).train_config()
    (tmp_path / "config.json").write_text('{"package": "keras_proseg", "model": {"speed": 1}}')
    with pytest.raises(ProSegError, match=r"settings of a run. Received: .*speed"):
        Run.open(tmp_path).model_config()
    (tmp_path / "config.json").write_text('{"package": "keras_proseg", "train": {}}')
    with pytest.raises(ProSegError, match="must hold data as names and values"):
        resume(tmp_path)
    (tmp_path / "best.keras").write_bytes((tiny_run.path / "best.keras").read_bytes()[:5000])
    with pytest.raises(ProSegError, match="whole model"):
        load(tmp_path)
    with pytest.raises(UsageError, match="new or empty"):
        Run.create(tmp_path, "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(ProSegError, match="writable place"):
        Run.create(tmp_path / "file" / "run", "x")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["step,loss", "8,0.5"], "a row without cpu_seconds, loss, seconds, step, val_"),
        (["step,loss", "8"], "float"),
        (["step,loss", "8,x"], "could not convert string to float: 'x'"),
        (["step,loss", "8,1,2"], "float"),
    ],
)
def test_a_history_that_was_changed_is_one_line(lines, words, tiny_run, tmp_path):
    run = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    (run.path / "history.csv").write_text("\n".join(lines))
    with pytest.raises(ProSegError, match=f"history.csv must hold the numbers .*{words}"):
        resume(run.path)


def test_a_run_whose_data_have_changed_is_neither_resumed_nor_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, *_: run)
    path, arrays = tmp_path / "x.npz", tiny_arrays(9)
    np.savez(path, **arrays, patient_ids=np.arange(9))
    run = train(str(path), tmp_path / "run", lambda line: None)
    assert resume(run.path).path == run.path
    for changed in ({"split": ["val"] * 3 + ["train"] * 6}, tiny_arrays(9, seed=1)):
        np.savez(path, **arrays | {"patient_ids": np.arange(9)} | changed)
        for use in (resume, evaluate_run, partial(evaluate_run, split="all")):
            with pytest.raises(ProSegError, match=r"x.npz must be the data that .*changed data"):
                use(run.path)


def test_a_run_of_any_seed_knows_its_data(tiny_npz, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, *_: run)
    run = train(str(tiny_npz), tmp_path / "run", lambda line: None, seed=1)
    with pytest.raises(ProSegError, match=r"must hold best.keras"):  # not "changed data"
        evaluate_run(run.path)


@pytest.mark.parametrize("there", [False, True])
def test_a_refused_setting_leaves_no_run(there, tiny_npz, tmp_path):
    out = tmp_path / "run"
    if there:
        out.mkdir()
    with pytest.raises(UsageError, match="`ambiguity_stride` must be"):
        settings = TINY | {"ambiguity_stride": 3, "steps": 1}
        train(str(tiny_npz), out, lambda line: None, **settings)
    assert out.exists() == there
    assert not there or not list(out.iterdir())


def test_a_training_without_memory_for_a_step_leaves_no_run(tiny_npz, tmp_path, monkeypatch):
    def finish(*_):
        raise MemoryError

    for name in ("Session.finish", "intensities_of"):
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(f"keras_proseg.training.{name}", finish)
            train(str(tiny_npz), tmp_path / "run", lambda line: None, steps=1, **TINY)
        assert not (tmp_path / "run").exists()
