"""Run directories: what is none, what was changed, and what a refusal leaves."""

import shutil
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_proseg_cli.start import backend_of
from test_cli import run
from tiny_data import TINY, tiny_arrays

from keras_proseg import ProSegError, UsageError, load, load_dataset, memory
from keras_proseg.evaluation import evaluate_run
from keras_proseg.names import source_name
from keras_proseg.runs import Run
from keras_proseg.text_files import read_json, write_json
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
        (["step,loss,val_ged,val_dice_rater,seconds,cpu_seconds", "inf,1,1,1,1,1"], "infinity"),
        (["step,loss", "8,x"], "could not convert string to float: 'x'"),
        (["step,loss", "8,1,2"], "float"),
        (["step,loss", "8," + "1" * 200_000], "field larger than field limit"),
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


@pytest.mark.parametrize("names_it", [True, False])
def test_a_run_of_any_seed_knows_its_data(names_it, tiny_npz, tmp_path, monkeypatch):
    """Also one of when `seed` was the split's as well."""
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, *_: run)
    run = train(str(tiny_npz), tmp_path / "run", lambda line: None, seed=1, split_seed=1)
    if not names_it:
        config = run.config
        del config["train"]["split_seed"]
        write_json(run.config_file, config)
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

    text = "A step must fit in memory: lower `batch_size`.* Received: not enough memory"
    for name, error, words in (
        ("training.Session.finish", ProSegError, text),
        ("session.Session._fit", ProSegError, text),  # there is a plan by then
        ("training.intensities_of", MemoryError, None),
    ):
        with monkeypatch.context() as patch, pytest.raises(error, match=words):
            patch.setattr(f"keras_proseg.{name}", finish)
            train(str(tiny_npz), tmp_path / "run", lambda line: None, steps=1, **TINY)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
         True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes."), True),
        (np.exceptions.AxisError("axis 3"), False),
        (ProSegError("of our own"), False),
    ],
)  # fmt: skip
def test_what_backends_say_of_memory_is_one_line(error, is_one):
    with pytest.raises((type(error), ProSegError)) as caught, memory.steps_in_memory():
        raise error
    assert (caught.value is not error) == is_one
    assert not is_one or isinstance(caught.value, ProSegError)


def test_a_run_that_lost_a_file_is_not_begun_anew(tiny_run, tmp_path):
    for lost in ("history.csv", "last.keras"):
        path = shutil.copytree(tiny_run.path, tmp_path / lost)
        (path / lost).unlink()
        before = (path / "best.keras").read_bytes()
        with pytest.raises(ProSegError, match=f"must be a run with its {lost}.* Received: no"):
            resume(path)
        assert (path / "best.keras").read_bytes() == before


def test_a_history_that_ends_before_the_checkpoint_is_not_gone_on_with(tiny_run, tmp_path):
    path = shutil.copytree(tiny_run.path, tmp_path / "run")
    lines = (path / "history.csv").read_text().splitlines(keepends=True)
    before = (path / "best.keras").read_bytes()
    for kept in ([], lines[:1], lines[:-1]):
        (path / "history.csv").write_text("".join(kept))
        with pytest.raises(ProSegError, match=r"its history.csv, to step \d+. Received: none of"):
            resume(path)
        assert (path / "best.keras").read_bytes() == before


def test_a_model_of_another_kind_is_no_run_of_ours(tiny_run, tmp_path):
    path = shutil.copytree(tiny_run.path, tmp_path / "run")
    other = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    for name in ("best", "last"):
        other.save(path / f"{name}.keras")
    for use in (load, evaluate_run, resume, lambda path: load(path / "last.keras")):
        with pytest.raises(ProSegError, match="keras must be a ProSeg model. Received: Sequential"):
            use(path)
    (path / "best.keras").write_bytes(b"")
    with pytest.raises(ProSegError, match="must be a whole model. Received: a damaged file"):
        load(path)


def test_a_run_goes_on_with_the_backend_it_was_begun_on(tiny_run, tmp_path, monkeypatch):
    path = shutil.copytree(tiny_run.path, tmp_path / "run")
    config = read_json(path / "config.json")
    config["versions"]["backend"] = "jax"
    write_json(path / "config.json", config)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert backend_of(str(path)) == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert backend_of(str(path)) is None
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, *_: run)
    lines = []
    resume(path, log=lines.append)
    assert lines == ["NOTE: trained on jax so far, on tensorflow from here: the draws are others."]
    resume(tiny_run.path, log=lines.append)
    assert len(lines) == 1


def test_a_folder_of_dicom_files_is_found_from_any_other(tiny_npz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, *_: run)
    dataset = load_dataset(str(tiny_npz))
    monkeypatch.setattr("keras_proseg.training._dataset", lambda *_: dataset)
    run = train("lidc", "run", lambda line: None, dicom="scans", steps=1, **TINY)
    assert run.config["train"]["dicom"] == str(tmp_path / "scans")


def test_the_command_resumes_on_the_backend_that_the_run_was_begun_on(
    tiny_run, tmp_path, monkeypatch
):
    path = shutil.copytree(tiny_run.path, tmp_path / "run")
    config = read_json(path / "config.json")
    config["versions"]["backend"] = "jax"
    write_json(path / "config.json", config)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    done = run("train", "--resume", path)
    assert done.exit_code == 2
    refused = "before Keras starts tensorflow. Received: jax", "Backend jax must be installed"
    assert any(words in done.output for words in refused)


def test_data_named_from_here_are_found_from_any_other_folder(tiny_npz, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_proseg.training._trained", lambda run, *_: run)
    monkeypatch.chdir(tiny_npz.parent)
    made = train(tiny_npz.name, tmp_path / "run", lambda line: None, steps=1)
    assert made.source == str(tiny_npz.resolve())


def test_a_run_has_a_dated_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras_proseg.runs.time.strftime", lambda _: "20260102-030405")
    made = Run.create(None, "/data/scans.v2.npz")
    assert str(made.path) == "runs/20260102-030405-scans.v2"
    assert Run.create(None, ".").path.name == f"20260102-030405-{tmp_path.stem}"
    (tmp_path / "link.npz").symlink_to(tmp_path / "0123456789abcdef")
    assert (source_name("."), source_name("link.npz")) == (tmp_path.name, "link.npz")
    with pytest.raises(ValueError, match="expected a writable place. Received: File exists"):
        Run.create(None, "/data/scans.v2.npz")
