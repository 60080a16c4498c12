import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from keras_proseg_cli.main import main
from keras_proseg_cli.report import print_run, print_table
from tiny_data import tiny_arrays

import keras_proseg
from keras_proseg.config import TrainConfig
from keras_proseg.runs import Run
from keras_proseg.text_files import read_json, with_nan, write_json


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_help_names_every_command_and_is_quick():
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "keras_proseg_cli.main", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert time.perf_counter() - begin < 5
    for command in ("train", "sample", "evaluate", "export"):
        assert command in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "keras_proseg" in imported
    assert not imported & {"numpy", "keras", "tensorflow", "rich"}


def test_flags_are_the_configuration():
    text = run("train", "--help").output
    for flag in ("--rater-order", "--minutes", "--no-augment", "--learning-rate", "--seed"):
        assert flag in text
    assert f"[default: {TrainConfig().batch_size}]" in text


def test_train_command(tiny_npz, tmp_path):
    done = run(
        "train", "--data", tiny_npz, "--out", tmp_path / "r", "--steps", 2, "--width", 4,
        "--batch-size", 4, "--num-samples", 2, "--val-cases", 2, "--mean-samples", 2,
        "--views", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Validation patients" in done.output
    assert "epochs" in done.output
    assert "samples.png" in done.output


@pytest.mark.parametrize(("steps", "told"), [(8, True), (10_000, False)])
def test_a_short_training_is_told_what_a_whole_one_is(tiny_run, tmp_path, capsys, steps, told):
    copy = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    summary = read_json(copy.path / "metrics.json")
    write_json(copy.path / "metrics.json", summary | {"steps": steps})
    print_run(copy)
    assert ("Train fully" in capsys.readouterr().out) == told


def test_evaluate_command(tiny_run):
    done = run("evaluate", tiny_run.path, "--num-samples", 3, "--split", "test")
    assert done.exit_code == 0, done.output
    assert "ged" in done.output


def test_export_command(tiny_run, tmp_path):
    done = run("export", tiny_run.path, "--out", tmp_path / "m", "--num-samples", 2)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "m" / "1" / "saved_model.pb").is_file()
    again = run("export", tiny_run.path, "--out", tmp_path / "m", "--version", 1)
    assert again.exit_code == 2


