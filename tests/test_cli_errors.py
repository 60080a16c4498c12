"""What the door makes of errors, warnings and names that come from outside the library."""

import errno
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import source_files as files
from keras_proseg_cli.main import MOST_FINDINGS
from test_cli import run

from keras_proseg.data import sources

NO_TEXT = os.fsdecode(b"case\xff")  # a name that is no UTF-8


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "The data must fit in memory. Received: not enough memory"),
        (
            PermissionError(errno.EACCES, "Permission denied", "a.npz"),
            "Files must be readable and writable. Received: [Errno 13] Permission denied: 'a.npz'",
        ),
        (
            UnicodeEncodeError("utf-8", NO_TEXT, 4, 5, "surrogates not allowed"),
            r"Names must be whole UTF-8 to be stored. Received: 'case\udcff'",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(error, line, tmp_path, monkeypatch):
    def refuse(*_):
        raise error

    monkeypatch.setattr(sources, "read_dataset", refuse)
    done = run("data", "prepare", "a.npz", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert done.output.splitlines() == [f"Error: {line}"]


@pytest.mark.parametrize("more", [0, 3])
def test_of_many_findings_the_first_are_named_and_the_others_counted(more, tmp_path):
    image, masks = files.cases(1)["case0"]
    files.write_nifti(tmp_path, {"good": (image, {"ann": masks["ann"]})})
    for case in range(MOST_FINDINGS + more):
        files.save_nifti(tmp_path / f"{case:02d}" / "image.nii", image)
        files.save_nifti(tmp_path / f"{case:02d}" / "mask-ann.nii", masks["ann"] * 3)
    done = run("data", "prepare", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 1
    *named, last = done.output.splitlines()
    named += [] if more else [last]
    assert len(named) == MOST_FINDINGS
    assert all("values [0, 3] where 0/1 must be" in line for line in named)
    assert not more or last == "Error: 3 more; `keras-proseg data verify` names all."


@pytest.mark.filterwarnings("default")
def test_warnings_for_people_are_one_line_and_others_are_silent(tmp_path, arrays, monkeypatch):
    real = sources.read_dataset

    def read(*arguments):
        warnings.warn("told", stacklevel=1)
        warnings.warn("`shuffle=True` was passed", stacklevel=1)  # as Keras does, each time
        warnings.warn("for developers", RuntimeWarning, stacklevel=1)
        return real(*arguments)

    monkeypatch.setattr(sources, "read_dataset", read)
    np.savez(tmp_path / "a.npz", **arrays)
    done = run("data", "prepare", tmp_path / "a.npz", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == ["Warning: told"]
    assert (tmp_path / "out").is_file()


def test_names_that_are_no_text_are_printed_all_the_same(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays, patient_ids=np.arange(24).astype(str))
    done = run("data", "prepare", tmp_path / "a.npz", "--out", tmp_path / NO_TEXT)
    assert done.exit_code == 0, done.output
    assert "/case\\udcff  " in done.output
    assert (tmp_path / NO_TEXT).is_file()


def test_names_that_are_no_text_and_must_be_stored_are_refused(tmp_path):
    content = files.cases()
    content[NO_TEXT] = content.pop("case0")
    files.write_png(tmp_path / "in", content)
    done = run("train", "--data", tmp_path / "in", "--out", tmp_path / "out", "--steps", 1)
    assert done.exit_code == 1
    (error,) = done.output.splitlines()
    assert error.startswith("Error: ")
    assert "must be a name in UTF-8. Received: b'" in error
    assert not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_is_no_error(tiny_npz):
    command = [sys.executable, "-m", "keras_proseg_cli.main", "data", "verify", str(tiny_npz)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""


COLLECTING = """
import gc, os, signal
gc.callbacks.append(lambda phase, _: phase == "start" and os.kill(os.getpid(), signal.SIGNAL))
gc.collect()
print("went on", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_among_the_imports_ends_the_command(name, tmp_path):
    (tmp_path / "keras.py").write_text(COLLECTING.replace("SIGNAL", name))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "keras_proseg_cli.main", "evaluate", "lidc"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.Signals[name], "", "")