def test_sample_command(tiny_run, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((32, 32, 1), "float32"))
    done = run(
        "sample", tiny_run.path, tmp_path / "image.npy", "--out", tmp_path / "o", "--rater", "bob",
        "--num-samples", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert np.load(tmp_path / "o" / "masks.npy").shape == (1, 2, 32, 32, 1)


def test_options_of_sample_are_heeded(tiny_run, tiny_model, tmp_path):
    image = tiny_arrays(1)["images"][0]
    np.save(tmp_path / "image.npy", image)
    options = ("--rater", "1", "--num-samples", 3, "--seed", 5)
    done = run("sample", tiny_run.path, tmp_path / "image.npy", "--out", tmp_path / "o", *options)
    assert done.exit_code == 0, done.output
    found = np.load(tmp_path / "o" / "probabilities.npy")[0]
    np.testing.assert_allclose(found, tiny_model.sample(image, "bob", 3, 5), atol=1e-6)


def test_scores_are_printed_as_they_are_kept(tiny_run, tmp_path):
    done = run("evaluate", tiny_run.path, "--num-samples", 3, "--out", tmp_path / "scores")
    assert done.exit_code == 0, done.output
    kept = with_nan(read_json(tmp_path / "scores" / "metrics.json"))
    assert kept["num_samples"] == 3
    for name in ("ged", "dice_match", "fragments", "dice_rater/bob"):
        low, high = kept[f"{name}_ci"]
        line = next(line for line in done.output.splitlines() if f" {name} " in line)
        assert f"{kept[name]:.3f} " in line
        assert f" {low:.3f} to {high:.3f} " in line


def test_samples_have_a_folder_of_their_own_by_default(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("scan.v2.npy", np.zeros((32, 32, 1), "float32"))
    done = run("sample", tiny_run.path, "scan.v2.npy", "--num-samples", 2)
    assert done.exit_code == 0, done.output
    (out,) = Path("samples").iterdir()
    assert re.fullmatch(r"[0-9]{8}-[0-9]{6}-scan", out.name)
    assert str(out / "masks.npy") in done.output
    assert np.load(out / "masks.npy").shape == (1, 2, 32, 32, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train"], 2, "--data or --resume"),
        (["train", "--data", "lidc", "--resume", "x"], 2, "--data or --resume"),
        (["train", "--resume", "x", "--steps", "3"], 2, "own settings"),
        (["train", "--resume", "", "--steps", "3"], 2, "own settings"),
        (["train", "--resume", ""], 1, "run directory"),
        (["train", "--data", ""], 2, "Received: an empty name"),
        (["train", "--data", "{broken}", "--out", "{run}"], 2, "new or empty"),
        (["data", "verify", ""], 2, "Received: an empty name"),
        (["sample", "lidc", ""], 2, "IMAGE must be an existing file. Received: an empty name"),
        (["data", "prepare", "{broken}", "--out", "{data}"], 2, "or a prepared one to be replaced"),
        (["data", "audit", "{broken}", "--out", "{run}"], 2, "new or empty"),
        (["train", "--data", "lidc", "--zoom", "50"], 2, "`zoom` must be at most 1"),
        (["train", "--data", "none.npz"], 2, "existing .npz"),
        (["train", "--data", "x.mat"], 2, "lidc"),
        (["train", "--data", "lidc", "--steps", "-2"], 2, "at least 1"),
        (["train", "--data", "lidc", "--preset", "x"], 2, "published"),
        (["train", "--data", "{data}", "--out", "{run}"], 2, "new or empty"),
        (["train", "--resume", "{tmp}"], 1, "run directory"),
        (["evaluate", "{tmp}"], 1, "run directory"),
        (["evaluate", "{run}", "--data", "{broken}"], 1, "whole .npz"),
        (["sample", "{run}", "none.png", "--out", "{tmp}/o"], 2, "existing file"),
        (["sample", "{run}", "{data}", "--out", "{tmp}/o", "--rater", "zoe"], 2, "ann, bob, cy"),
        (["sample", "{run}", "{broken}", "--out", "{tmp}/o"], 1, "whole .npz"),
        (["sample", "{run}", "{data}", "--out", "{tmp}"], 2, "new or empty"),
        (["export", "{tmp}", "--out", "{tmp}/m"], 1, "run directory"),
        (["export", "{run}", "--out", "{tmp}/m", "--version", "0"], 2, "at least 1"),
        (["export", "{run}", "--out", "{tmp}/m", "--precision", "int8"], 2, "litert"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, code, words, tiny_run, tiny_npz, tmp_path):
    broken = tmp_path / "broken.npz"
    broken.write_bytes(tiny_npz.read_bytes()[:1000])
    places = {"tmp": tmp_path, "run": tiny_run.path, "data": tiny_npz, "broken": broken}
    done = run(*[a.format(**places) for a in arguments])
    assert done.exit_code == code, done.output
    assert words in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "o").exists()


def test_public_names_are_all_there():
    for name in keras_proseg.__all__:
        assert getattr(keras_proseg, name) is not None
    assert "train" in dir(keras_proseg)
    with pytest.raises(AttributeError):
        _ = keras_proseg.nothing


def test_names_of_raters_are_no_markup(capsys):
    names = ("[bold]", "bob [/2]")
    summary = {f"dice_rater/{name}": 0.5 for name in names}
    print_table(
        summary | {"num_cases": 1, "num_patients": 1, "num_samples": 2, "images": "given"}, ""
    )
    text = capsys.readouterr().out
    assert all(name in text for name in names)


@pytest.mark.parametrize("steps", [8, 10_000])
def test_a_training_tells_its_epochs(tiny_run, tmp_path, capsys, steps):
    copy = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    summary = read_json(copy.path / "metrics.json")
    write_json(copy.path / "metrics.json", summary | {"steps": steps})
    print_run(copy)
    assert f"Trained {steps} steps, {steps / 5:.1f} epochs." in capsys.readouterr().out


@pytest.mark.parametrize("images", ["phantom", "given"])
def test_scores_on_simulated_pixels_are_told_as_such(images, capsys):
    print_table({"num_cases": 1, "num_patients": 1, "num_samples": 2, "images": images}, "")
    assert ("Pixels are SIMULATED" in capsys.readouterr().out) == (images == "phantom")
